"""What runs say together: who is ahead, by how much, and what can be relied on."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import stats

from fewshot_automl.bench.results import Run
from fewshot_automl.errors import UserError
from fewshot_automl.tasks import metric_named

RESAMPLES: Final = 10_000
LEVEL: Final = 0.95
MEANS: Final = ["value", "log_loss", "log_loss_before", "held", "stated_error"]
MEANS_OF_COST: Final = ["seconds", "latency_ms", "members"]
DIGITS: Final = {"mean rank": 2, "latency_ms": 1, "members": 1} | dict.fromkeys(
    ("seconds", "latest_seconds", "runs", "failed"), 0
)
"""Of the rows of a table; 3 of others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """Runs of equal shots and budget."""

    shots: int
    budget: float
    reference: str
    runs: pd.DataFrame
    """A row a run, those of entrants that do not depend on the budget too: the fields
    of `Run`, and what `summarise` adds to them."""

    @property
    def title(self) -> str:
        """Return what they share."""
        return f"{self.shots} shots, {self.budget:g} s"

    def means(self, of: str = "value") -> pd.DataFrame:
        """Return means over draws: a row a task, a column an entrant."""
        groups = self.runs.groupby(["task", "entrant"], observed=True)[of]
        return groups.mean().unstack().rename_axis(index=None, columns=None)

    def ranks(self) -> tuple[dict[str, float], float, float]:
        """Return mean ranks, their critical difference, and Friedman's p-value.

        1 is best. An entrant that lacks a run of some task is not ranked.

        Source:
            Demsar, JMLR 7 (2006), eq. 1 and section 3.2.2 (Nemenyi's test).
        """
        ranks = self.means("gain").dropna(axis=1).rank(axis=1, ascending=False)
        n, k = ranks.shape
        q = stats.studentized_range.ppf(LEVEL, k, np.inf) if k > 1 else 0.0
        is_tested = k > 2 and n > 1
        p = stats.friedmanchisquare(*ranks.T.values).pvalue if is_tested else np.nan
        critical = q / np.sqrt(2) * np.sqrt(k * (k + 1) / (6 * n))
        means = {str(name): float(mean) for name, mean in ranks.mean().items()}
        return means, float(critical), float(p)

    def differences(self) -> dict[str, dict[str, Any]]:
        """Return by how much the reference is ahead of others on the same draws.

        Of each entrant that shares draws with it: the `mean`, `low` and `high` (ends of
        the 95 % interval, from resampling the pairs), the number of `pairs`, `worst`
        (the mean on the task where the reference does worst) and that `worst_task`.
        """
        wide = self.runs.pivot(index=["task", "draw"], columns="entrant", values="gain")
        found = {}
        for name in wide.columns.drop(self.reference):
            gaps = (wide[self.reference] - wide[name]).dropna()
            if gaps.empty:
                continue
            rng, tasks = np.random.default_rng(0), gaps.groupby("task", observed=True)
            drawn = rng.choice(gaps, (RESAMPLES, len(gaps))).mean(axis=1)
            low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
            found[name] = {
                "mean": float(gaps.mean()),
                **{"low": float(low), "high": float(high), "pairs": len(gaps)},
                "worst": float(tasks.mean().min()),
                "worst_task": tasks.mean().idxmin(),
            }
        return found

    def facts(self) -> pd.DataFrame:
        """Return a row an entrant: means over runs, what its statements were worth."""
        groups = self.runs.groupby("entrant", observed=True)
        facts = groups[MEANS + MEANS_OF_COST].mean().rename_axis(index=None)
        facts["latest_seconds"] = groups["finish_seconds"].max()
        facts["runs"] = groups["value"].count()
        facts["failed"] = groups.size() - facts["runs"]
        return facts

    def figures(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        ranks, critical, p = self.ranks()
        return {
            "critical_difference": critical,
            "friedman_p": p,
            "ranks": ranks,
            "differences": self.differences(),
            "entrants": self.facts().to_dict("index"),
            "tasks": self.means().to_dict(),
        }

    def table(self) -> str:
        """Return the tables that people read."""
        ranks, critical, p = self.ranks()
        facts = self.facts()
        facts.insert(1, "mean rank", pd.Series(ranks, dtype=float))
        rows = pd.concat([self.means(), facts.rename(columns={"value": "mean"}).T])
        words = [
            [f"{x:.{DIGITS.get(name, 3)}f}".replace("nan", "-") for x in row]
            for name, row in zip(rows.index, rows.to_numpy(), strict=True)
        ]
        gaps = [
            f"{self.reference} - {name}: {gap['mean']:+.3f} [{gap['low']:+.3f}, "
            f"{gap['high']:+.3f}], {gap['pairs']} pairs, worst task "
            f"{gap['worst_task']} {gap['worst']:+.3f}\n"
            for name, gap in self.differences().items()
        ]
        return (
            f"{self.title}: means over draws\n"
            f"{pd.DataFrame(words, rows.index, rows.columns).to_string()}\n"
            f"Ranks that differ by less than {critical:.2f} are level (Nemenyi, 5 %; "
            f"Friedman p = {p:.2g}, {len(self.means())} tasks).\n{''.join(gaps)}"
        )


def summarise(runs: Sequence[Run], reference: str) -> list[Summary]:
    """Return a summary for each number of shots and each budget among runs.

    Raises:
        UserError: If the reference is not among the entrants.
    """
    names = list(dict.fromkeys(run.entrant for run in runs))
    if reference not in names:
        raise UserError(
            f"reference must be one of {', '.join(names)}, got {reference!r}."
        )
    frame = pd.DataFrame([asdict(run) for run in runs])
    for name in ("entrant", "task"):  # keeps their order
        frame[name] = pd.Categorical(frame[name], frame[name].unique())
    told = ["budget", "value", "expected", "low", "high", "fit_seconds", *MEANS[:3]]
    frame = frame.astype(dict.fromkeys({*told, *MEANS_OF_COST}, float))
    frame.loc[frame["value"].isna(), "seconds"] = np.nan
    frame["finish_seconds"] = frame["fit_seconds"].fillna(frame["seconds"])
    signs = [metric_named(metric).orient(1.0) for metric in frame["metric"]]
    frame["gain"] = frame["value"] * signs  # greater is better
    is_held = frame["value"].between(frame["low"], frame["high"]).astype(float)
    frame["held"] = is_held.where(frame[["value", "low", "high"]].notna().all(axis=1))
    frame["stated_error"] = frame["expected"] - frame["value"]
    return [
        Summary(
            shots=int(shots),
            budget=float(budget),
            reference=reference,
            runs=frame[
                (frame["shots"] == shots) & ~(abs(frame["budget"] - budget) > 0)
            ],
        )
        for shots in sorted(frame["shots"].unique())
        for budget in sorted(frame["budget"].dropna().unique()) or [0.0]
    ]

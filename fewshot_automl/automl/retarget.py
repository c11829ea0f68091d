"""Another goal for a finished study: a new choice among what it has tried."""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from fewshot_automl.automl.finished import Finished
from fewshot_automl.automl.fit import fit, sources_of
from fewshot_automl.automl.record import settings_of
from fewshot_automl.automl.result import Listener, Result
from fewshot_automl.automl.scoring import decided_by
from fewshot_automl.automl.settings import options, plain
from fewshot_automl.data import Source
from fewshot_automl.errors import UserError
from fewshot_automl.evaluation.intervals import REACH
from fewshot_automl.evaluation.measures import MEASURES
from fewshot_automl.evaluation.resampling import bootstrap_weights, is_predicted, scorer
from fewshot_automl.ledger import read_outputs
from fewshot_automl.report.words import summary_of
from fewshot_automl.space import Config
from fewshot_automl.study import parse_budget
from fewshot_automl.tasks import Task
from fewshot_automl.tasks.costs import place_of

DRAWS: Final = 1000
"""Bootstrap draws of the examples, for the interval of a difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How the model of the new goal differs in one number from the one before."""

    name: str
    """Of a metric or a measure."""
    before: float
    after: float
    low: float | None = None
    """Ends of the 95 % interval of the difference, of metrics."""
    high: float | None = None
    is_maximised: bool = False
    """Whether more is better."""

    @property
    def verdict(self) -> str:
        """Return in words what the change is worth."""
        if self.before == self.after:
            return "the same"
        if (
            self.low is not None
            and self.high is not None
            and self.low <= 0 <= self.high
        ):
            return "unclear"
        return "better" if (self.after > self.before) == self.is_maximised else "worse"

    def to_json(self) -> dict[str, Any]:
        """Return the fields and the verdict."""
        return {**asdict(self), "verdict": self.verdict}


def retarget(
    folder: Path | str,
    *,
    out: Path | str | None = None,
    search: str | float | None = None,
    data: Source | None = None,
    labels: object = None,
    test: Source | None = None,
    progress: bool | None = None,
    listener: Listener | None = None,
    started: float | None = None,
    **goal: Any,
) -> tuple[Result, list[Change]]:
    """Choose, weigh, calibrate and decide for another goal; train no trial again.

    All trials are scored by the new goal on their stored out-of-fold predictions. Only
    members that are new to the model are fitted. The study in `folder` stays as it is;
    the new one begins with its trials and can be resumed.

    Args:
        folder: The `out` folder of a fit; of an updated one, its current version is
            meant.
        out: Folder for the new study; if None, one beside the old.
        search: Time to search on for the new goal first, as ``"5min"``; none if None.
        data: The same data again, if they were in memory or have moved.
        labels: The same labels again, if they were given beside the data.
        test: The same test data again, likewise.
        progress: Whether to show what happens; see `fit`.
        listener: Hears what happens, in place of `progress`.
        started: `time.monotonic()` from which the time counts; now if None.
        **goal: Fields of `Settings` that say what is wanted, as `metric`, `limits`,
            `cost`, `abstain_cost`, `coverage`, `deploy_prevalence` and `members`.
            What is not named stays as it was.

    Returns:
        The new model's result, and what the change of the goal changes.

    Raises:
        UserError: If there is no finished study, or a wish cannot be meant.
    """
    began, folder = time.monotonic() if started is None else started, Path(folder)
    old, known = Finished.of(folder), options("goal")
    if odd := sorted(goal.keys() - known.keys()):
        raise UserError(
            f"A goal must be among {', '.join(known)}, got {', '.join(odd)}."
        )
    # In a shared storage, too, it is a study of its own.
    wanted = {"study": None, **{n: v for n, v in goal.items() if v is not None}}
    for one, other in (("coverage", "abstain_cost"), ("abstain_cost", "coverage")):
        if one in wanted:  # it takes the place of the old study's
            wanted.setdefault(other, None)
    if {"cost", "abstain_cost", "deploy_prevalence"} & wanted.keys():
        wanted.setdefault("metric", None)  # the mean cost takes its place
    more = parse_budget(search) if isinstance(search, str) else search
    if more is not None:
        wanted["budget_seconds"] = more + (old.settings.budget_seconds or 0.0)
        wanted["trials"] = None
    source, tests = sources_of(old.folder, old.record, data, test)
    result = fit(
        source,
        labels=labels,
        test=tests,
        out=free_beside(folder) if out is None else out,
        settings=replace(old.settings, **plain(wanted)),
        progress=progress,
        listener=listener,
        started=began,
        follows=old.folder,
        searches=more is not None,
    )
    return result, changes(old, result)


def changes(study: Finished, result: Result) -> list[Change]:
    """Return what is gained and lost against the model of an earlier study.

    Metrics are those of the new goal, by out-of-fold predictions of the examples that
    both models predicted.
    """
    old, new = study.summary, result.summary
    rules, targets = result.task.rules, np.array(new["labels"])
    now = read_outputs(result.folder / new["predictions"]).astype(np.float64)
    stacks = [study.predictions, now]
    both = np.all([is_predicted(x).any(axis=0) for x in stacks], axis=0)
    stacks = [np.where(both[:, None], x, np.nan) for x in stacks]
    tasks = study.task, Task.from_json(new["task"])
    pairs = list(zip(tasks, stacks, strict=True))
    forced = [decided_by(task, x, must_answer=True) for task, x in pairs]
    decided = [decided_by(task, x, must_answer=False) for task, x in pairs]
    weights = bootstrap_weights(len(targets), DRAWS, np.random.default_rng(0))
    found = []
    for name in dict.fromkeys((result.task.metric, *rules.reported)):
        metric = rules.metric(name)
        outputs = forced if metric.needs == "decisions" else stacks
        if name == "cost":  # it depends on who decided, and by which rule
            outputs = decided if result.task.costs else forced
        of = scorer(metric, targets, outputs)
        before, after = of(np.ones((1, len(targets))))[0]
        gaps = np.diff(of(weights))[:, 0]
        ends = np.nanquantile(metric.orient(1.0) * gaps, [0.025, 0.975]) + 0.0
        found.append(
            Change(
                name=name,
                before=metric.orient(float(before)),
                after=metric.orient(float(after)),
                low=float(ends[0]),
                high=float(ends[1]),
                is_maximised=metric.orient(1.0) > 0,
            )
        )
    for name in settings_of(result.folder).min_recall:
        place = place_of(name, result.task.names)
        rows = both & (targets == place)
        if not rows.any():
            continue
        one, other = (np.nanmean(x[:, rows, place], axis=0) for x in decided)
        gaps = other - one
        reach = REACH * gaps.std() / len(gaps) ** 0.5
        found.append(
            Change(
                name=f"recall of {name}",
                before=float(one.mean()),
                after=float(other.mean()),
                low=float(gaps.mean() - reach),
                high=float(gaps.mean() + reach),
                is_maximised=True,
            )
        )
    costs = [name for name, row in MEASURES.items() if row.adds_up]
    there = [n for n in costs if n in old["measures"] and n in new["measures"]]
    sides = [(n, old["measures"][n], new["measures"][n]) for n in there]
    return found + [Change(name=n, before=a, after=b) for n, a, b in sides]


def in_words(before: Sequence[Mapping[str, Any]], result: Result) -> str:
    """Return which members are new to the model, and which it has lost."""
    old, new = (
        {Config.from_json(row["config"]): row["weight"] for row in rows}
        for rows in (before, result.summary["members"])
    )
    gone, come = ([c for c in a if c not in b] for a, b in ((old, new), (new, old)))
    if not gone and not come:
        return "The model has the same members as before."
    told = [("left out", gone), ("new", come)]
    listed = [
        f"{', '.join(map(summary_of, some))} {word}" for word, some in told if some
    ]
    return f"The model has other members: {'; '.join(listed)}."


def free_beside(folder: Path) -> Path:
    """Return a folder for another study, named after this one and not there yet."""
    name = f"{folder.resolve().name}-retargeted"
    endings = itertools.chain([""], (f"-{n}" for n in itertools.count(2)))
    places = (folder.resolve().with_name(name + end) for end in endings)
    return next(place for place in places if not place.exists())

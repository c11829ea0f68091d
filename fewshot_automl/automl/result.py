"""What a fit tells while it runs, and what it gives back."""

from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, runtime_checkable

from fewshot_automl.finding import counted
from fewshot_automl.modalities import Input
from fewshot_automl.outcome import History
from fewshot_automl.space import Config
from fewshot_automl.study import Event
from fewshot_automl.tasks import Task

if TYPE_CHECKING:
    import pandas as pd

    from fewshot_automl.predictor import Predictor

RESULT_FILE: Final = "result.json"
VERSIONS_FILE: Final = "versions.json"
"""Of the versions of an updated study, in its folder."""


@runtime_checkable
class Listener(Protocol):
    """Hears, in order, all that happens during a fit; the CLI draws it."""

    def say(self, sentence: str) -> None:
        """Take a sentence for the user: an inference, a finding, a stage."""
        return

    def trial(self, event: Event) -> None:
        """Take the start or the end of a trial."""
        return


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """An estimate of the metric on new data, in the metric's own direction."""

    metric: str
    """Name of the metric."""
    expected: float
    """The best guess: `corrected`, and what training on all examples adds."""
    raw: float
    """Cross-validated score of the model: too good, for it was picked by it."""
    corrected: float
    """The same, corrected for having picked the best of many: too low, for each fold
    trained on fewer examples than the model."""
    low: float
    """Lower end of the 95 % interval for the score on new data."""
    high: float
    """Upper end of it."""
    examples: int
    """Labelled examples that all members of the model were scored on."""
    majority: float | None
    """Score there of the best constant answer; None if the metric has none for it."""
    against_majority: Literal["better", "unclear", "not better"]
    """Whether the whole interval is better than that, the best guess, or neither."""

    @property
    def caution(self) -> str:
        """Return why the model is not to be relied on, and what to do; or nothing."""
        if self.against_majority == "better":
            return ""
        same = f"always giving the same answer, which scores {self.majority:.3f}"
        said = f"It cannot be told whether the model is better than {same}."
        if self.against_majority == "not better":
            said = f"The model is no better than {same}."
        return f"{said} Label more examples, or search on with a larger budget."

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        """Return the score with its interval."""
        return (
            f"{self.metric.replace('_', ' ')} {self.expected:.3f} "
            f"(95 % interval {self.low:.3f} to {self.high:.3f})"
        )


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Result:
    """A finished study: the model, an honest score, and all that was tried."""

    folder: Path
    """Holds `model/`, `result.json`, `report.html`, the ledger and predictions."""
    task: Task
    """What was learnt."""
    score: Score
    """The metric to expect on new data, with its interval."""
    config: Config
    """The winner; of several models averaged, the one of greatest weight."""
    history: History
    """Every trial."""
    inputs: tuple[Input, ...] = field(repr=False)
    """The labelled examples, some of which the report shows."""
    summary: dict[str, Any]
    """What `result.json` holds."""
    loaded: "Predictor | None" = field(default=None, repr=False)
    """The model, where it is in memory already."""

    @property
    def predictor(self) -> "Predictor":
        """Return the model, fitted to all labelled examples, as read from `model/`.

        It is the winner, or its average with others (see `members` in `summary`).
        """
        if self.loaded is None:  # importing and loading networks takes seconds
            from fewshot_automl.predictor import Predictor

            object.__setattr__(self, "loaded", Predictor.load(self.folder))
        assert self.loaded is not None
        return self.loaded

    @property
    def is_feasible(self) -> bool:
        """Return whether the model keeps every limit that was asked for."""
        return bool(self.summary["is_feasible"])

    @property
    def measures(self) -> dict[str, float]:
        """Return the model's parameters, flops, latency_ms, memory_mb, worst_recall."""
        return dict(self.summary["measures"])

    @property
    def front(self) -> list[dict[str, Any]]:
        """Return the trials of the Pareto front, the best score first.

        Each has its number, Config, score (greater is better) and measures. Without
        a second objective and without limits there is no front.
        """
        return list(self.summary["front"])

    @property
    def test_scores(self) -> dict[str, float] | None:
        """Return the metric, others of its kind and n on the test data, if given."""
        scores: dict[str, float] | None = self.summary["test"]
        return scores

    def trials(self) -> "pd.DataFrame":
        """Return one row a trial: number, status, score, cost and its Config."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "number": number,
                    "status": outcome.status,
                    "mean": outcome.mean,
                    "standard_error": outcome.standard_error,
                    "folds": len(outcome.scores),
                    "cost_seconds": outcome.cost_seconds,
                    "reason": outcome.reason,
                    **config.to_json(),
                }
                for number, (config, outcome) in enumerate(self.history)
            ]
        )

    def report(self) -> Path:
        """Write the HTML report again and return where it is."""
        from fewshot_automl.report.write import write_report

        return write_report(self.folder, self.summary, list(self.history), self.inputs)

    def _words(self) -> list[tuple[str, str]]:
        from fewshot_automl.report.words import clipped, committee, summary_of

        task, test, summary = self.task, self.test_scores, self.summary
        learnt = counted(len(summary["labels"]), f"labelled {task.modality}")
        if task.names:
            learnt += f" of {task.width} classes: {clipped(', '.join(task.names), 80)}"
        others = len(summary["members"]) - 1
        more = f", averaged with {counted(others, 'other')}" if others else ""
        rows = [
            ("Expect on new data", str(self.score)),
            ("On your test data", f"{test[task.metric]:.3f}" if test else ""),
            ("Caution", self.score.caution),
            ("Limits", "" if self.is_feasible else "The model breaks a limit."),
            ("Learnt from", learnt),
            *(("Noticed", line) for line in summary["findings"]),
            ("Model", f"{summary_of(self.config)}{more}"),
            ("Averaged", committee(summary)),
            ("Everything is in", str(self.folder)),
        ]
        return [(name, words) for name, words in rows if words]

    def __repr__(self) -> str:
        """Return the answer in a few lines."""
        return "\n".join(f"{name:<20}{words}" for name, words in self._words())

    def _repr_html_(self) -> str:
        rows = "".join(
            f'<tr style="text-align: left"><th>{name}</th><td>{escape(words)}</td></tr>'
            for name, words in self._words()
        )
        return f"<table>{rows}</table>"

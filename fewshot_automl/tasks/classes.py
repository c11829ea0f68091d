"""Classes: one name out of several for each example.

Targets are class indices in the order of the names; -1 marks an example that nobody
has labelled. Outputs are class probabilities.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from fewshot_automl.cells import Column, label_text, natural_order, number, said, tidied
from fewshot_automl.errors import DataError, TaskError
from fewshot_automl.finding import Finding, counted
from fewshot_automl.outcome import REFINEMENT
from fewshot_automl.tasks.calibration import (
    LEAST,
    apply_temperature,
    fit_temperature,
    refinement_loss,
)
from fewshot_automl.tasks.class_metrics import CLASS_METRICS, cost_metric
from fewshot_automl.tasks.costs import NO_ANSWER, Costs
from fewshot_automl.tasks.kind import Metric, TaskKind

UNLABELLED: Final = -1
"""The class index of an example that nobody has labelled."""
TIDY: Final = "--tidy-labels (in Python, Settings(tidy_labels=True))"
AS_CLASSES: Final = "--task classes (in Python, Settings(target_kind='classes'))"
LOPSIDED: Final = 10.0
"""The largest class over the smallest, from which on accuracy misleads."""

Labels = Int[np.ndarray, " examples"]
Proba = Float[np.ndarray, "examples classes"]


@dataclass(frozen=True, slots=True)
class Classes(TaskKind):
    """Tells classes apart; see `TaskKind`."""

    name: ClassVar[str] = "classes"
    metrics: ClassVar[Mapping[str, Metric]] = CLASS_METRICS
    default_metric: ClassVar[str] = "accuracy"
    reported = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")
    takes_costs = True

    def __post_init__(self) -> None:
        """Check that there are at least two classes of different names."""
        if len(set(self.names)) != len(self.names):
            raise TaskError(f"Class names must be distinct, got {self.names!r}.")
        if len(self.names) < 2:
            raise TaskError(
                "A classification target must have at least 2 classes, got "
                f"{len(self.names)}. Add examples of another class."
            )

    @staticmethod
    def claims(column: Column) -> bool:
        """Say yes: whatever else it could be, a column names classes."""
        return True

    @staticmethod
    def read(
        column: Column, names: Sequence[str] | None, *, is_sure: bool
    ) -> tuple[Labels, tuple[str, ...]]:
        """Return class indices and class names: as asked, as declared or sorted."""
        for cell, origin in zip(column.cells, column.origins, strict=True):
            if isinstance(cell, (list, tuple, set, dict, np.ndarray)):
                raise TaskError(_one_class_a_row(cell, origin))
        labels = [label_text(cell) for cell in column.cells]
        if not is_sure and names is None:
            _refuse_several(labels, column.origins)
            _refuse_numbers(labels, column.name)
        chosen = _choose(labels, column, names)
        place = {name: index for index, name in enumerate(chosen)}
        indices = [UNLABELLED if name is None else place[name] for name in labels]
        return np.array(indices, dtype=np.int64), chosen

    @property
    def width(self) -> int:
        """Return the number of classes: one probability each."""
        return len(self.names)

    def no_targets(self, examples: int) -> Labels:
        """Return the labels of examples without one."""
        return np.full(examples, UNLABELLED, dtype=np.int64)

    def is_labelled(self, targets: Labels) -> Bool[np.ndarray, " examples"]:
        """Return which examples have a class."""
        return np.asarray(targets != UNLABELLED)

    def describe(self, targets: Labels) -> str:
        """Return how many classes and labels there are."""
        known = int(self.is_labelled(targets).sum())
        listed = ", ".join(map(repr, self.names[:10])) + ", ..." * (self.width > 10)
        said = f"Target: {self.width} classes ({listed}); {known:,} labelled"
        rest = len(targets) - known
        return f"{said}, {rest:,} unlabelled." if rest else f"{said}."

    def say(self, target: Any) -> str:
        """Return the name of a class."""
        return self.names[int(target)]

    def findings(self, targets: Labels, origins: Sequence[str]) -> list[Finding]:
        """Return what is odd about how many examples each class has."""
        labels = targets[self.is_labelled(targets)]
        counts = self._counts(labels)
        present = sum(count > 0 for count in counts)
        if present >= 10 and present > len(labels) / 2:
            message = (
                f"Target must name classes that repeat, got {present:,} different "
                f"values in {len(labels):,} labelled examples: it looks like an id or "
                "free text. Choose another target column."
            )
            kind = "target like an id"
            return [Finding(kind=kind, severity="fatal", message=message)]
        found = []
        if rare := [i for i, count in enumerate(counts) if count < 2]:
            listed = ", ".join(f"{self.names[i]!r} ({counts[i]})" for i in rare[:10])
            listed += f" and {len(rare) - 10} more" if len(rare) > 10 else ""
            message = (
                "Each class must have at least 2 usable labelled examples, one to "
                f"learn from and one to be tested on; too few in {listed}. Add "
                "examples, or remove or merge the class."
            )
            rows = np.flatnonzero(np.isin(targets, rare)).tolist()
            places = [origins[row] for row in rows]
            found.append(Finding.at("too few examples", "fatal", message, places))
        least, most = int(np.argmin(counts)), int(np.argmax(counts))
        if counts[most] >= LOPSIDED * max(counts[least], 1):
            message = (
                f"Classes are uneven: {self.names[most]!r} has "
                f"{counted(counts[most], 'example')}, {self.names[least]!r} "
                f"{counts[least]}. If the rare ones matter, choose the metric macro_f1 "
                "or balanced_accuracy."
            )
            kind = "uneven classes"
            found.append(Finding(kind=kind, severity="note", message=message))
        called = tidied(dict(zip(self.names, counts, strict=True)))
        groups: dict[str, list[str]] = defaultdict(list)
        for name, count in zip(self.names, counts, strict=True):
            if new := called[name]:
                groups[new].append(f"{said(name)} ({count:,})")
        if alike := [", ".join(group) for group in groups.values() if len(group) > 1]:
            message = (
                f"Class names that look like one: {'; '.join(alike)}. If they are one "
                f"class, {TIDY} joins them."
            )
            kind = "similar class names"
            found.append(Finding(kind=kind, severity="warning", message=message))
        nothing = [i for i, name in enumerate(self.names) if called[name] is None]
        rows = np.flatnonzero(np.isin(targets, nothing)).tolist()
        listed = ", ".join(f"{said(self.names[i])} ({counts[i]:,})" for i in nothing)
        message = (
            f"{counted(len(rows), 'label')} may mean that there is none: {listed}. "
            f"Such rows are a class of their own; {TIDY} reads them as unlabelled."
        )
        places = [origins[row] for row in rows]
        found += Finding.any_at("label for nothing", "warning", message, places)
        return found

    def facts(self, targets: Labels) -> dict[str, Any]:
        """Return the number of examples of each class."""
        counts = self._counts(targets)
        return {"class_counts": dict(zip(self.names, counts, strict=True))}

    def strata(self, targets: Labels) -> Int[np.ndarray, "examples classes"]:
        """Return one column a class."""
        return np.asarray(np.eye(self.width, dtype=np.int64)[targets])

    def no_information(self, targets: Labels) -> Float64[np.ndarray, " classes"]:
        """Return the share of each class, with one example more of each."""
        counts = np.array(self._counts(targets)) + 1.0
        return np.asarray(counts / counts.sum())

    def metric(self, name: str) -> Metric:
        """Return a metric; the mean cost is by these costs."""
        row = self.metrics[name]
        return row if self.costs is None or name != "cost" else cost_metric(self.costs)

    def decide(self, outputs: Proba) -> Int[np.ndarray, " examples"]:
        """Return the class of the answer to each row, or `NO_ANSWER`."""
        if self.costs is None:
            return np.asarray(outputs.argmax(axis=1))
        return self.costs.decide(self.costs.shifted(outputs))

    def uncertainty(self, outputs: Proba) -> Float64[np.ndarray, " examples"]:
        """Return what the cheapest answer to each row is expected to cost."""
        costs = self.costs or Costs.of(self.names, {})
        return np.asarray(costs.expected(costs.shifted(outputs)).min(axis=1))

    def scores(
        self, targets: Labels, outputs: Proba, names: Sequence[str]
    ) -> dict[str, float]:
        """Return metrics by name; those of decisions of what is answered."""
        if self.costs is None:
            return TaskKind.scores(self, targets, outputs, names)
        answers = self.decide(outputs)
        is_answered = answers != NO_ANSWER
        decided = np.eye(self.width)[answers[is_answered]]
        found = {}
        for name in names:
            metric = self.metric(name)
            if metric.needs == "outputs":
                found[name] = metric.value(targets, outputs)
            else:
                known = targets[is_answered]
                found[name] = metric.value(known, decided) if len(known) else np.nan
        return {**found, "coverage": float(is_answered.mean())}

    def decode(self, outputs: Proba) -> list[str | None]:
        """Return the name of the answer: the most probable class, or the cheapest.

        None where no answer is the cheapest.
        """
        answers = self.decide(outputs)
        return [None if at == NO_ANSWER else self.names[at] for at in answers]

    def columns(self, outputs: Proba) -> dict[str, list[float]]:
        """Return a column of probabilities for each class, as they are in use."""
        outputs = self.costs.shifted(outputs) if self.costs else outputs
        named = zip(self.names, outputs.T, strict=True)
        return {f"proba_{name}": column.tolist() for name, column in named}

    def fit_calibration(
        self, targets: Labels, outputs: Float[np.ndarray, "repeats examples classes"]
    ) -> dict[str, float]:
        """Return the temperature that out-of-fold probabilities ask for."""
        return {"temperature": fit_temperature(outputs, targets)}

    @staticmethod
    def calibrate(
        outputs: Float[np.ndarray, "*rows classes"], calibration: Mapping[str, float]
    ) -> Float[np.ndarray, "*rows classes"]:
        """Return probabilities at a temperature."""
        if not calibration:
            return outputs
        return apply_temperature(outputs, calibration["temperature"])

    def log_likelihood(
        self, targets: Labels, outputs: Proba
    ) -> Float64[np.ndarray, " examples"]:
        """Return the logarithm of the true class's probability, no less than `LEAST`.

        One example that a model rules out in error must not decide alone.
        """
        proba = outputs[np.arange(len(targets)), targets].astype(np.float64)
        return np.asarray(np.log(np.maximum(proba, LEAST)))

    def measures(self, targets: Labels, outputs: Proba) -> dict[str, float]:
        """Return the recall of the weakest class and the refinement loss."""
        recall = self.metrics["worst_class_recall"]
        return {
            "worst_recall": recall.score(targets, outputs),
            REFINEMENT: refinement_loss(outputs, targets),
        }

    def _counts(self, labels: Labels) -> list[int]:
        return [int(n) for n in np.bincount(labels, minlength=self.width)]


def _refuse_several(labels: Sequence[str | None], origins: Sequence[str]) -> None:
    """Refuse cells that join several classes, such as ``anger|joy``.

    A cell counts if most of its parts are known from elsewhere, so that a class that
    merely has a comma in its name is left alone.
    """
    given = [(y, at) for y, at in zip(labels, origins, strict=True) if y is not None]
    for separator in "|;,":
        joined = [(label, at) for label, at in given if separator in label]
        single = {label for label, _ in given if separator not in label}
        parts = [{p.strip() for p in label.split(separator)} for label, _ in joined]
        known = sum(len(names & single) for names in parts)
        if joined and known > sum(map(len, parts)) / 2:
            raise TaskError(_one_class_a_row(*joined[0]))


def _one_class_a_row(cell: object, origin: str) -> str:
    return (
        f"Target must name one class a row, got {cell!r} in {origin}. Several labels "
        "at once are not supported yet: keep one a row, or take each combination of "
        f"words as a class with {AS_CLASSES}."
    )


def _refuse_numbers(labels: Sequence[str | None], column: str) -> None:
    names = [label for label in labels if label is not None]
    called = tidied(Counter(names))
    given = [number(name) for name in names if called[name] is not None]
    values = [value for value in given if value is not None]
    distinct = len(set(values))
    if len(values) < len(given):
        return
    is_measure = distinct > 10
    if all(value.is_integer() for value in values):  # codes of classes come again
        is_measure = distinct > 20 and len(values) < 5 * distinct
    if is_measure:
        raise TaskError(
            f"Target {column!r} must name classes, got {distinct} distinct numbers "
            f"from {min(values):g} to {max(values):g}. Predicting numbers is not "
            "supported yet: group them into a few named classes, or, if they are codes "
            f"or grades, take each as a class with {AS_CLASSES}."
        )


def _choose(
    labels: Sequence[str | None], column: Column, wanted: Sequence[str] | None
) -> tuple[str, ...]:
    found = dict.fromkeys(label for label in labels if label is not None)
    if wanted is not None:
        for label in found:
            if label not in wanted:
                raise DataError(
                    f"Label must be one of {', '.join(map(repr, wanted))}, got "
                    f"{label!r} in {column.origins[labels.index(label)]}. Add it to "
                    f"the class names, or if it is one of them, fit with {TIDY}."
                )
        return tuple(wanted)
    if len(found) < 2:
        got = f"only {next(iter(found))!r}" if found else "no labels at all"
        raise DataError(
            f"Labels must name at least 2 classes, got {got} in {column.source}. Label "
            "at least 2 examples of each class."
        )
    if set(found) <= set(column.order):
        return tuple(name for name in column.order if name in found)
    return natural_order(found)

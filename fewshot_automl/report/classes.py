"""The section about classes: what out-of-fold predictions say of each of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int

from fewshot_automl.errors import DataError, ShapeError
from fewshot_automl.evaluation.intervals import wilson_interval
from fewshot_automl.ledger import read_outputs
from fewshot_automl.modalities import Input, modality_named
from fewshot_automl.tasks import Task
from fewshot_automl.tasks.calibration import (
    ReliabilityBin,
    expected_calibration_error,
    reliability,
)
from fewshot_automl.tasks.classes import Classes
from fewshot_automl.tasks.costs import NO_ANSWER

MISTAKES: Final = 15
"""How many confident mistakes are shown."""
RIGHT: Final = 6
"""How many right answers are shown, each of another class."""
TYPICAL: Final = 24
"""Classes of which a typical example is shown."""
PAIRS: Final = 12
"""How many pairs of classes that are taken for each other are listed."""
PER_BIN: Final = 15
"""Least examples a bin of the reliability diagram should have."""
CURVE: Final = 40
"""Points of the curve of coverage and accuracy."""
FEWEST: Final = 30
"""Answers from which on it is drawn, or half of all if those are fewer: the share of
right ones among a handful says nothing."""
CHANCE_DRAWS: Final = 300
"""Draws that show how large the calibration error of perfect confidence would be."""


class Share(NamedTuple):
    """A share of few examples, with its 95 % interval."""

    value: float
    low: float
    high: float
    of: float
    """Denominator; a fraction if it is a mean over repeats."""


class ClassRow(NamedTuple):
    """How well one class is found."""

    name: str
    examples: int
    """Labelled examples of the class."""
    recall: Share | None
    """Of the class's examples, how many were found; None without examples."""
    precision: Share | None
    """Of the answers with this class, how many were right; None if never given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """How far the probabilities can be believed."""

    bins: tuple[tuple[ReliabilityBin, float, float], ...]
    """Each with the 95 % interval of its accuracy."""
    error: float
    """Expected calibration error."""
    chance: tuple[float, float]
    """The range in which 95 of 100 errors of perfect confidence would lie."""
    confidence: float
    """Mean confidence, over all repeats."""
    accuracy: float
    """Mean accuracy, over all repeats."""
    examples: int

    @property
    def verdict(self) -> str:
        """Return what the numbers support saying: one sentence."""
        if round(self.error, 3) <= round(self.chance[1], 3):  # as they are printed
            return (
                "That is no more than chance would show if every probability were "
                f"exactly right ({self.chance[0]:.3f} to {self.chance[1]:.3f} on so "
                "few examples), so nothing speaks against the probabilities."
            )
        way = "too sure" if self.confidence > self.accuracy else "not sure enough"
        return (
            "That is more than chance explains (up to "
            f"{self.chance[1]:.3f}): on average the model is {way} of its answers."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ByClass:
    """Everything that out-of-fold predictions and labels say about the model."""

    rows: tuple[ClassRow, ...]
    """One a class, in the order of the class indices."""
    counts: list[list[float]]
    """Confusion matrix: labels down, answers across; means over the repeats."""
    pairs: list[dict[str, Any]]
    """The confusions that happened more than once, the most frequent first: `label`,
    `predicted`, `count` and `of` how many examples."""
    mistakes: list[dict[str, Any]]
    """The most confident first: `shown` is what a person sees of it, a text or a JPEG;
    `origin`, `label`, `predicted`, `confidence`, and `label_proba` of the label."""
    right: list[dict[str, Any]]
    """The most confident right answer of some classes, with the same keys."""
    typical: list[dict[str, Any]]
    """The most typical example of each class, with the same keys."""
    mistaken: int
    """Number of all mistakes."""
    predicted: int
    """Number of examples that were predicted."""
    repeats: int
    """How often each example was predicted."""
    calibration: Calibration
    curve: list[tuple[float, float]]
    """If only so large a share of the examples is answered, the surest first, so large
    a share of the answers is right; the largest share first. Not of a handful."""
    answered: float
    """Share of the examples that the model answers."""

    @property
    def weakest_first(self) -> list[ClassRow]:
        """Return the classes from the least to the best found, unknown ones last."""
        return sorted(self.rows, key=lambda row: row.recall or (2.0,))


def by_class(
    folder: Path, summary: Mapping[str, Any], inputs: Sequence[Input]
) -> ByClass:
    """Return what the out-of-fold predictions of a finished study say.

    Raises:
        LedgerError: If the predictions cannot be read.
        ShapeError: If they are not of the study's examples and classes.
    """
    task = Task.from_json(summary["task"])
    names, modality = task.names, modality_named(task.modality)
    proba = read_outputs(folder / summary["predictions"])
    labels = np.array(summary["labels"], dtype=np.int64)
    if proba.shape[1:] != (len(labels), len(names)):
        raise ShapeError(
            f"Predictions must be of {len(labels)} examples and {len(names)} classes, "
            f"got {proba.shape[1:]}."
        )

    def show(number: int) -> str | bytes:
        try:
            return modality.preview(inputs[number])
        except DataError:  # a file that is gone by now; all the rest is still true
            return ""

    places = {key: row for row, key in enumerate(summary["keys"])}
    typical = [places[key] for key in summary.get("typical", ()) if key in places]
    return from_predictions(labels, proba, task, summary["origins"], show, typical)


def from_predictions(
    labels: Int[np.ndarray, " examples"],
    proba: Float[np.ndarray, "repeats examples classes"],
    task: Task,
    origins: Sequence[str],
    show: Callable[[int], str | bytes],
    typical: Sequence[int] = (),
) -> ByClass:
    """Return what out-of-fold probabilities say; rows of NaN were not predicted.

    `typical` are the most typical examples of classes.
    """
    from sklearn.metrics import confusion_matrix

    known = np.isfinite(proba).all(axis=2)
    some = np.flatnonzero(known.any(axis=0))
    if not len(some):
        raise ShapeError("At least one example must have a prediction, got none.")
    runs = [(labels[at], run[at]) for run, at in zip(proba, known, strict=True)]
    runs = [(truth, given) for truth, given in runs if len(truth)]
    mean = np.nanmean(np.where(known[..., None], proba, np.nan)[:, some], axis=0)
    names, rules = task.names, task.rules
    assert isinstance(rules, Classes)
    answers = rules.decide(mean)
    sure = mean[np.arange(len(mean)), answers]  # of what is answered, if anything is
    surest = np.argsort(-sure, kind="stable")
    surest = surest[answers[surest] != NO_ANSWER]
    is_right = (answers == labels[some])[surest]
    wrong, right = surest[~is_right], surest[is_right]
    _, firsts = np.unique(answers[right], return_index=True)  # of each class

    def case(i: int) -> dict[str, Any]:
        return {
            "shown": show(int(some[i])),
            "origin": origins[some[i]],
            "label": names[labels[some[i]]],
            "predicted": names[answers[i]],
            "confidence": float(sure[i]),
            "label_proba": float(mean[i, labels[some[i]]]),
        }

    every = np.arange(len(names))
    met = [confusion_matrix(y, rules.decide(p), labels=every) for y, p in runs]
    counts = np.mean(met, axis=0)
    sizes = np.bincount(labels, minlength=len(names)).tolist()
    sums = counts.sum(axis=1), counts.sum(axis=0)
    columns = (names, sizes, counts.diagonal(), *sums)
    return ByClass(
        rows=tuple(
            ClassRow(name, size, _share(right, labelled), _share(right, answered))
            for name, size, right, labelled, answered in zip(*columns, strict=True)
        ),
        counts=counts.tolist(),
        pairs=_pairs(counts, names),
        mistakes=list(map(case, wrong[:MISTAKES].tolist())),
        right=list(map(case, right[np.sort(firsts)[:RIGHT]].tolist())),
        typical=[
            case(place)
            for place, row in enumerate(some.tolist())
            if row in typical[:TYPICAL] and answers[place] != NO_ANSWER
        ],
        mistaken=len(wrong),
        predicted=len(some),
        repeats=len(runs),
        calibration=_calibration(runs),
        curve=_curve(mean, labels[some], rules),
        answered=float((answers != NO_ANSWER).mean()),
    )


def _share(right: float, of: float) -> Share | None:
    if of <= 0:
        return None
    value = min(float(right / of), 1.0)
    return Share(value, *wilson_interval(value, float(of)), float(of))


def _curve(
    proba: Float[np.ndarray, "examples classes"],
    labels: Int[np.ndarray, " examples"],
    rules: Classes,
) -> list[tuple[float, float]]:
    always = replace(rules, costs=rules.costs and rules.costs.always)
    order = np.argsort(rules.uncertainty(proba), kind="stable")
    is_right = (always.decide(proba) == labels)[order]
    counts = np.arange(1, len(labels) + 1)
    shares = np.cumsum(is_right) / counts
    first, last = min(FEWEST, -(-len(labels) // 2)) - 1, len(labels) - 1
    places = np.unique(np.linspace(first, last, CURVE).round().astype(int))[::-1]
    return [(float(counts[i] / len(labels)), float(shares[i])) for i in places]


def _pairs(
    counts: Float64[np.ndarray, "classes classes"], names: Sequence[str]
) -> list[dict[str, Any]]:
    off = counts - np.diag(counts.diagonal())
    order = np.argsort(-off, axis=None, kind="stable")[:PAIRS]
    places = [divmod(int(flat), len(names)) for flat in order]
    return [
        {
            "label": names[i],
            "predicted": names[j],
            "count": float(off[i, j]),
            "of": round(float(counts[i].sum())),
        }
        for i, j in places
        if off[i, j] > 1
    ]


def _calibration(runs: Sequence[tuple[np.ndarray, np.ndarray]]) -> Calibration:
    """Return what labels and probabilities say; repeats add no points to a drawing."""
    labels, proba = runs[0]
    bins = int(np.clip(len(labels) // PER_BIN, 1, 10))
    rows = reliability(proba, labels, bins=bins)
    sure = proba.max(axis=1)
    # Errors that perfect confidence would show: answers are right as often as they say.
    right = np.random.default_rng(0).random((CHANCE_DRAWS, len(sure))) < sure
    errors = np.zeros(CHANCE_DRAWS)
    for row in rows:
        inside = (sure >= row.low) & (sure <= row.high)
        errors += inside.sum() * np.abs(right[:, inside].mean(axis=1) - row.confidence)
    low, high = np.quantile(errors / len(sure), [0.025, 0.975])
    return Calibration(
        bins=tuple(
            (row, *wilson_interval(min(row.accuracy, 1.0), row.examples))
            for row in rows
        ),
        error=expected_calibration_error(proba, labels, bins=bins),
        chance=(float(low), float(high)),
        confidence=float(np.mean([p.max(axis=1).mean() for _, p in runs])),
        accuracy=float(np.mean([(p.argmax(axis=1) == y).mean() for y, p in runs])),
        examples=len(labels),
    )

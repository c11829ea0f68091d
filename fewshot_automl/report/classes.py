"""The section about classes: what out-of-fold predictions say of each of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Float64, Int

from fewshot_automl.errors import LedgerError, ShapeError
from fewshot_automl.evaluation.intervals import wilson_interval
from fewshot_automl.ledger import read_outputs
from fewshot_automl.report.section import Section
from fewshot_automl.tasks import Task
from fewshot_automl.tasks.calibration import (
    ReliabilityBin,
    expected_calibration_error,
    reliability,
)
from fewshot_automl.tasks.class_metrics import confusion

MISTAKES: Final = 15
"""How many confident mistakes are listed."""
PAIRS: Final = 12
"""How many pairs of classes that are taken for each other are listed."""
PER_BIN: Final = 15
"""Least examples a bin of the reliability diagram should have."""
CHANCE_DRAWS: Final = 300
"""Draws that show how large the calibration error of perfect confidence would be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """A share of few examples, with its 95 % interval."""

    value: float
    low: float
    high: float
    of: float
    """Denominator; a fraction if it is a mean over repeats."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassRow:
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
    """Mean confidence."""
    accuracy: float
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
    counts: tuple[tuple[float, ...], ...]
    """Confusion matrix: labels down, answers across; means over the repeats."""
    pairs: tuple[Mapping[str, Any], ...]
    """The confusions that happened more than once, the most frequent first: `label`,
    `predicted`, `count` and `of` how many examples."""
    mistakes: tuple[Mapping[str, Any], ...]
    """The most confident first: `origin`, `label`, `predicted`, `confidence` and
    `label_proba`, the probability of the label."""
    mistaken: int
    """Number of all mistakes."""
    predicted: int
    """Number of examples that were predicted."""
    repeats: int
    """How often each example was predicted."""
    calibration: Calibration

    @property
    def weakest_first(self) -> tuple[ClassRow, ...]:
        """Return the classes from the least to the best found, unknown ones last."""
        return tuple(
            sorted(self.rows, key=lambda row: row.recall.value if row.recall else 2.0)
        )


def classes_section(folder: Path, summary: Mapping[str, Any]) -> Section:
    """Return the section of a study whose target is one of several classes."""
    task = Task.from_json(summary["task"])
    found, why_not = None, ""
    try:
        found = _read(folder, summary, task.names)
    except (LedgerError, ShapeError) as error:
        why_not = str(error)
    return Section(
        anchor="classes",
        title="Class by class",
        template="classes.html.j2",
        about=f"{task.modality} classification into {len(task.names)} classes",
        right="be put in the right class",
        found=found,
        why_not=why_not,
    )


def _read(folder: Path, summary: Mapping[str, Any], names: Sequence[str]) -> ByClass:
    labels, file = summary.get("labels"), summary.get("predictions")
    if not labels or not file:
        raise ShapeError("The record of this study holds no labels or no predictions.")
    proba = read_outputs(folder / file)
    if proba.shape[1:] != (len(labels), len(names)):
        raise ShapeError(
            f"Predictions must be of {len(labels)} examples and {len(names)} classes, "
            f"got {proba.shape[1:]}."
        )
    origins = summary.get("origins") or [f"example {i}" for i in range(len(labels))]
    return by_class(np.asarray(labels, dtype=np.int64), proba, names, origins)


def by_class(
    labels: Int[np.ndarray, " examples"],
    proba: Float[np.ndarray, "repeats examples classes"],
    names: Sequence[str],
    origins: Sequence[str],
) -> ByClass:
    """Return what predictions say; rows of NaN were not predicted.

    Args:
        labels: Class indices.
        proba: Out-of-fold probabilities.
        names: Of the classes.
        origins: File and row of each example.

    Raises:
        ShapeError: If no example was predicted.
    """
    known = np.isfinite(proba).all(axis=2)
    runs = [(labels[at], run[at]) for run, at in zip(proba, known, strict=True)]
    runs = [(truth, given) for truth, given in runs if len(truth)]
    if not runs:
        raise ShapeError("At least one example must have a prediction, got none.")
    some = np.flatnonzero(known.any(axis=0))
    held = np.where(known[..., None], proba, 0.0).sum(axis=0)[some]
    mean = held / known.sum(axis=0)[some, None]
    answers = mean.argmax(axis=1)
    wrong = np.flatnonzero(answers != labels[some])
    wrong = wrong[np.argsort(-mean[wrong].max(axis=1), kind="stable")]
    counts = np.mean([confusion(*run) for run in runs], axis=0)
    sizes = np.bincount(labels, minlength=len(names))
    return ByClass(
        rows=tuple(
            ClassRow(
                name=str(name),
                examples=int(sizes[i]),
                recall=_share(counts[i, i], counts[i].sum()),
                precision=_share(counts[i, i], counts[:, i].sum()),
            )
            for i, name in enumerate(names)
        ),
        counts=tuple(map(tuple, counts.tolist())),
        pairs=_pairs(counts, names),
        mistakes=tuple(
            {
                "origin": str(origins[some[i]]),
                "label": names[labels[some[i]]],
                "predicted": names[answers[i]],
                "confidence": float(mean[i].max()),
                "label_proba": float(mean[i, labels[some[i]]]),
            }
            for i in wrong[:MISTAKES]
        ),
        mistaken=len(wrong),
        predicted=len(some),
        repeats=len(runs),
        calibration=_calibration(*runs[0]),
    )


def _share(right: float, of: float) -> Share | None:
    if of <= 0:
        return None
    value = min(float(right / of), 1.0)
    low, high = wilson_interval(value, float(of))
    return Share(value=value, low=low, high=high, of=float(of))


def _pairs(
    counts: Float64[np.ndarray, "classes classes"], names: Sequence[str]
) -> tuple[Mapping[str, Any], ...]:
    off = counts.copy()
    np.fill_diagonal(off, 0.0)
    order = np.argsort(-off, axis=None, kind="stable")[:PAIRS]
    places = [divmod(int(flat), len(names)) for flat in order]
    return tuple(
        {
            "label": str(names[i]),
            "predicted": str(names[j]),
            "count": float(off[i, j]),
            "of": round(float(counts[i].sum())),
        }
        for i, j in places
        if off[i, j] > 1
    )


def _calibration(
    labels: Int[np.ndarray, " examples"], proba: Float[np.ndarray, "examples classes"]
) -> Calibration:
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
        confidence=float(sure.mean()),
        accuracy=float((proba.argmax(axis=1) == labels).mean()),
        examples=len(labels),
    )

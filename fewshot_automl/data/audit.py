"""The audit: what is wrong with the data, found before any training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Int

from fewshot_automl.data.balance import balance_findings
from fewshot_automl.data.copies import conflicts, is_copy, overlap
from fewshot_automl.data.examples import Dataset, Examples
from fewshot_automl.data.findings import Finding, Severity, counted
from fewshot_automl.data.images import TINY, Look, look_at
from fewshot_automl.data.texts import normalised, text_findings
from fewshot_automl.errors import DataError
from fewshot_automl.task import UNLABELLED, Modality

_OUT: Final = frozenset({"empty text", "unreadable image", "copy"})
"""Kinds of findings whose examples are left out."""
_ORDER: Final[dict[Severity, int]] = {"fatal": 0, "warning": 1, "note": 2}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Audit:
    """Holds what was found, and the examples that can be used."""

    findings: tuple[Finding, ...]
    """The worst first."""
    examples: Examples
    """Without empty texts, unreadable images and copies within a class."""
    kept: Int[np.ndarray, " examples"]
    """Where each of `examples` stood among the dataset's."""

    def lines(self) -> list[str]:
        """Return one line for each finding, for people."""
        return [finding.line() for finding in self.findings]

    def raise_if_fatal(self) -> None:
        """Stop where learning is impossible.

        Raises:
            DataError: If a finding is fatal; it says what and what to do.
        """
        if any(finding.severity == "fatal" for finding in self.findings):
            # What was left out may be why too little is left.
            told = [f for f in self.findings if f.severity == "fatal" or f.kind in _OUT]
            raise DataError("\n".join(f"{f.message}{f.places()}" for f in told))


def audit(
    dataset: Dataset, *, test: Examples | None = None, strict: bool = False
) -> Audit:
    """Look for what would spoil learning or its score.

    Args:
        dataset: What was read.
        test: Examples held back for testing, to be compared with the dataset.
        strict: Whether an unreadable image is fatal instead of left out.

    >>> from fewshot_automl.data import read
    >>> few = read(["good", "fine", "bad", " "], labels=["+", "+", "-", "-"])
    >>> found = audit(few)
    >>> [finding.kind for finding in found.findings], found.kept.tolist()
    (['too few examples', 'empty text'], [0, 1, 2])
    """
    task = dataset.task
    keys, usable, findings = _inspect(dataset.examples, task.modality, strict)
    whole = dataset.examples.take(np.flatnonzero(usable))
    whole_keys = [key for key, use in zip(keys, usable, strict=True) if use]
    if task.modality == "text":
        findings += text_findings(whole, task.class_names)
    findings += conflicts(whole, whole_keys, task.class_names)
    if test is not None:
        test_keys, is_usable, _ = _inspect(test, task.modality, strict)
        findings += overlap(whole, whole_keys, test_keys)
        findings += _unusable_test(test, task.modality, is_usable)
    copies = is_copy(whole, whole_keys)
    findings += _copies(whole, copies)
    kept = np.flatnonzero(usable)[~copies]
    examples = dataset.examples.take(kept)
    findings += balance_findings(examples, task.class_names)
    found = sorted(
        (*dataset.findings, *findings), key=lambda finding: _ORDER[finding.severity]
    )
    return Audit(findings=tuple(found), examples=examples, kept=kept)


def _inspect(
    examples: Examples, modality: Modality, strict: bool
) -> tuple[list[str], Bool[np.ndarray, " examples"], list[Finding]]:
    """Return keys that copies share, which examples are usable, and why others not."""
    if modality == "text":
        keys = [normalised(str(text)) for text in examples.inputs]
        usable = np.array([bool(key) for key in keys], dtype=np.bool_)
        return keys, usable, _empty(examples, usable)
    looks = look_at(examples.inputs)
    usable = np.array([not look.fault for look in looks], dtype=np.bool_)
    findings = _unreadable(examples, looks, strict) + _tiny(examples, looks)
    # An unreadable image is a copy of nothing.
    keys = [look.digest or f"unreadable {row}" for row, look in enumerate(looks)]
    return keys, usable, findings


def _empty(examples: Examples, usable: Bool[np.ndarray, " examples"]) -> list[Finding]:
    places = [examples.origins[row] for row in np.flatnonzero(~usable)]
    if not places:
        return []
    message = f"{counted(len(places), 'empty text')} left out."
    return [Finding.at("empty text", "warning", message, places)]


def _unreadable(
    examples: Examples, looks: Sequence[Look], strict: bool
) -> list[Finding]:
    places = [
        f"{origin}: {look.fault}"
        for origin, look in zip(examples.origins, looks, strict=True)
        if look.fault
    ]
    if not places:
        return []
    if strict:
        message = (
            "Images must all be readable (strict), got "
            f"{counted(len(places), 'unreadable one')}. Replace or remove them."
        )
        return [Finding.at("unreadable image", "fatal", message, places)]
    message = f"{counted(len(places), 'unreadable image')} left out."
    return [Finding.at("unreadable image", "warning", message, places)]


def _tiny(examples: Examples, looks: Sequence[Look]) -> list[Finding]:
    places = [
        origin
        for origin, look in zip(examples.origins, looks, strict=True)
        if look.is_tiny
    ]
    if not places:
        return []
    message = (
        f"{counted(len(places), 'image')} with a side under {TINY} pixels: there is "
        "next to nothing to see."
    )
    return [Finding.at("tiny image", "warning", message, places)]


def _unusable_test(
    test: Examples, modality: Modality, usable: Bool[np.ndarray, " examples"]
) -> list[Finding]:
    """Return what no score can be computed with; leaving it out would flatter."""
    is_scored = test.labels != UNLABELLED
    places = [test.origins[row] for row in np.flatnonzero(~usable & is_scored)]
    if not places or modality == "text":
        return []
    message = (
        f"Test images must be readable, got {counted(len(places), 'unreadable one')}. "
        "Replace or remove them."
    )
    return [Finding.at("unreadable test image", "fatal", message, places)]


def _copies(examples: Examples, copies: Bool[np.ndarray, " examples"]) -> list[Finding]:
    places = [examples.origins[row] for row in np.flatnonzero(copies)]
    if not places:
        return []
    message = (
        f"{counted(len(places), 'copy', 'copies')} of another example of the same "
        "class left out, so that no model is tested on what it was trained on."
    )
    return [Finding.at("copy", "note", message, places)]

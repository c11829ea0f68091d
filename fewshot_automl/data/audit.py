"""The audit: what is wrong with the data, found before any training."""

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from fewshot_automl.data.examples import Dataset, Examples
from fewshot_automl.errors import DataError
from fewshot_automl.finding import Finding, Severity, counted
from fewshot_automl.modalities import MODALITIES, Look, Modality, modality_named
from fewshot_automl.tasks import Task

ALMOST_ALL: Final = 0.9
"""A class name in this share of its class's texts, and hardly elsewhere, is a leak."""
HARDLY_ANY: Final = 0.02

_ORDER: Final[dict[Severity, int]] = {"fatal": 0, "warning": 1, "note": 2}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Audit:
    """Holds what was found, and the examples that can be used."""

    findings: tuple[Finding, ...]
    """The worst first."""
    examples: Examples
    """Without empty texts, unreadable images and copies within a class."""

    def lines(self) -> list[str]:
        """Return one line for each finding, for people."""
        return [finding.line() for finding in self.findings]

    def fatal(self) -> list[Finding]:
        """Return what ends a run, and what was left out; empty if nothing ends it."""
        if all(finding.severity != "fatal" for finding in self.findings):
            return []
        # What was left out may be why too little is left.
        left_out = {"copy", *(row.unusable for row in MODALITIES.values())}
        left_out |= {"similar class names", "label for nothing"}
        return [f for f in self.findings if f.severity == "fatal" or f.kind in left_out]

    def raise_if_fatal(self) -> None:
        """Raise a `DataError` that says what and what to do, if a finding is fatal."""
        if found := self.fatal():
            raise DataError("\n".join(f"{f.message}{f.places()}" for f in found))


def audit(
    dataset: Dataset, *, test: Examples | None = None, strict: bool = False
) -> Audit:
    """Look for what would spoil learning or its score.

    Examples held back for testing are compared with the dataset. If `strict`, an
    unreadable image is fatal instead of left out.

    >>> from fewshot_automl.data import read
    >>> few = read(["good", "fine", "bad", " "], labels=["+", "+", "-", "-"])
    >>> [finding.kind for finding in audit(few).findings]
    ['too few examples', 'empty text']
    """
    task = dataset.task
    modality = modality_named(task.modality)
    examples, findings = dataset.examples, list(dataset.findings)
    looks = modality.look(examples.inputs)
    findings += _left_out(examples, looks, modality, strict)
    whole = examples.take([row for row, look in enumerate(looks) if look.key])
    seen = [look for look in looks if look.key]
    findings += modality.findings(whole.inputs, seen, whole.origins)
    if task.modality == "text":
        findings += _leaks(whole, task)
    groups: dict[str, list[int]] = defaultdict(list)
    for row in np.flatnonzero(task.rules.is_labelled(whole.targets)).tolist():
        groups[seen[row].key].append(row)
    findings += _conflicts(whole, groups.values(), task)
    if test is not None:
        tested = modality.look(test.inputs)
        findings += _overlap(whole, groups, {look.key for look in tested})
        findings += _unusable_test(test, tested, modality, task)
    copies = _copies(whole, groups.values())
    places = [whole.origins[row] for row in copies]
    message = (
        f"{counted(len(places), 'copy', 'copies')} of another example with the same "
        "label left out, so that no model is tested on what it was trained on."
    )
    findings += Finding.any_at("copy", "note", message, places)
    left = whole.take(np.delete(np.arange(len(whole)), copies))
    findings += task.rules.findings(left.targets, left.origins)
    findings.sort(key=lambda finding: _ORDER[finding.severity])
    return Audit(findings=tuple(findings), examples=left)


def _placed(examples: Examples, looks: Sequence[Look]) -> list[str]:
    return [
        f"{origin}: {look.fault}" if look.fault else origin
        for origin, look in zip(examples.origins, looks, strict=True)
        if not look.key
    ]


def _left_out(
    examples: Examples, looks: Sequence[Look], modality: Modality, strict: bool
) -> list[Finding]:
    places = _placed(examples, looks)
    many = counted(len(places), modality.unusable)
    if strict and modality.is_fault_an_error:
        message = (
            f"{modality.plural.capitalize()} must all be readable (strict), got "
            f"{many}. Replace or remove them."
        )
        return Finding.any_at(modality.unusable, "fatal", message, places)
    return Finding.any_at(modality.unusable, "warning", f"{many} left out.", places)


def _unusable_test(
    test: Examples, looks: Sequence[Look], modality: Modality, task: Task
) -> list[Finding]:
    """Return what no score can be computed with; leaving it out would flatter."""
    if not modality.is_fault_an_error:
        return []
    scored = np.flatnonzero(task.rules.is_labelled(test.targets)).tolist()
    places = _placed(test.take(scored), [looks[row] for row in scored])
    message = (
        f"Test {modality.plural} must be readable, got "
        f"{counted(len(places), modality.unusable)}. Replace or remove them."
    )
    return Finding.any_at(f"{modality.unusable} in test", "fatal", message, places)


def _copies(examples: Examples, groups: Collection[Sequence[int]]) -> list[int]:
    repeats = []
    for group in groups:
        seen: set[bytes] = set()
        for row in group:
            target = examples.targets[row].tobytes()
            if target in seen:
                repeats.append(row)
            seen.add(target)
    return sorted(repeats)


def _conflicts(
    examples: Examples, groups: Collection[Sequence[int]], task: Task
) -> list[Finding]:
    """Return what lists copies with different labels; fatal if that is all there is."""
    clashing = [
        group
        for group in groups
        if len({examples.targets[row].tobytes() for row in group}) > 1
    ]
    places = [
        f"{examples.origins[row]} {task.rules.say(examples.targets[row])!r}"
        for group in clashing
        for row in group
    ]
    message = (
        f"{counted(len(clashing), 'example')} labelled in more than one way: no model "
        "can get both right. Correct the labels, or remove the copies."
    )
    severity: Severity = "fatal" if len(places) == sum(map(len, groups)) else "warning"
    return Finding.any_at("conflicting labels", severity, message, places)


def _overlap(
    examples: Examples, groups: Mapping[str, Sequence[int]], tested: Collection[str]
) -> list[Finding]:
    rows = sorted(r for key, group in groups.items() if key in tested for r in group)
    places = [examples.origins[row] for row in rows]
    message = (
        f"{counted(len(places), 'training example')} also in the test data: the test "
        "score will be too good. Remove them from one of the two."
    )
    return Finding.any_at("train in test", "warning", message, places)


def _leaks(examples: Examples, task: Task) -> list[Finding]:
    known = examples.labelled(task)
    if not len(known):
        return []
    texts = [str(text).casefold() for text in known.inputs]
    strata = task.rules.strata(known.targets).astype(np.bool_).T
    found = []
    for name, inside in zip(task.names, strata, strict=False):
        if len(name) < 3 or inside.sum() < 5 or inside.all():
            continue
        words = re.compile(rf"(?<!\w){re.escape(name.casefold())}(?!\w)")
        has_name = np.array([words.search(text) is not None for text in texts])
        is_sign = has_name[inside].mean() >= ALMOST_ALL
        if is_sign and has_name[~inside].mean() <= HARDLY_ANY:
            places = [known.origins[i] for i in np.flatnonzero(inside & has_name)]
            message = (
                f"The class name {name!r} stands in nearly all texts of its class and "
                "hardly any other: the text gives the label away. If it will not for "
                "new texts, remove it."
            )
            found.append(Finding.at("label in text", "warning", message, places))
    return found

"""What to look for in labels: too few of a class, too many classes, odd names."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

import numpy as np

from fewshot_automl.data.examples import Examples
from fewshot_automl.data.findings import Finding, counted
from fewshot_automl.task import UNLABELLED

FEWEST: Final = 2
"""Examples of a class: one to learn from and one to be tested on."""
LOPSIDED: Final = 10.0
"""The largest class over the smallest, from which on accuracy misleads."""


def balance_findings(examples: Examples, class_names: Sequence[str]) -> list[Finding]:
    """Return what is odd about how many examples each class has."""
    labels = examples.labels[examples.labels != UNLABELLED]
    counts = np.bincount(labels, minlength=len(class_names))
    present = int((counts > 0).sum())
    if present >= 10 and present > len(labels) / 2:
        message = (
            f"Target must name classes that repeat, got {present:,} different values "
            f"in {len(labels):,} labelled examples: it looks like an id or free text. "
            "Choose another target column."
        )
        return [Finding(kind="target like an id", severity="fatal", message=message)]
    return [
        *_too_few(examples, counts.tolist(), class_names),
        *_lopsided(counts.tolist(), class_names),
        *_alike(class_names),
    ]


def _too_few(
    examples: Examples, counts: list[int], class_names: Sequence[str]
) -> list[Finding]:
    rare = [index for index, count in enumerate(counts) if count < FEWEST]
    if not rare:
        return []
    names = ", ".join(f"{class_names[i]!r} ({counts[i]})" for i in rare[:10])
    names += f" and {len(rare) - 10} more" if len(rare) > 10 else ""
    places = [
        examples.origins[i] for i in np.flatnonzero(np.isin(examples.labels, rare))
    ]
    message = (
        f"Each class must have at least {FEWEST} usable labelled examples, one to "
        f"learn from and one to be tested on; too few in {names}. Add examples, or "
        "remove or merge the class."
    )
    return [Finding.at("too few examples", "fatal", message, places)]


def _lopsided(counts: list[int], class_names: Sequence[str]) -> list[Finding]:
    least, most = int(np.argmin(counts)), int(np.argmax(counts))
    if counts[most] < LOPSIDED * max(counts[least], 1):
        return []
    message = (
        f"Classes are uneven: {class_names[most]!r} has "
        f"{counted(counts[most], 'example')}, {class_names[least]!r} {counts[least]}. "
        "If the rare ones matter, choose the metric macro_f1 or balanced_accuracy."
    )
    return [Finding(kind="uneven classes", severity="note", message=message)]


def _alike(class_names: Sequence[str]) -> list[Finding]:
    groups = defaultdict(list)
    for name in class_names:
        groups[" ".join(name.casefold().split())].append(name)
    alike = [group for group in groups.values() if len(group) > 1]
    if not alike:
        return []
    listed = "; ".join(", ".join(map(repr, group)) for group in alike)
    message = (
        f"Class names differ only in case or blanks: {listed}. If they are one class, "
        "write them alike."
    )
    return [Finding(kind="similar class names", severity="warning", message=message)]

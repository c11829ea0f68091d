"""Copies: of one class, with conflicting labels, and between train and test."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from fewshot_automl.data.examples import Examples
from fewshot_automl.data.findings import Finding, counted
from fewshot_automl.task import UNLABELLED


def is_copy(examples: Examples, keys: Sequence[str]) -> Bool[np.ndarray, " examples"]:
    """Say which labelled examples repeat an earlier one of the same class.

    Args:
        examples: What is compared.
        keys: For each example, a text that is equal for copies.
    """
    seen: set[tuple[str, int]] = set()
    repeats = np.zeros(len(examples), dtype=np.bool_)
    for row, pair in enumerate(zip(keys, examples.labels.tolist(), strict=True)):
        repeats[row] = pair[1] != UNLABELLED and pair in seen
        seen.add(pair)
    return repeats


def conflicts(
    examples: Examples, keys: Sequence[str], class_names: Sequence[str]
) -> list[Finding]:
    """Return a warning that lists copies with different labels, if there are any."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, (key, label) in enumerate(zip(keys, examples.labels, strict=True)):
        if label != UNLABELLED:
            rows[key].append(row)
    clashing = [
        group
        for group in rows.values()
        if len({int(examples.labels[row]) for row in group}) > 1
    ]
    if not clashing:
        return []
    places = [
        f"{examples.origins[row]} {class_names[examples.labels[row]]!r}"
        for group in clashing
        for row in group
    ]
    message = (
        f"{counted(len(clashing), 'example')} labelled in more than one way: no model "
        "can get both right. Correct the labels, or remove the copies."
    )
    return [Finding.at("conflicting labels", "warning", message, places)]


def overlap(
    examples: Examples, keys: Sequence[str], test_keys: Sequence[str]
) -> list[Finding]:
    """Return a warning that names the training examples that are in the test too."""
    tested = set(test_keys)
    places = [
        origin
        for origin, key, label in zip(
            examples.origins, keys, examples.labels, strict=True
        )
        if key in tested and label != UNLABELLED
    ]
    if not places:
        return []
    message = (
        f"{counted(len(places), 'training example')} also in the test data: the test "
        "score will be too good. Remove them from one of the two."
    )
    return [Finding.at("train in test", "warning", message, places)]

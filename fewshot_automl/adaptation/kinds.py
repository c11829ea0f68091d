"""What methods need to know of a kind of target: one row a kind."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import torch

from fewshot_automl.adaptation.class_heads import class_weights, fit_class_head
from fewshot_automl.adaptation.heads import (
    Arrays,
    Head,
    KernelHead,
    LinearHead,
    NeighbourHead,
)
from fewshot_automl.errors import ExportError
from fewshot_automl.space import Config, Dimension
from fewshot_automl.space import Float as FloatDimension
from fewshot_automl.tasks import Task
from fewshot_automl.training import Loss, cross_entropy

Numbers = list[tuple[int, int]]
"""Counts of numbers that a model holds, each with the bytes that one of them takes."""

FLOAT: Final = 4
"""Bytes of a number; weights are float32."""
WIDE: Final = 8
"""Bytes of a number in float64 or int64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadRow:
    """The heads and the loss of a kind of target."""

    heads: tuple[str, ...]
    """Their names; the first is a `LinearHead`, the default and what trainings start
    from."""
    fit: Callable[..., Head]
    """Fits the one that a Config names to features and targets, given a task, the
    Config and a seed; where it `takes_names`, to `names` too if they are given."""
    unlabelled_heads: tuple[str, ...] = ()
    """Heads that learn from features of `unlabelled` examples too."""
    takes_names: tuple[str, ...] = ()
    """Heads that learn from features of the names of the classes too."""
    takes_sparse: bool = False
    """Whether features of words may come as `SparseRows`; else they are made dense."""
    classes: tuple[type[Head], ...]
    """Those that a saved model may have."""
    is_weighed: bool = False
    """Whether rare strata can weigh more, in heads and in the loss."""
    numbers: Callable[[str, int, Task, int], Numbers]
    """Takes a head's name, the width of the features, the task and the number of
    examples; returns the numbers that the head holds besides its scaling."""
    loss: Callable[[np.ndarray, Task, Config], Loss] | None = None
    """Takes targets, task and Config, and returns what a training minimises; None if
    nothing can be trained."""
    loss_dimensions: tuple[Dimension, ...] = ()
    """What a Config says of the loss."""


def _class_head_numbers(head: str, width: int, task: Task, examples: int) -> Numbers:
    if head == "rbf":
        support = examples * (width + task.width)
        return [(support + task.width, FLOAT), (1, WIDE)]
    return [(task.width * (width + 1), FLOAT)]


def _class_loss(targets: np.ndarray, task: Task, config: Config) -> Loss:
    rule = str(config.get("class_weights", "none"))
    return partial(
        cross_entropy,
        label_smoothing=config.number("label_smoothing"),
        class_weights=torch.from_numpy(class_weights(targets, task.width, rule)),
    )


HEADS: Final[dict[str, HeadRow]] = {
    "classes": HeadRow(
        heads=("logistic", "lda", "rbf"),
        fit=fit_class_head,
        unlabelled_heads=("mixture",),
        takes_names=("logistic", "lda", "mixture"),
        takes_sparse=True,
        classes=(LinearHead, KernelHead, NeighbourHead),
        is_weighed=True,
        numbers=_class_head_numbers,
        loss=_class_loss,
        loss_dimensions=(
            FloatDimension(name="label_smoothing", low=0.0, high=0.2, default=0.05),
        ),
    ),
}
"""Heads and losses by kind of target."""


def head_from_state(kind: str, arrays: Arrays) -> Head:
    """Return a saved head from its kind and arrays."""
    known = {each.kind: each for row in HEADS.values() for each in row.classes}
    if kind not in known:
        raise ExportError(
            f"Head must be one of {', '.join(known)}, got {kind!r}. The model was "
            "written by a newer version; update fewshot_automl."
        )
    head: Head = known[kind].from_arrays(arrays)
    return head


def head_numbers(config: Config, width: int, task: Task, examples: int) -> Numbers:
    """Return the numbers of a head and its scaling, in the order of its `arrays`."""
    row = HEADS[task.kind]
    head = str(config.get("head", row.heads[0]))
    return [(1, 1), (2 * width, FLOAT), *row.numbers(head, width, task, examples)]

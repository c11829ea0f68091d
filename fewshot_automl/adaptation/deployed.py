"""A fitted model as it will be when it stands alone: its size and its speed."""

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import numpy as np
from torch import Tensor

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.fitted import Adapted
from fewshot_automl.adaptation.majority import Constant
from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.adaptation.saved import Ensemble, own_encoder
from fewshot_automl.adaptation.tfidf import TermHead
from fewshot_automl.modalities import Input

LEAST_RUNS: Final = 3
"""Timed predictions, after one that warms up; their median counts."""
MOST_RUNS: Final = 15
ENOUGH_SECONDS: Final = 0.05
"""After so long `LEAST_RUNS` are enough."""
MOST_SECONDS: Final = 0.3
"""After so long, warming up included, one is."""


def deployed(fitted: Fitted, device: str) -> Fitted:
    """Return a model that predicts by itself, as it does after saving and loading.

    Args:
        fitted: As a study fitted it.
        device: Where its weights are.
    """
    if isinstance(fitted, Ensemble):
        parts = [deployed(member.fitted, device) for member in fitted.members]
        members = [
            replace(member, fitted=part, encoder=own_encoder(part))
            for member, part in zip(fitted.members, parts, strict=True)
        ]
        return Ensemble(members=tuple(members))
    if isinstance(fitted, Adapted):
        return replace(fitted, start=None, device=device)
    return fitted


def parameters_of(fitted: Fitted) -> int:
    """Return how many numbers a saved model holds: backbone, adapter and head.

    LoRA layers stay beside the weights that they change, and count. Members of an
    ensemble are saved, loaded and run each with its own backbone, and add up.
    """
    return sum(int(np.prod(array.shape)) for array in _arrays(fitted))


def weight_bytes_of(fitted: Fitted) -> int:
    """Return the bytes that the numbers of a saved model take in memory."""
    return sum(int(array.nbytes) for array in _arrays(fitted))


def latency_seconds(fitted: Fitted, example: Input, device: str) -> float:
    """Return the median wall time of predicting one example alone.

    All that a prediction does counts: preprocessing, backbone and head.

    Args:
        fitted: As a study fitted it.
        example: Of a length that is usual.
        device: Where its weights are.
    """
    alone = deployed(fitted, device)
    encodings = Encodings(inputs=(example,), encoder=own_encoder(alone))
    return median_seconds(lambda: alone.outputs(encodings))


def median_seconds(work: Callable[[], object]) -> float:
    """Return the median wall time of a short piece of work, once it is warm.

    Measuring takes some hundredths of a second, or two runs where they are slow.
    """
    times: list[float] = []
    while True:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
        runs = len(times) - 1
        least = 1 if sum(times) > MOST_SECONDS else LEAST_RUNS
        if runs >= MOST_RUNS or (runs >= least and sum(times[1:]) > ENOUGH_SECONDS):
            return float(np.median(times[1:]))


def middling(inputs: tuple[Input, ...]) -> Input:
    """Return an example of median length; images are all alike, and the first comes.

    >>> middling(("a", "ab", "a very long text"))
    'ab'
    """
    order = sorted(inputs, key=lambda x: len(x) if isinstance(x, str) else 0)
    return order[(len(order) - 1) // 2]


def _arrays(fitted: Fitted) -> Iterator[np.ndarray | Tensor]:
    if isinstance(fitted, Ensemble):
        for member in fitted.members:
            yield from _arrays(member.fitted)
    elif isinstance(fitted, Adapted):
        yield from fitted.backbone.module.parameters()
        yield from fitted.head.arrays().values()
    elif isinstance(fitted, TermHead):
        yield from fitted.arrays().values()
    elif isinstance(fitted, Constant):
        yield fitted.output

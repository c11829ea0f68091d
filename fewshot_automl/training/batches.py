"""Which examples meet in a batch: endless, deterministic streams of positions."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

from fewshot_automl.errors import ShapeError


def shuffled(n: int, batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Return batches that see every example once an epoch, without end.

    An epoch is cut into batches of nearly equal size, none above `batch_size`, so
    that no step rests on a leftover example.

    >>> [batch.size for batch, _ in zip(shuffled(10, 4, seed=0), range(4))]
    [4, 3, 3, 4]

    Raises:
        ShapeError: If there is nothing to draw from or `batch_size` is below 1.
    """
    _require(n, batch_size, least=1)
    return _shuffled(n, batch_size, np.random.default_rng(seed))


def _shuffled(
    n: int, batch_size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    while True:
        yield from np.array_split(rng.permutation(n), -(-n // batch_size))


def balanced(
    labels: Int[np.ndarray, " examples"], batch_size: int, seed: int
) -> Iterator[np.ndarray]:
    """Return batches with as many of one class as of another, without end.

    Every class in a batch has at least two places, so that each example has a
    positive in a contrastive loss; where there are more classes than pairs of
    places, classes take turns. A class with fewer examples than places repeats
    them. Places that do not divide evenly go to classes drawn anew each batch.

    Args:
        labels: Class indices; negative means unlabelled and is never drawn.
        batch_size: Places in a batch, at least 2; all are filled.
        seed: Decides every draw.

    Raises:
        ShapeError: If nothing is labelled or `batch_size` is below 2.
    """
    _require(int((labels >= 0).sum()), batch_size, least=2)
    return _balanced(labels, batch_size, np.random.default_rng(seed))


def _balanced(
    labels: np.ndarray, batch_size: int, rng: np.random.Generator
) -> Iterator[np.ndarray]:
    present = np.unique(labels[labels >= 0])
    members = [_Cycle(np.flatnonzero(labels == name), rng) for name in present]
    turns = _Cycle(np.arange(present.size), rng)
    count = min(present.size, batch_size // 2)
    while True:
        places = np.full(count, batch_size // count)
        places[rng.permutation(count)[: batch_size % count]] += 1
        drawn = [
            members[which].take(size)
            for which, size in zip(turns.take(count), places.tolist(), strict=True)
        ]
        yield rng.permutation(np.concatenate(drawn))


class _Cycle:
    """Draws from a set in random order; all are drawn before one comes again."""

    def __init__(self, items: np.ndarray, rng: np.random.Generator) -> None:
        self._items = items
        self._rng = rng
        self._left = items[:0]

    def take(self, count: int) -> np.ndarray:
        """Return `count` items, distinct if there are as many."""
        while self._left.size < count:
            order = self._rng.permutation(self._items)
            waits = np.isin(order, self._left)
            # Those still waiting come last in the new round, so no draw of at most
            # the whole set holds one of them twice.
            self._left = np.concatenate([self._left, order[~waits], order[waits]])
        drawn, self._left = self._left[:count], self._left[count:]
        return drawn


def _require(n: int, batch_size: int, least: int) -> None:
    if n < 1:
        raise ShapeError("Batches must be drawn from at least 1 example, got 0.")
    if batch_size < least:
        raise ShapeError(f"batch_size must be at least {least}, got {batch_size}.")

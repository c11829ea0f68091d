"""Which examples meet in a batch: endless, deterministic streams of positions."""

from collections.abc import Callable, Iterator

import numpy as np
from jaxtyping import Int

Sampler = Callable[[int], Iterator[np.ndarray]]
"""Takes the size of a batch and returns endless batches."""


def shuffled(n: int, seed: int) -> Sampler:
    """Return batches that see every example once an epoch, without end.

    An epoch is cut into batches of nearly equal size, none above the size asked for,
    so that no step rests on a leftover example.

    >>> [batch.size for batch, _ in zip(shuffled(10, seed=0)(4), range(4))]
    [4, 3, 3, 4]
    """

    def batches(size: int) -> Iterator[np.ndarray]:
        rng = np.random.default_rng((seed, 0))
        while True:
            yield from np.array_split(rng.permutation(n), -(-n // size))

    return batches


def balanced(labels: Int[np.ndarray, " examples"], seed: int) -> Sampler:
    """Return batches with as many of one class as of another, without end.

    Every class in a batch has at least two places, so that each example has a
    positive in a contrastive loss; where there are more classes than pairs of
    places, classes take turns. A class with fewer examples than places repeats
    them. Places that do not divide evenly go to classes drawn again each batch.
    """
    present = np.unique(labels)

    def batches(size: int) -> Iterator[np.ndarray]:
        rng = np.random.default_rng((seed, 0))
        members = [_Cycle(np.flatnonzero(labels == name), rng) for name in present]
        turns = _Cycle(np.arange(present.size), rng)
        size = max(size, 2)
        count = min(present.size, size // 2)
        while True:
            places = np.full(count, size // count)
            places[rng.permutation(count)[: size % count]] += 1
            drawn = [
                members[which].take(wanted)
                for which, wanted in zip(
                    turns.take(count), places.tolist(), strict=True
                )
            ]
            yield rng.permutation(np.concatenate(drawn))

    return batches


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

"""Cross-validation splits for few labels: stratified, without leaks, repeated.

How many folds (`choose_folds`): at most as many as the smallest stratum (of classes:
the smallest class) has distinct examples, so that it stands in every validation part.
Strata that together hold at most `RARE_SHARE` of the examples do not bound the number:
one class of 2 must not halve the training data of all others. They still are in every
training part, so every stratum needs 2 distinct examples.

How many repeats: as make about 128 predictions, from 1 to 5. A repeat is another
random partition; it takes away the luck of the partition, not that of the sample.
Repeat 0 is the same whatever the number of repeats, so methods that train may use
`Folds.first` alone and stay comparable.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Int

from fewshot_automl.errors import DataError

MIN_FOLDS: Final = 2
PREDICTIONS_WANTED: Final = 128
MAX_REPEATS: Final = 5
RARE_SHARE: Final = 0.1
_ATTEMPTS: Final = 20

Membership = Int[np.ndarray, "groups strata"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Fold:
    """One split of the examples into what is trained on and what is scored."""

    train: Int[np.ndarray, " train"]
    """Indices to train on, rising."""
    validation: Int[np.ndarray, " validation"]
    """Indices to predict, rising; with `train` they are all examples."""
    repeat: int
    """Which partition the fold belongs to, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Folds:
    """Holds one or more partitions of the same examples."""

    repeats: tuple[tuple[Fold, ...], ...]
    """One partition a repeat; all have the same number of folds."""

    @property
    def first(self) -> tuple[Fold, ...]:
        """Return the partition that every method is scored on."""
        return self.repeats[0]

    @property
    def assignment(self) -> Int[np.ndarray, "repeats examples"]:
        """Return for each repeat in which fold an example is predicted."""
        examples = sum(len(fold.validation) for fold in self.first)
        table = np.empty((len(self.repeats), examples), dtype=np.int64)
        for row, folds in zip(table, self.repeats, strict=True):
            for number, fold in enumerate(folds):
                row[fold.validation] = number
        return table

    def __iter__(self) -> Iterator[Fold]:
        """Yield every fold, repeat after repeat."""
        return (fold for folds in self.repeats for fold in folds)

    def __len__(self) -> int:
        """Return the number of folds in all repeats together."""
        return sum(map(len, self.repeats))


def choose_folds(
    strata: np.ndarray,
    *,
    groups: np.ndarray | Sequence[str] | Sequence[int] | None = None,
    seed: int,
    max_folds: int = 5,
    max_repeats: int = MAX_REPEATS,
) -> Folds:
    """Return stratified folds whose number follows from the size of the strata.

    `strata` holds which strata each example is in, 1 or 0, or the one it is in; leave
    unlabelled examples out. Examples of equal `groups` (duplicates, crops of one
    photograph) stay in one fold. The same seed gives the same folds.

    Raises:
        DataError: If there are no examples, or a stratum has fewer than 2 distinct
            examples.
    """
    examples = len(strata)
    group_of = np.arange(examples)
    if groups is not None:
        group_of = np.unique(np.asarray(groups), return_inverse=True)[1]
    if not strata.size or strata.min() < 0:
        raise DataError(
            f"Strata must be 0 or more, got {strata.min() if strata.size else 'none'}. "
            "Leave unlabelled examples out."
        )
    table = strata if strata.ndim == 2 else np.eye(strata.max() + 1, dtype=int)[strata]
    present = table[:, table.any(axis=0)]
    membership = np.zeros((group_of.max() + 1, present.shape[1]), dtype=np.int64)
    np.add.at(membership, group_of, present)
    distinct = np.count_nonzero(membership, axis=0)
    if distinct.min() < MIN_FOLDS:
        raise DataError(
            f"Every class must have at least 2 distinct examples, got "
            f"{np.count_nonzero(distinct < MIN_FOLDS)} of {len(distinct)} classes with "
            "1. Label another example of them, or leave these classes out."
        )
    order = np.argsort(distinct, kind="stable")
    share = np.cumsum(membership.sum(axis=0)[order]) / membership.sum()
    count = int(min(max_folds, distinct[order][share > RARE_SHARE].min()))
    sizes = np.bincount(group_of)
    wanted = min(max(math.ceil(PREDICTIONS_WANTED / examples), 1), max_repeats)
    partitions: dict[frozenset[bytes], list[Int[np.ndarray, " validation"]]] = {}
    for repeat in range(wanted):
        rng = np.random.default_rng([seed, repeat])
        places = _partition(membership, sizes, count, max_folds, rng)[group_of]
        parts = [np.flatnonzero(places == fold) for fold in range(places.max() + 1)]
        partitions.setdefault(frozenset(part.tobytes() for part in parts), parts)
    every = np.arange(examples)
    return Folds(
        repeats=tuple(
            tuple(
                Fold(train=np.delete(every, part), validation=part, repeat=repeat)
                for part in parts
            )
            for repeat, parts in enumerate(partitions.values())
        )
    )


def _partition(
    membership: Membership,
    sizes: Int[np.ndarray, " groups"],
    count: int,
    max_folds: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, " groups"]:
    """Return the fold of each group, such that no stratum lies in one fold only.

    Only groups that mix strata can make that hard; then other random orders are
    tried, and then more folds.
    """
    for folds in range(count, max(max_folds, count) + 1):
        for _ in range(_ATTEMPTS):
            places = _place(membership, sizes, folds, rng)
            held = np.array(
                [membership[places == fold].any(axis=0) for fold in range(folds)]
            )
            if held.any(axis=1).all() and (held.sum(axis=0) >= MIN_FOLDS).all():
                return places
    raise DataError(
        f"Groups must leave every class in at least 2 of {max_folds} folds, which no "
        "partition found does. Examples with equal content but different labels are "
        "the cause; correct or remove them."
    )


def _place(
    membership: Membership,
    sizes: Int[np.ndarray, " groups"],
    folds: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, " groups"]:
    """Put each group, greatest first, where its strata are scarcest."""
    places = np.empty(len(membership), dtype=np.int64)
    shares = np.zeros((folds, membership.shape[1]))
    totals = np.zeros(folds)
    weights = membership / membership.sum(axis=0)
    order = rng.permutation(len(membership))
    order = order[np.argsort(-sizes[order], kind="stable")]
    for group in order:
        crowding = np.round(shares @ weights[group], 12)
        fold = np.lexsort((rng.random(folds), totals, crowding))[0]
        places[group] = fold
        shares[fold] += weights[group]
        totals[fold] += sizes[group]
    return places

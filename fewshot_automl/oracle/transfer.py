"""Advice from transfer scores: what quick trials say of each option besides a score."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Float64

from fewshot_automl.outcome import ADVICE_PREFIX, History
from fewshot_automl.space import Choice, Config, Space


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """Is one column of advice: some transfer scores, averaged, and its weight."""

    scores: tuple[str, ...]
    """Names of objectives, without their prefix."""
    mean: float
    """Of the weight's prior: standard deviations of the scores that a trial gains from
    an option that is one standard deviation better by this column."""
    deviation: float
    """Standard deviation of the weight's prior."""
    unit: float | None = None
    """What 1 stands for, for scores whose differences mean the same in every study;
    None: the standard deviation over the options."""


COLUMNS: Final = (
    Column(scores=("logme", "h_score", "knn", "probe"), mean=0.6, deviation=0.3),
    Column(scores=("prior",), mean=0.3, deviation=0.3, unit=1.0),
)
"""What features say, and what the zoo says; the unit of the zoo's prior is a rank e
times as high. By `benchmarks/transfer.py weights` on eight tasks of 2 to 6 backbones:
0.59 and 0.33, with errors of 0.11 and 0.17, and a deviation over tasks too small to be
told. Standardised over backbones that the zoo ranks about alike, its prior misled."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferAdviser:
    """Advises by the transfer scores that quick trials have left in the history.

    They are about the options of the space's one `Choice` with descriptors. Each score
    is averaged over an option's trials and centred over the options, by default
    standardised too; an option without it stands at the mean of the others.
    """

    columns: tuple[Column, ...] = COLUMNS
    """What is told, and how much it is believed beforehand."""

    @property
    def weights(self) -> tuple[tuple[float, float], ...]:
        """Return mean and standard deviation of each column's weight beforehand."""
        return tuple((column.mean, column.deviation) for column in self.columns)

    def advise(
        self, space: Space, history: History, configs: Sequence[Config]
    ) -> Float64[np.ndarray, "configs columns"]:
        """Return one row for each Config, 0 where its option or scores are unknown.

        Args:
            space: Where the study searches.
            history: Trials so far; done ones carry the scores.
            configs: What to judge.
        """
        nothing = np.zeros((len(configs), len(self.columns)))
        choice = _described(space)
        if choice is None:
            return nothing
        worth = np.column_stack(
            [_worth(column, choice, history) for column in self.columns]
        )
        places = {option: place for place, option in enumerate(choice.options)}
        for row, config in zip(nothing, configs, strict=True):
            place = places.get(str(config.get(choice.name, "")))
            if place is not None:
                row[:] = worth[place]
        return nothing


def _described(space: Space) -> Choice | None:
    """Return the first dimension whose options are described by numbers."""
    for dimension in space.dimensions:
        if isinstance(dimension, Choice) and dimension.descriptors is not None:
            return dimension
    return None


def _worth(
    column: Column, choice: Choice, history: History
) -> Float64[np.ndarray, " options"]:
    """Return what a column says of each option, 0 where it knows nothing."""
    table = _averages(choice, history, column.scores)
    is_told = np.isfinite(table).any(axis=1)
    mean = _standardised(table, column.unit).mean(axis=1)
    told = np.where(is_told, mean, np.nan)[:, None]
    return np.asarray(_standardised(told, column.unit and 1.0)[:, 0])


def _averages(
    choice: Choice, history: History, names: Sequence[str]
) -> Float64[np.ndarray, "options scores"]:
    """Return each option's mean transfer scores; NaN where no trial told one."""
    total = np.zeros((len(choice.options), len(names)))
    count = np.zeros_like(total)
    places = {option: place for place, option in enumerate(choice.options)}
    for config, outcome in history:
        place = places.get(str(config.get(choice.name, "")))
        if place is None:
            continue
        for column, name in enumerate(names):
            value = outcome.measures.get(f"{ADVICE_PREFIX}{name}", np.nan)
            if np.isfinite(value):
                total[place, column] += value
                count[place, column] += 1
    unknown = np.full_like(total, np.nan)
    return np.asarray(np.divide(total, count, out=unknown, where=count > 0))


def _standardised(
    table: Float64[np.ndarray, "options columns"], unit: float | None
) -> Float64[np.ndarray, "options columns"]:
    """Return columns of mean 0 over what is known, in units; 0 elsewhere.

    The unit of a column is its standard deviation if none is given. Then one that is
    the same for all options says nothing, and neither does one that is known of a
    single option.
    """
    known = np.isfinite(table)
    count = np.maximum(known.sum(axis=0), 1)
    mean = np.where(known, table, 0.0).sum(axis=0) / count
    centred = np.where(known, table - mean, 0.0)
    if unit is not None:
        return np.asarray(centred / unit)
    deviation = np.sqrt((centred**2).sum(axis=0) / count)
    is_told = deviation > 1e-9 * np.maximum(np.abs(mean), 1e-9)
    return np.asarray(np.where(is_told, centred / np.where(is_told, deviation, 1), 0.0))

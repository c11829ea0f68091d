"""How much a trial can be expected to add to a Pareto front within limits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from fewshot_automl.oracle.hypervolume import free_boxes, nondominated
from fewshot_automl.oracle.improvement import LOWEST_BAR, Improvement, normal_draws
from fewshot_automl.oracle.process import Points
from fewshot_automl.oracle.quantity import View
from fewshot_automl.oracle.sampled import Anchors, Intervals, Known, Learnt

PRUNING_SAMPLES = 128
"""Draws in which a seen Config must be on the front once to be compared with."""
MOST_ANCHORS = 32
"""How many seen Configs are compared with at most: those most often on the front."""
FEASIBLE_SHARE = 0.5
"""Share of samples with something seen within the limits that counts as a find."""

Outlook = Learnt | Known
Boxes = tuple[Float64[np.ndarray, "_ goals"], Float64[np.ndarray, "_ goals"]]
"""Lower and upper corners."""


@dataclass(frozen=True, slots=True)
class Prospects:
    """Holds all quantities at some Configs."""

    views: tuple[View, ...]
    """Each quantity: the goals, then what only has a limit."""

    def beside(self, other: "Prospects") -> "Prospects":
        """Return these Configs and then the others."""
        return Prospects(tuple(map(_beside, self.views, other.views)))

    def take(self, chosen: Int64[np.ndarray, " chosen"]) -> "Prospects":
        """Return some of the Configs."""
        return Prospects(
            tuple(
                view.take(chosen) if isinstance(view, Points) else view[chosen]
                for view in self.views
            )
        )

    def means(self) -> Float64[np.ndarray, "rows quantities"]:
        """Return the expected value of each quantity."""
        means = [
            view.means if isinstance(view, Points) else view for view in self.views
        ]
        return np.stack(means, axis=-1)

    def __len__(self) -> int:
        """Return the number of Configs."""
        return len(self.means())


@dataclass(frozen=True, slots=True)
class Standard:
    """Says what is wanted of the quantities, on their standard scales."""

    ranges: tuple[tuple[float, float], ...]
    """Least and most that is allowed of each; infinite where there is no limit."""
    reference: tuple[float, ...]
    """One value for each goal, the first quantities: beyond it improvement counts."""

    def allows(
        self, values: Float64[np.ndarray, "*batch quantities"]
    ) -> Bool[np.ndarray, "*batch"]:
        """Return where all limits are kept."""
        least, most = np.array(self.ranges).T
        return np.asarray(((values >= least) & (values <= most)).all(-1))


@dataclass(frozen=True, slots=True)
class ScoreImprovement:
    """Judges candidates by the score alone, where nothing else is wanted."""

    improvement: Improvement
    """Of the score."""

    def greedy(
        self, points: Prospects, bonus: Float64[np.ndarray, " rows"], n: int
    ) -> list[int]:
        """Return what `Improvement.greedy` does for the only quantity there is."""
        (view,) = points.views
        assert isinstance(view, Points)
        return self.improvement.greedy(view, bonus, n)


class FrontImprovement:
    """Works out the log noisy expected hypervolume improvement, one pick by one.

    All quantities at what was seen and is under way are sampled from their
    posteriors, which are taken to be independent of each other. A sample has a
    Pareto front of those within the limits and boxes that it leaves free. Given the
    sample, the values at a candidate are normal and what it is expected to dominate
    of each box is a product of closed forms. The sum over boxes, times the probability
    that the candidate keeps the limits, is averaged over the samples. A candidate
    that is chosen joins each sample. With one goal that is the noisy expected
    improvement within limits.

    Where most samples have nothing within the limits, the reference is moved far
    away, so that hardly anything but that probability counts: first something
    feasible is looked for. A quantity with a limit that is also a goal counts as
    if its value and its keeping the limit were independent given a sample.

    Source:
        Daulton et al., NeurIPS 2021, for the mean over samples of fronts; Emmerich et
        al., EVOLVE 2016, and Yang et al., J. Global Optimization 2019, for the
        closed form; Ament et al., NeurIPS 2023, for logarithms; Letham et al.,
        Bayesian Analysis 2019, for sampled feasibility and its probability.
    """

    def __init__(
        self,
        seen: Prospects,
        pending: Prospects,
        standard: Standard,
        *,
        samples: int,
        picks: int,
        seed: int,
    ) -> None:
        """Sample the quantities at the Configs that matter.

        Args:
            seen: Done trials, each Config once.
            pending: Configs whose values are to come, apart from those seen.
            standard: What is wanted.
            samples: How many samples.
            picks: How many candidates will be chosen at most.
            seed: Makes the samples repeatable.
        """
        kept = _contenders(seen, standard, seed)
        anchors = seen.take(kept).beside(pending)
        count, quantities = len(anchors), len(anchors.views)
        draws = normal_draws(samples, quantities * (count + picks), seed)
        draws = draws.reshape(samples, quantities, count + picks)
        self._pick_draws = draws[..., count:]
        self._anchors = [
            Anchors.of(view, draws[:, i, :count]) if isinstance(view, Points) else None
            for i, view in enumerate(anchors.views)
        ]
        values = _sampled(anchors, self._anchors, samples)
        is_allowed = standard.allows(values)
        self._limited = [
            (i, least, most)
            for i, (least, most) in enumerate(standard.ranges)
            if math.isfinite(least) or math.isfinite(most)
        ]
        self._standard = standard
        self._reference = np.array(standard.reference)
        if is_allowed[:, : len(kept)].any(axis=1).mean() < FEASIBLE_SHARE:
            self._reference = np.minimum(self._reference, LOWEST_BAR)
        goals = np.where(
            is_allowed[..., None], values[..., : len(self._reference)], -np.inf
        )
        on_front = nondominated(goals)
        self._fronts = [sample[on] for sample, on in zip(goals, on_front, strict=True)]
        self._boxes = [free_boxes(front, self._reference) for front in self._fronts]

    def values(self, points: Prospects) -> Float64[np.ndarray, " rows"]:
        """Return the logarithm of what each candidate is expected to add."""
        return self._gains(self._outlooks(points), self._boxes)

    def greedy(
        self, points: Prospects, bonus: Float64[np.ndarray, " rows"], n: int
    ) -> list[int]:
        """Return up to `n` of the candidates, each the best given those before it.

        Args:
            points: The candidates.
            bonus: Added to the logarithm of what each one adds.
            n: How many, up to `picks`.
        """
        outlooks, bonus = self._outlooks(points), bonus.copy()
        fronts, boxes = list(self._fronts), list(self._boxes)
        chosen: list[int] = []
        for place in range(min(n, len(bonus), self._pick_draws.shape[-1])):
            pick = int(np.argmax(self._gains(outlooks, boxes) + bonus))
            chosen.append(pick)
            bonus[pick] = -math.inf
            draws = self._pick_draws[..., place]
            values = np.stack(
                [one.drawn(pick, draws[:, i]) for i, one in enumerate(outlooks)], -1
            )
            for sample in np.flatnonzero(self._standard.allows(values)).tolist():
                value = values[sample, : len(self._reference)]
                front = np.vstack([fronts[sample], value])
                fronts[sample] = front[nondominated(front)]
                boxes[sample] = free_boxes(fronts[sample], self._reference)
            outlooks = [one.after(pick, draws[:, i]) for i, one in enumerate(outlooks)]
        return chosen

    def _outlooks(self, points: Prospects) -> list[Outlook]:
        """Return each quantity at candidates, given the samples."""
        outlooks: list[Outlook] = []
        for anchors, view in zip(self._anchors, points.views, strict=True):
            if isinstance(view, Points):
                assert anchors is not None
                outlooks.append(anchors.learnt(view))
            else:
                outlooks.append(Known(view))
        return outlooks

    def _gains(
        self, outlooks: Sequence[Outlook], boxes: Sequence[Boxes]
    ) -> Float64[np.ndarray, " rows"]:
        """Return the log of the mean over samples of what is added within limits."""
        counts = np.array([len(lower) for lower, _ in boxes])
        samples = np.repeat(np.arange(len(boxes)), counts)
        lower, upper = (np.concatenate(side) for side in zip(*boxes, strict=True))
        logs = np.zeros(())
        for goal in range(lower.shape[1]):
            intervals = Intervals.of(samples, lower[:, goal], upper[:, goal])
            logs = logs + outlooks[goal].log_lengths(intervals)
        starts = np.cumsum(counts) - counts
        most = np.maximum.reduceat(logs, starts, axis=0)
        sums = np.add.reduceat(np.exp(logs - most[samples]), starts, axis=0)
        gains = most + np.log(sums)
        for quantity, least, highest in self._limited:
            gains = gains + outlooks[quantity].log_chance(least, highest)
        most = gains.max(axis=0)
        return np.asarray(most + np.log(np.exp(gains - most).mean(axis=0)))


def _sampled(
    points: Prospects, anchors: Sequence[Anchors | None], samples: int
) -> Float64[np.ndarray, "samples rows quantities"]:
    """Return the values of all quantities in each sample."""
    values = np.empty((samples, len(points), len(points.views)))
    for i, (view, sampled) in enumerate(zip(points.views, anchors, strict=True)):
        if isinstance(view, Points):
            assert sampled is not None
            values[..., i] = sampled.values()
        else:
            values[..., i] = view
    return values


def _contenders(
    seen: Prospects, standard: Standard, seed: int
) -> Int64[np.ndarray, " contenders"]:
    """Return which Configs may be on the front, as far as one can tell, in order."""
    generator = np.random.default_rng(seed)
    anchors = [
        Anchors.of(view, generator.standard_normal((PRUNING_SAMPLES, len(seen))))
        if isinstance(view, Points)
        else None
        for view in seen.views
    ]
    values = _sampled(seen, anchors, PRUNING_SAMPLES)
    is_allowed = standard.allows(values)
    goals = values[..., : len(standard.reference)]
    goals = np.where(is_allowed[..., None], goals, -np.inf)
    times = (nondominated(goals) & is_allowed).sum(axis=0)
    often = np.argsort(-times, kind="stable")[:MOST_ANCHORS]
    return np.sort(often[times[often] > 0])


def _beside(left: View, right: View) -> View:
    if isinstance(left, Points) and isinstance(right, Points):
        return left.beside(right)
    assert not isinstance(left, Points)
    assert not isinstance(right, Points)
    return np.concatenate([left, right])

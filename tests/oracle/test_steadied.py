"""Scores moved towards what their refinement lets expect."""

import math
from dataclasses import replace

import numpy as np
import pytest
from fewshot_automl.oracle.steadied import (
    LEAST_PAIRS,
    comparable_scores,
    steadied,
)
from fewshot_automl.oracle.winner import incumbent
from hypothesis import given
from hypothesis import strategies as st

from fewshot_automl.outcome import REFINEMENT, Outcome
from fewshot_automl.space import Config, Float, Space

SPACE = Space((Float(name="x", low=0.0, high=1.0),))
FINITE = st.floats(-1e150, 1e150, allow_nan=False)


def trial(x, score, loss):
    return Config.of({"x": x}), Outcome(
        status="done",
        mean=score,
        standard_error=0.07,
        measures={REFINEMENT: loss},
    )


def simulated_history(count):
    _, scores, losses = simulated(count)
    pairs = zip(scores.tolist(), losses.tolist(), strict=True)
    return [trial(x / 20, *pair) for x, pair in enumerate(pairs)]


def moved(scores, losses):
    return steadied(scores, losses, scores, losses)


def simulated(count, seed=0):
    """Return trials of 48 examples: true accuracy, score, and refinement loss."""
    luck = np.random.default_rng(seed)
    truth = luck.uniform(0.5, 0.8, count)
    score = luck.binomial(48, truth) / 48
    return truth, score, 1.5 - truth + luck.normal(0, 0.03, count)


def test_it_comes_nearer_to_the_truth():
    plain, better = [], []
    for seed in range(50):
        truth, score, loss = simulated(15, seed)
        plain.append(truth.max() - truth[score.argmax()])
        better.append(truth.max() - truth[moved(score, loss).argmax()])
    assert np.mean(better) < 0.7 * np.mean(plain)


@pytest.mark.parametrize("better", [3, 9])
def test_of_equal_scores_the_one_that_refines_better_wins(better):
    scores = [0.4, 0.5, 0.6, 0.8, 0.5, 0.4, 0.6, 0.5, 0.7, 0.8, 0.6, 0.5]
    losses = [1.5 - score for score in scores]
    losses[better] = 0.6
    history = [
        trial(x / 12, *pair) for x, pair in enumerate(zip(scores, losses, strict=True))
    ]
    assert incumbent(SPACE, history, 0) == better


@given(st.lists(st.tuples(FINITE, FINITE), min_size=1, max_size=20))
def test_any_numbers_give_finite_scores_of_the_same_size(pairs):
    scores, losses = np.array(pairs).T
    found = moved(scores, losses)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 2 * np.abs(scores).max()


def test_the_mean_stays():
    _, scores, losses = simulated(15)
    assert moved(scores, losses).mean() == pytest.approx(scores.mean())


def test_a_score_far_below_all_others_does_not_take_over_the_line():
    _, scores, losses = simulated(12)
    scores[5], losses[5] = -30.0, 1.6
    found = moved(scores, losses)
    assert found[5] == -30.0
    others = np.arange(12) != 5
    assert np.abs(found - scores)[others].max() < 0.2


def test_a_loss_that_says_the_opposite_moves_nothing():
    scores = np.linspace(0, 1, 10)
    np.testing.assert_array_equal(moved(scores, scores), scores)
    np.testing.assert_array_equal(moved(scores, np.ones(10)), scores)


@pytest.mark.parametrize("known", [0, LEAST_PAIRS - 1])
def test_few_losses_move_nothing(known):
    _, scores, losses = simulated(10)
    losses[known:] = math.nan
    np.testing.assert_array_equal(moved(scores, losses), scores)


def test_scores_without_a_loss_stay():
    _, scores, losses = simulated(10)
    losses[7:] = math.nan
    found = moved(scores, losses)
    np.testing.assert_array_equal(found[7:], scores[7:])
    np.testing.assert_array_equal(found[:7], moved(scores[:7], losses[:7]))


def test_the_line_is_that_of_the_whole_history():
    history = simulated_history(12)
    every, _ = comparable_scores(history, range(12))
    some, _ = comparable_scores(history, (3, 11))
    np.testing.assert_array_equal(some, every[[3, 11]])


def test_nothing_moves_where_a_trial_of_an_earlier_version_stands():
    history = simulated_history(10)
    config, outcome = history[0]
    history[0] = config, replace(outcome, measures={})
    found, _ = comparable_scores(history, range(10))
    np.testing.assert_array_equal(found, [outcome.mean for _, outcome in history])


def test_of_scores_that_may_all_be_luck_the_steadied_one_is_the_best_guess():
    _, scores, losses = simulated(12, seed=2)
    rows = enumerate(zip(scores.tolist(), losses.tolist(), strict=True))
    history = [trial(x / 12, *row) for x, row in rows]
    steady, _ = comparable_scores(history, range(12))
    elsewhere = Space((Float(name="y", low=0.0, high=1.0),))  # encodes none of them
    assert steady.argmax() != scores.argmax()
    assert incumbent(elsewhere, history, 0) == steady.argmax()

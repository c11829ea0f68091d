"""Scores moved towards what their refinement lets expect."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_automl.oracle.folds import fold_adjusted
from fewshot_automl.oracle.steadied import LEAST_PAIRS, comparable_scores, steadied
from fewshot_automl.oracle.winner import incumbent
from fewshot_automl.outcome import REFINEMENT, Outcome
from fewshot_automl.space import Config, Float, Space

SPACE = Space((Float(name="x", low=0.0, high=1.0),))
FINITE = st.floats(-1e150, 1e150, allow_nan=False)


def trial(x, score, loss=None, left=0):
    told = {} if loss is None else {REFINEMENT: loss}
    scores = (score,) * (3 - left)
    return Config.of({"x": x}), Outcome(
        status="done",
        mean=score,
        scores=scores,
        standard_error=0.07,
        objectives=told,
        folds_left=left,
    )


def simulated(count, seed=0):
    """Return trials of 48 examples: true accuracy, score, and refinement loss."""
    luck = np.random.default_rng(seed)
    truth = luck.uniform(0.5, 0.8, count)
    score = luck.binomial(48, truth) / 48
    return truth, score, 1.5 - truth + luck.normal(0, 0.03, count)


def test_it_comes_nearer_to_the_truth():
    raw, moved = [], []
    for seed in range(50):
        truth, score, loss = simulated(15, seed)
        raw.append(truth.max() - truth[score.argmax()])
        moved.append(truth.max() - truth[steadied(score, loss).argmax()])
    assert np.mean(moved) < 0.7 * np.mean(raw)


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
def test_any_numbers_give_finite_scores_with_the_same_mean(pairs):
    scores, losses = np.array(pairs).T
    found = steadied(scores, losses)
    assert np.isfinite(found).all()
    size = np.abs(scores).max()
    assert found.mean() == pytest.approx(scores.mean(), abs=1e-6 * size)


def test_a_loss_that_says_the_opposite_moves_nothing():
    scores = np.linspace(0, 1, 10)
    np.testing.assert_array_equal(steadied(scores, scores), scores)
    np.testing.assert_array_equal(steadied(scores, np.ones(10)), scores)


@pytest.mark.parametrize("known", [0, LEAST_PAIRS - 1])
def test_few_losses_move_nothing(known):
    _, scores, losses = simulated(10)
    losses[known:] = math.nan
    np.testing.assert_array_equal(steadied(scores, losses), scores)


def test_scores_without_a_loss_stay():
    _, scores, losses = simulated(10)
    losses[7:] = math.nan
    found = steadied(scores, losses)
    np.testing.assert_array_equal(found[7:], scores[7:])
    np.testing.assert_array_equal(found[:7], steadied(scores[:7], losses[:7]))


def test_first_looks_and_variances_are_those_of_adjusted_folds():
    _, scores, losses = simulated(8)
    history = [
        trial(x / 9, s, c)
        for x, (s, c) in enumerate(zip(scores.tolist(), losses.tolist(), strict=True))
    ]
    history.append(trial(1.0, 0.9, 0.1, left=2))
    means, variances = comparable_scores(history, range(9))
    adjusted = fold_adjusted(history, range(9))
    assert means[8] == adjusted[0][8]
    assert (means[:8] != adjusted[0][:8]).all()
    np.testing.assert_array_equal(variances, adjusted[1])

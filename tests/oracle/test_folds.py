"""Trials of some folds beside trials of all."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_automl.oracle.folds import (
    fold_adjusted,
    is_hopeless,
    latest,
    resumable,
)
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config

RUNNING = Outcome(status="running")
STOPPED = Outcome(status="stopped", reason="late")
FAILED = Outcome(status="failed", reason="why")


def config(x):
    return Config.of({"x": x})


def done(*scores, left=0, error=0.05, mean=None):
    return Outcome(
        status="done",
        scores=scores,
        mean=float(np.mean(scores)) if mean is None else mean,
        standard_error=error,
        folds_left=left,
    )


LOOK, WHOLE = done(0.5, left=2), done(0.5, 0.6, 0.7)


@pytest.mark.parametrize(
    ("second", "standing", "is_resumable"),
    [
        (WHOLE, [1], False),
        (FAILED, [1], False),
        (RUNNING, [0, 1], False),
        (STOPPED, [0, 1], False),
        (done(0.5, 0.6, left=1), [1], True),
    ],
)
def test_a_later_trial_takes_the_place_of_a_look(second, standing, is_resumable):
    history = [(config(1), LOOK), (config(1), second)]
    assert latest(history) == standing
    assert resumable(history) == ([config(1)] if is_resumable else [])


def test_trials_of_other_configs_replace_nothing():
    history = [
        (config(1), LOOK),
        (config(2), STOPPED),
        (config(2), WHOLE),
        (config(3), LOOK),
        (config(4), FAILED),
        (config(1), RUNNING),
        (config(3), WHOLE),
    ]
    assert latest(history) == [0, 1, 2, 4, 5, 6]
    assert resumable(history) == []
    assert resumable(history[:4]) == [config(1), config(3)]
    assert latest([]) == resumable([]) == []


def trials(whole, looks=(), error=0.05):
    rows = [done(*row, error=error) for row in whole]
    rows += [done(*row, left=len(whole[0]) - len(row), error=0.1) for row in looks]
    return [(config(x), row) for x, row in enumerate(rows)]


def test_the_effect_of_a_fold_is_taken_off():
    """All trials score 0.1 more on the first fold; what is seen of it alone is not."""
    whole = [(b + 0.1, b - 0.05, b - 0.05) for b in (0.6, 0.7, 0.75, 0.8)]
    means, _ = fold_adjusted(trials(whole, [(0.9,), (0.9, 0.75)]), range(6))
    assert means[:4] == pytest.approx([0.6, 0.7, 0.75, 0.8])
    assert means[4] == pytest.approx(0.8, abs=0.015)
    assert means[5] == pytest.approx(0.825 - 0.025, abs=0.01)


def test_few_trials_correct_less_than_many():
    rng = np.random.default_rng(0)
    effects = np.array([0.06, 0.0, -0.06])
    rows = (0.7 + effects + rng.normal(0, 0.04, (20, 3))).tolist()
    off = []
    for count in (1, 20):
        history = trials(rows[:count], [(0.8,)])
        off.append(0.8 - fold_adjusted(history, [count])[0][0])
    assert -1e-9 <= off[0] < off[1] == pytest.approx(0.06, abs=0.02)


def test_without_whole_trials_it_is_what_they_say_themselves():
    history = trials([(0.5, 0.6, 0.7)], [(0.9,)])[1:]
    means, variances = fold_adjusted(history, [0])
    assert (means[0], variances[0]) == (0.9, pytest.approx(0.01))


def test_scores_without_folds_are_left_as_they_are():
    bare = Outcome(status="done", mean=0.4, standard_error=0.03)
    odd = done(0.5, math.nan, 0.6, mean=0.55, error=math.nan)
    one = done(0.5, mean=0.5, error=0.07)
    history = [*trials([(0.5, 0.6, 0.7)] * 3), *((None, o) for o in (bare, odd, one))]
    history = [(config(x), o) for x, (_, o) in enumerate(history)]
    means, variances = fold_adjusted(history, [3, 4, 5])
    assert means.tolist() == [0.4, 0.55, 0.5]
    assert variances[[0, 2]] == pytest.approx([0.03**2, 0.07**2])
    assert np.isnan(variances[1])
    nothing = fold_adjusted([], [])
    assert [part.shape for part in nothing] == [(0,), (0,)]


def test_standard_errors_say_how_sure_a_mean_is():
    rows = [(0.5, 0.6, 0.7), (0.6, 0.7, 0.7), (0.5, 0.5, 0.7)]
    history = trials(rows, [(0.8,)])
    means, variances = fold_adjusted(history, range(4))
    assert np.sqrt(variances[:3]) == pytest.approx(0.05)
    assert means[:3] == pytest.approx(np.mean(rows, axis=1))
    assert variances[3] >= 0.1**2


def test_a_trial_gone_astray_spoils_nothing():
    rng = np.random.default_rng(3)
    rows = rng.normal(-0.5, 0.02, (12, 3)).tolist()
    plain = fold_adjusted(trials([*rows], [(-0.5,)]), range(13))
    astray = [(-0.5, -90.0, -0.6)]
    history = trials([*rows, *astray], [(-0.5,)])
    means, variances = fold_adjusted(history, [*range(12), 13, 12])
    assert means[:13] == pytest.approx(plain[0], abs=1e-9)
    assert variances[:13] == pytest.approx(plain[1], rel=1e-6)


def test_replaced_trials_teach_nothing():
    history = trials([(0.5, 0.6, 0.7)] * 4, [(0.9,)])
    before = fold_adjusted(history, [0, 4])
    later = [*history, (config(4), FAILED)]
    assert np.array_equal(fold_adjusted(later, [0])[1], before[1][:1])
    whole = [*history, (config(4), done(0.9, 0.9, 0.9))]
    assert fold_adjusted(whole, [5])[0] == pytest.approx([0.9])


@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=3, max_size=3),
        max_size=6,
    ),
    st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=2),
    st.sampled_from([0.0, 0.05, math.nan]),
)
def test_numbers_are_always_usable(whole, look, error):
    """Shares of few examples are often equal, errors missing, variances zero."""
    rows = [done(*row, error=error) for row in whole]
    rows.append(done(*look, left=3 - len(look), error=error))
    history = [(config(i), row) for i, row in enumerate(rows)]
    means, variances = fold_adjusted(history, range(len(rows)))
    assert np.isfinite(means).all()
    assert not (variances < 0).any()
    if not math.isnan(error):
        assert np.isfinite(variances).all()


def test_the_hopeless_are_those_with_less_than_one_chance_in_twenty():
    deviations = np.array([0.1, 0.1, 0.0, 0.0])
    gains = np.array([-0.17, -0.16, -1e-9, 0.0])
    assert is_hopeless(gains, deviations).tolist() == [True, False, True, False]

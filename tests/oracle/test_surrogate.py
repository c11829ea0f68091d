import logging

import numpy as np
import pytest
from fewshot_automl.oracle.evidence import Evidence
from fewshot_automl.oracle.likelihood import Pairs
from fewshot_automl.oracle.surrogate import (
    SurrogateError,
    fit_scores,
    likelihood_of,
    standardised,
)
from numpy.linalg import LinAlgError

from fewshot_automl.oracle import RandomOracle, surrogate
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Float, Space

LINE = Space((Float(name="x", low=0.0, high=1.0),))


def evidence(count=12, scale=1.0, error=0.01):
    configs = RandomOracle().suggest(LINE, [], count, 0)
    return Evidence.of(
        LINE,
        [
            (
                config,
                Outcome(
                    status="done",
                    mean=scale * np.sin(5 * config["x"]),
                    standard_error=scale * error,
                ),
            )
            for config in configs
        ],
    )


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_scores_of_any_size_become_standard(scale):
    numbers = scale * np.array([1.0, 2.0, 4.0])
    scores = standardised(numbers, scale * np.array([0.1, np.nan, 0.1]))
    assert scores.values.mean() == pytest.approx(0)
    assert scores.values.std() == pytest.approx(1)
    np.testing.assert_allclose(scores.centre + scores.unit * scores.values, numbers)
    np.testing.assert_allclose(
        np.sqrt(scores.variances) * scores.unit, 0.1 * scale, rtol=1e-9
    )


def test_a_diverged_score_does_not_flatten_the_others():
    numbers = np.array([0.5, 0.6, 0.7, 0.8, -1e6])
    values = standardised(numbers, np.full(5, 0.01)).values
    assert values.argmin() == 4
    assert values[3] - values[0] > 0.5


def test_folds_that_agree_by_chance_are_not_free_of_noise():
    scores = standardised(np.arange(4.0), np.array([0.0, 0.3, 0.3, 0.3]))
    assert scores.variances[0] == pytest.approx(scores.variances[1] / 9)


def test_unknown_noise_is_inferred():
    scores = standardised(np.arange(3.0), np.full(3, np.nan))
    assert not scores.has_errors
    assert scores.variances.tolist() == [1.0, 1.0, 1.0]


def wavy(noise, error):
    """Return trials of a wave, their noise and what they say of it."""
    rng = np.random.default_rng(0)
    configs = RandomOracle().suggest(LINE, [], 40, 0)
    return Evidence.of(
        LINE,
        [
            (
                config,
                Outcome(
                    status="done",
                    mean=np.sin(5 * config["x"]) + noise * rng.standard_normal(),
                    standard_error=error,
                ),
            )
            for config in configs
        ],
    )


def test_luck_that_is_common_to_all_trials_is_told_from_noise():
    """Errors of 0.3 each, of which only 0.1 differs from trial to trial."""
    own, shared = (fit_scores(wavy(x, 0.3), steps=60, seed=0) for x in (0.3, 0.1))
    assert 0.4 < own.factor < 2
    assert shared.factor < 0.25


def test_noise_may_not_vanish_where_errors_are_known():
    fitted = fit_scores(wavy(0.0, 0.1), steps=200, seed=0)
    assert fitted.factor >= surrogate.LEAST_SHARE


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_posterior_means_speak_in_the_units_of_the_scores(scale):
    seen = evidence(scale=scale)
    means = fit_scores(seen, steps=40, seed=0).means(seen.rows("done"))
    np.testing.assert_allclose(means, seen.scores()[:, 0], atol=0.05 * scale)


def test_a_failed_fit_is_tried_again_more_carefully_and_said(monkeypatch, caplog):
    def fail(*_):
        raise LinAlgError("no luck")

    monkeypatch.setattr(surrogate, "tuned", fail)
    with caplog.at_level(logging.WARNING):
        fitted = fit_scores(evidence(), steps=10, seed=0)
    assert caplog.text.count("no luck") == 2
    assert np.isfinite(fitted.means(evidence().rows("done"))).all()


def test_when_nothing_helps_it_says_so(monkeypatch, caplog):
    def fail(*_):
        raise LinAlgError("no luck")

    monkeypatch.setattr(surrogate, "likelihood_of", fail)
    with pytest.raises(SurrogateError, match="12 trials"):
        fit_scores(evidence(), steps=10, seed=0)
    assert caplog.text.count("no luck") == 3


def test_a_fit_is_no_worse_than_its_start_and_at_rest():
    seen = wavy(0.1, 0.1)
    fitted = fit_scores(seen, steps=200, seed=0)
    scores = standardised(*seen.scores().T)
    layout = seen.encoding.layout
    likelihood = likelihood_of(Pairs(layout, seen.rows("done")), scores, 1e-4)
    kernel = fitted.process.kernel
    logs = np.log([*kernel.lengthscales, *kernel.branches, kernel.scale, fitted.factor])
    start, _ = likelihood.loss(likelihood.priors.log_modes)
    end, slope = likelihood.loss(logs)
    assert end < start
    assert abs(slope).max() < 0.01


@pytest.mark.parametrize(
    ("numbers", "errors"),
    [
        ([1e-300, 2e-300, 3e-300], [1e9, 1e300, 0.1]),
        ([-1.7e308, 1.7e308, 0.0], [1e300, np.nan, 1.0]),
        ([5e-324, 0.0, 1e-323], [0.0, 0.0, 0.0]),
    ],
)
def test_numbers_of_any_size_are_standardised(numbers, errors):
    scores = standardised(np.array(numbers), np.array(errors))
    assert np.isfinite(scores.values).all()
    assert scores.values.std() == pytest.approx(1.0)
    assert np.isfinite(scores.variances).all()

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewshot_automl.tasks import metric_named
from fewshot_automl.tasks.calibration import (
    TEMPERATURES,
    apply_temperature,
    expected_calibration_error,
    fit_temperature,
    refinement_loss,
)

log_loss = metric_named("log_loss").score


def sample(seed, n, classes=4, sharpness=1.0):
    rng = np.random.default_rng(seed)
    proba = rng.dirichlet(np.full(classes, 0.5), n)
    labels = np.array([rng.choice(classes, p=row) for row in proba])
    return apply_temperature(proba, 1 / sharpness), labels


def test_the_error_vanishes_for_honest_and_grows_for_boastful_predictions():
    honest = expected_calibration_error(*sample(0, 4000))
    boastful = expected_calibration_error(*sample(0, 4000, sharpness=3.0))
    assert honest < 0.03 < 0.1 < boastful


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_of_many_examples_is_found(sharpness):
    proba, labels = sample(2, 4000, sharpness=sharpness)
    assert fit_temperature(proba, labels) == pytest.approx(sharpness, rel=0.1)


def test_few_examples_do_not_sharpen_and_soon_soften():
    rng = np.random.default_rng(0)
    labels = np.arange(16) % 2
    timid = np.eye(2)[labels] * 0.2 + 0.4  # right each time, and 0.6 sure
    assert fit_temperature(timid, labels) == 1
    assert fit_temperature(np.tile(timid, (9, 1)), np.tile(labels, 9)) < 0.5
    boastful = np.eye(2)[rng.permutation(labels)] * 0.98 + 0.01
    assert fit_temperature(boastful, labels) > 2


def test_an_example_counts_once_however_often_it_was_predicted():
    proba, labels = sample(3, 30, sharpness=3.0)
    once = fit_temperature(proba, labels)
    assert once > 1
    assert fit_temperature(np.stack([proba] * 5), labels) == pytest.approx(once)


@pytest.mark.parametrize("wrong", [0, 1, 8, 16])
def test_the_temperature_stays_sane_on_sixteen_examples(wrong):
    labels = np.array([0, 1] * 8)
    answers = labels.copy()
    answers[:wrong] = 1 - answers[:wrong]
    proba = np.where(np.eye(2)[answers] > 0, 1.0, 0.0)
    temperature = fit_temperature(proba, labels)
    assert TEMPERATURES[0] <= temperature <= TEMPERATURES[1]
    mended = apply_temperature(proba, temperature)
    assert np.isfinite(mended).all()
    assert mended.sum(axis=1) == pytest.approx(1.0)
    soft = np.full((16, 2), 0.3) + 0.4 * np.eye(2)[answers]
    assert 0.2 < fit_temperature(soft, labels) < 8


@settings(deadline=None)
@given(
    seed=st.integers(0, 999), sharpness=st.floats(0.3, 2.5), classes=st.integers(2, 6)
)
def test_refinement_does_not_depend_on_confidence(seed, sharpness, classes):
    proba, labels = sample(seed, 60, classes)
    # Mixed with even odds, so that no sharpening brings one below `LEAST`.
    proba = 0.95 * proba + 0.05 / classes
    other = refinement_loss(apply_temperature(proba, 1 / sharpness), labels)
    assert other == pytest.approx(refinement_loss(proba, labels), abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_refinement_is_at_most_the_log_loss_and_zero_where_all_is_clear(seed):
    proba, labels = sample(seed, 60, sharpness=2.0)
    assert 0 < refinement_loss(proba, labels) <= -log_loss(labels, proba)
    assert refinement_loss(np.eye(4)[labels], labels) == pytest.approx(0, abs=1e-6)

import numpy as np
import pytest

from fewshot_automl.automl.scoring import cross_calibrated, honest_score
from fewshot_automl.evaluation.predictions import Predictions, save_predictions
from fewshot_automl.evaluation.resampling import pooled_score
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config
from fewshot_automl.tasks.class_metrics import CLASS_METRICS


def sure(truth, rng, right):
    """Return predictions that name the true class with probability `right`."""
    named = np.where(rng.random(len(truth)) < right, truth, (truth + 1) % 3)
    return np.eye(3)[named] * 0.9 + 0.1 / 3


@pytest.fixture
def study(tmp_path):
    rng = np.random.default_rng(0)
    labels = np.arange(48) % 3
    folds = np.tile(np.arange(48) // 12, (3, 1))
    history = []
    for number, right in enumerate((0.5, 0.6, 0.7)):
        proba = np.stack([sure(labels, rng, right) for _ in range(3)])
        file = f"{number}.safetensors"
        save_predictions(tmp_path / file, Predictions(proba=proba, folds=folds))
        score = pooled_score("macro_f1", labels, proba)
        outcome = Outcome(status="done", mean=score, predictions=file)
        history.append((Config.of({"number": number}), outcome))
    return tmp_path, labels, folds, history


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "log_loss"])
def test_model_is_the_pick_whatever_it_was_picked_for(study, metric):
    folder, labels, _, history = study
    poor = np.stack([sure(labels, np.random.default_rng(9), 0.4)])
    smoothed = {i: pooled_score(metric, labels, _proba(folder, i)) for i in range(3)}
    score = honest_score(history, smoothed, poor, labels, metric, folder, seed=0)
    measured = CLASS_METRICS[metric]
    assert score.raw == pytest.approx(
        measured.orient(pooled_score(metric, labels, poor))
    )
    assert score.low <= score.corrected <= score.high


def test_correction_takes_something_off_the_best_of_equals(tmp_path):
    rng = np.random.default_rng(1)
    labels = np.arange(48) % 3
    folds = np.zeros((1, 48), dtype=np.int64)
    history = []
    for number in range(12):
        proba = sure(labels, rng, 0.6)[None]
        file = f"{number}.safetensors"
        save_predictions(tmp_path / file, Predictions(proba=proba, folds=folds))
        mean = pooled_score("accuracy", labels, proba)
        outcome = Outcome(status="done", mean=mean, predictions=file)
        history.append((Config.of({"number": number}), outcome))
    smoothed = {i: outcome.mean for i, (_, outcome) in enumerate(history)}
    best = max(smoothed, key=smoothed.get)
    model = _proba(tmp_path, best)
    score = honest_score(history, smoothed, model, labels, "accuracy", tmp_path, seed=0)
    assert score.corrected < score.raw
    assert score.low < 0.6 < score.high


def test_calibration_of_a_fold_never_sees_its_own_labels():
    rng = np.random.default_rng(2)
    labels = np.arange(40) % 2
    folds = (np.arange(40) // 10)[None]
    proba = rng.dirichlet([1, 1], size=40)[None]
    before = cross_calibrated(labels, proba, folds)
    flipped = labels.copy()
    flipped[:10] = 1 - flipped[:10]
    after = cross_calibrated(flipped, proba, folds)
    np.testing.assert_array_equal(before[0, :10], after[0, :10])
    assert not np.allclose(before[0, 10:], after[0, 10:])
    np.testing.assert_array_equal(before.argmax(-1), proba.argmax(-1))


def _proba(folder, number):
    from fewshot_automl.evaluation.predictions import load_predictions

    return load_predictions(folder / f"{number}.safetensors").proba

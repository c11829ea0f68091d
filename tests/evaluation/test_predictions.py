import numpy as np
import pytest
from fewshot_automl.evaluation.predictions import (
    Predictions,
    load_predictions,
    save_predictions,
)

from fewshot_automl.errors import LedgerError
from fewshot_automl.evaluation.folds import choose_folds


def example():
    folds = choose_folds(np.array([0, 1] * 5), seed=0)
    proba = np.random.default_rng(0).dirichlet([1, 1], (len(folds.repeats), 10))
    proba[1, folds.repeats[1][0].validation] = np.nan
    return Predictions(proba=proba, folds=folds.assignment)


def test_what_was_saved_is_loaded(tmp_path):
    path = tmp_path / "new" / "trial.safetensors"
    written = example()
    save_predictions(path, written)
    save_predictions(path, written)
    read = load_predictions(path)
    np.testing.assert_array_equal(read.proba, written.proba)
    np.testing.assert_array_equal(read.folds, written.folds)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_views_and_narrow_numbers_are_saved(tmp_path):
    proba = np.arange(24, dtype=np.float32).reshape(4, 3, 2).transpose(1, 0, 2)[:, ::2]
    folds = np.zeros((3, 2), dtype=np.int32)
    save_predictions(tmp_path / "p", Predictions(proba=proba, folds=folds))
    np.testing.assert_array_equal(load_predictions(tmp_path / "p").proba, proba)


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "trial.safetensors"
    with pytest.raises(LedgerError, match=r"trial\.safetensors"):
        load_predictions(path)
    save_predictions(path, example())
    whole = path.read_bytes()
    for cut in (0, 5, 40, len(whole) - 1):
        path.write_bytes(whole[:cut])
        with pytest.raises(LedgerError, match="Run that trial again"):
            load_predictions(path)


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "trial.safetensors"
    save_predictions(path, example())
    before = path.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(LedgerError, match="No space left"):
        save_predictions(path, example())
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]

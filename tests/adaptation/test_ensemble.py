import numpy as np
import pytest

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.majority import Constant
from fewshot_automl.adaptation.saved import Ensemble, Member, load_fitted, save_fitted
from fewshot_automl.errors import ExportError
from fewshot_automl.tasks.calibration import apply_temperature

TEXTS = Encodings(inputs=("a", "b"), encoder=None)


def member(*proba, temperature=1.0):
    return Member(
        fitted=Constant(output=np.array(proba)),
        calibration={"temperature": temperature},
        encoder=None,
    )


def test_averages_calibrated_probabilities():
    sure, unsure = np.array([[0.99, 0.01]]), np.array([[0.4, 0.6]])
    model = Ensemble(members=(member(*sure[0], temperature=3.0), member(*unsure[0])))
    expected = (apply_temperature(sure, 3.0) + unsure) / 2
    np.testing.assert_allclose(model.outputs(TEXTS), np.tile(expected, (2, 1)))
    assert model.is_finite


def test_one_broken_member_breaks_it():
    assert not Ensemble(members=(member(0.5, 0.5), member(np.nan, 0.5))).is_finite


def test_comes_back_from_disk_and_again(tmp_path):
    model = Ensemble(members=(member(0.9, 0.1, temperature=2.0), member(0.3, 0.7)))
    expected = model.outputs(TEXTS)
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        again = load_fitted(folder, save_fitted(model, folder))
        assert isinstance(again, Ensemble)
        np.testing.assert_array_equal(again.outputs(TEXTS), expected)
        model = again


def test_a_kind_of_a_newer_version_is_refused(tmp_path):
    with pytest.raises(ExportError, match="Update"):
        load_fitted(tmp_path, {"kind": "oracle of Delphi"})

import gc

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_val_score

from fewshot_automl import FewShotClassifier
from fewshot_automl.errors import UserError
from fewshot_automl.places import cache_folder
from fewshot_automl.predictor import Predictor


def classifier(**values):
    options = {
        "budget": "none",
        "trials": 2,
        "backbones": ("tiny-bert",),
        "methods": ["tfidf", "probe"],
    }
    return FewShotClassifier(**{**options, **values})


def test_keeps_sklearns_conventions():
    model = classifier()
    assert model.get_params() == {
        "budget": "none",
        "trials": 2,
        "metric": None,
        "backbones": ("tiny-bert",),
        "methods": ["tfidf", "probe"],
        "seed": 0,
    }
    assert model.set_params(seed=4) is model
    twin = clone(model)
    assert twin.get_params() == model.get_params()
    assert twin is not model
    with pytest.raises(NotFittedError):
        model.predict(["x"])
    with pytest.raises(NotFittedError):
        model.save("x")
    assert repr(FewShotClassifier()) == "FewShotClassifier()"


def test_fits_and_predicts_words(texts):
    model = classifier()
    assert model.fit(*texts) is model
    assert model.classes_.tolist() == ["film", "name", "place"]
    proba = model.predict_proba(texts[0])
    assert proba.shape == (18, 3)
    np.testing.assert_array_equal(
        model.predict(texts[0]), model.classes_[proba.argmax(axis=1)]
    )
    assert model.score(*texts) > 0.5
    assert model.result_.task.names == ("film", "name", "place")


@pytest.mark.parametrize("classes", [(30, 4, 200), (-1.5, 0.0, 2.5), ("b", "a|c", "c")])
def test_labels_come_back_as_they_were_given(texts, classes, tmp_path):
    y = np.array(classes)[np.repeat([0, 1, 2], 6)]
    model = classifier(trials=1, methods=("tfidf",)).fit(np.array(texts[0]), y)
    np.testing.assert_array_equal(model.classes_, np.unique(y))
    found = model.predict(texts[0])
    assert found.dtype == y.dtype
    assert (found == y).mean() > 0.8
    saved = Predictor.load(model.save(tmp_path / "model")).predict(texts[0])
    assert saved == [str(label) for label in found]


def test_cross_validates_truth_values_on_a_list_of_texts(texts):
    labels = np.tile([True, False], 9)
    scores = cross_val_score(
        classifier(trials=1, methods=("majority",)), texts[0], labels, cv=2
    )
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()
    gc.collect()
    assert list((cache_folder() / "studies").iterdir()) == []


def test_refuses_what_cannot_be_learnt(texts):
    with pytest.raises(UserError):
        classifier().fit(texts[0], ["same"] * 18)
    with pytest.raises(UserError):
        classifier().fit(texts[0], texts[1][:-1])

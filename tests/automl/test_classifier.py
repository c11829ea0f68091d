import copy
import io
import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils import estimator_checks

from fewshot_automl import FewShotClassifier
from fewshot_automl.automl.record import settings_of
from fewshot_automl.errors import DataError, UserError
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
        **dict.fromkeys(("limits", "prior", "device", "out")),
        "progress": False,
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


def cheap(**values):
    return classifier(trials=1, methods="tfidf", **values)


@pytest.fixture(scope="module")
def fitted(texts):
    return cheap().fit(*texts)


FORMS = {
    "a tuple": tuple,
    "an array [n, 1]": lambda t: np.array(t, dtype=object).reshape(-1, 1),
    "a Series with an index of its own": lambda t: pd.Series(t, index=range(9, 27)),
    "a Series of type string": lambda t: pd.Series(t, dtype="string"),
    "a Series of type category": lambda t: pd.Series(t, dtype="category"),
    "an Index": pd.Index,
    "a frame of one column": lambda t: pd.DataFrame({"a": t}),
    "a frame with numbers for names": lambda t: pd.DataFrame({0: range(18), 1: t}),
    "a frame with tuples for names": lambda t: pd.DataFrame({("a", 1): t}),
    "a mapping of columns": lambda t: {"a": t},
    "rows": lambda t: [{"a": x} for x in t],
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_examples_in_any_form_are_the_same_examples(form, texts, fitted):
    wanted = fitted.predict_proba(texts[0])
    np.testing.assert_allclose(fitted.predict_proba(form(texts[0])), wanted)
    again = cheap().fit(form(texts[0]), texts[1])
    np.testing.assert_allclose(again.predict_proba(form(texts[0])), wanted, rtol=1e-5)


def test_one_text_is_one_example_and_no_file(texts, fitted, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "good film").write_text("no text of ours")
    assert fitted.predict("good film").tolist() == ["film"]
    with pytest.raises(DataError, match=r"as many as the examples \(1\), got 18"):
        cheap().fit("good film", texts[1])


WORDS = pd.Series(["film", "place", None], dtype=object)[[0, 1, 2, 0, 1, 0]]
DAYS = pd.to_datetime(["2024-01-01", "2024-02-01", None])[[0, 1, 2, 0, 1, 0]]
LABELS = {
    "a column": (WORDS.to_numpy().reshape(-1, 1), ["film", "place"]),
    "a frame": (WORDS.to_frame("y"), ["film", "place"]),
    "NaN": (WORDS.where(WORDS.notna(), np.nan), ["film", "place"]),
    "blank": (WORDS.fillna(" ").tolist(), ["film", "place"]),
    "type string": (WORDS.astype("string"), ["film", "place"]),
    "type category": (WORDS.astype("category"), ["film", "place"]),
    "type Int64": (WORDS.map({"film": 7, "place": -1}).astype("Int64"), [-1, 7]),
    "type boolean": (WORDS.map({"film": True, "place": False}), [False, True]),
    "NaN among numbers": ([7.0, 0.5, np.nan, 7.0, 0.5, 7.0], [0.5, 7.0]),
    "float32": (np.array([0.1, 0.2, np.nan, 0.1, 0.2, 0.1], np.float32), [0.1, 0.2]),
    "dates": (DAYS, [DAYS[0], DAYS[1]]),
    "one-hot rows": (np.eye(2)[[0, 1, 1, 0, 1, 0]], [0, 1]),
    "sparse one-hot rows": (csr_array(np.eye(2)[[0, 1, 1, 0, 1, 0]]), [0, 1]),
    "dummies": (pd.get_dummies(WORDS.fillna("film")), ["film", "place"]),
}


@pytest.mark.parametrize(("y", "classes"), LABELS.values(), ids=LABELS)
def test_labels_in_any_form(y, classes):
    few = ["good film", "a city", "what", "bad film", "the city", "film"]
    model = cheap().fit(few, y)
    np.testing.assert_array_equal(
        model.classes_, np.array(classes, model.classes_.dtype)
    )
    known = 5 if np.shape(y) in ((6,), (6, 1)) else 6
    assert model.result_.summary["labelled"] == known
    assert set(model.predict(few).tolist()) == set(model.classes_.tolist())
    assert model.score(few, y) > 0.7


@pytest.mark.parametrize(
    ("y", "says"),
    [
        (None, "got NoneType"),
        (pd.Series([["a"], ["a", "b"]] * 9), r"got Series \(18,\) \(they are mixed"),
        ("film", "got str"),
        ([["a", "b"], ["c", "d"]], "got list"),
        (np.full((18, 2), 0.5), r"got ndarray \(18, 2\)"),
        ([1, "a"] * 9, r"got list \(they are mixed-integer\)"),
        (["same"] * 18, "at least 2 classes, got only 'same'"),
        ([None] * 18, "no labels at all"),
        (["a", "b"] * 8, r"as many as the examples \(18\), got 16"),
    ],
)
def test_labels_that_cannot_be_are_named(y, says, texts):
    with pytest.raises(UserError, match=says) as caught:
        cheap().fit(texts[0], y)
    assert not isinstance(caught.value, NotFittedError)


def test_copies_and_pickles_predict_the_same_and_hold_no_code(texts, fitted, tmp_path):
    wanted = fitted.predict_proba(texts[0])
    written = pickle.dumps(fitted)
    joblib.dump(fitted, tmp_path / "m.joblib")
    for twin in (
        pickle.loads(written),
        joblib.load(tmp_path / "m.joblib"),
        copy.copy(fitted),
        copy.deepcopy(fitted),
    ):
        np.testing.assert_array_equal(twin.classes_, fitted.classes_)
        np.testing.assert_allclose(twin.predict_proba(texts[0]), wanted, rtol=1e-6)
        assert repr(twin.result_) == repr(fitted.result_)
    seen = set()

    class Watched(pickle.Unpickler):
        def find_class(self, module, name):
            seen.add(module.partition(".")[0])
            return super().find_class(module, name)

    Watched(io.BytesIO(written)).load()
    assert seen <= {"fewshot_automl", "numpy", "pathlib", "copyreg", "builtins"}


def test_cross_validation_and_search_leave_no_models(texts, tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path))
    labels = np.array([*texts[1][:-1], None], dtype=object)
    odd = np.arange(1, 18, 2)
    search = GridSearchCV(
        cheap(),
        {"seed": np.arange(2), "trials": np.array([1])},
        cv=[(odd, odd - 1), (odd - 1, odd)],
    )
    search.fit(texts[0], labels)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert search.predict(texts[0][:2]).shape == (2,)
    studies = list((tmp_path / "studies").iterdir())
    assert len(studies) == 5
    assert not [path for path in studies if (path / "model").exists()]
    assert all((path / "report.html").exists() for path in studies)


def test_stands_in_pipelines(texts):
    frame = pd.DataFrame({"n": range(18), "text": texts[0]})
    chosen = make_column_transformer(("passthrough", ["text"]))
    lower = FunctionTransformer(np.char.lower)
    for first in (chosen, make_pipeline(chosen, FunctionTransformer(np.ravel))):
        assert (
            make_pipeline(first, cheap()).fit(frame, texts[1]).score(frame, texts[1])
            > 0.5
        )
    assert make_pipeline(lower, cheap()).fit(*texts).predict(texts[0][:3]).shape == (3,)


@pytest.mark.parametrize(
    "name",
    [
        *("cloneable", "repr", "tags_renamed"),
        *("no_attributes_set_in_init", "parameters_default_constructible"),
        *("get_params_invariance", "set_params", "valid_tag_types", "mixin_order"),
    ],
)
def test_what_scikit_learn_checks_of_estimators_of_any_input(name):
    prefix = (
        "check_estimator_"
        if hasattr(estimator_checks, f"check_estimator_{name}")
        else "check_"
    )
    getattr(estimator_checks, prefix + name)("FewShotClassifier", FewShotClassifier())


def test_what_fit_takes_is_handed_on(texts, tmp_path):
    out = tmp_path / "run"
    model = cheap(
        out=out, device="cpu", prior="none", limits={"max_memory_mb": np.float32(50)}
    )
    asked = settings_of(model.fit(*texts).result_.folder)
    assert (asked.device, asked.prior, asked.limits) == (
        "cpu",
        "none",
        {"max_memory_mb": 50},
    )
    assert (out / "model").exists()


def test_cross_validates_truth_values_on_a_list_of_texts(texts):
    labels = np.tile([True, False], 9)
    scores = cross_val_score(
        classifier(trials=1, methods=("majority",)), texts[0], labels, cv=2
    )
    assert scores.shape == (2,)
    assert np.isfinite(scores).all()


def test_refuses_what_cannot_be_learnt(texts):
    with pytest.raises(UserError):
        classifier().fit(texts[0], ["same"] * 18)
    with pytest.raises(UserError):
        classifier().fit(texts[0], texts[1][:-1])

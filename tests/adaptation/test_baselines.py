import tracemalloc

import numpy as np
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from fewshot_automl.adaptation import class_heads
from fewshot_automl.adaptation.baselines import Constant, Majority, TermHead, Tfidf
from fewshot_automl.adaptation.class_heads import fit_class_head
from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.method import Job
from fewshot_automl.errors import TrialError
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task
from fewshot_automl.training import choose_placement

TASK = Task(modality="text", names=("a", "b", "c"))
TEXTS = (
    "Good film, good film!",
    "a good movie",
    "river & city",
    "the city by a river",
    "naïve café",
    "cafés are naïve",
)
LABELS = np.array([0, 0, 1, 1, 2, 2])
WORDS = ("apple", "stone", "wizdry")


def bare(*texts):
    return Encodings(inputs=texts, encoder=None)


def fitted(method, texts=TEXTS, labels=LABELS):
    job = Job(
        task=TASK,
        config=Config((("method", method.name),)),
        seed=0,
        placement=choose_placement("cpu"),
    )
    return method.fit(bare(*texts), labels, job)


def test_majority_predicts_smoothed_frequencies(tmp_path):
    model = fitted(Majority(), TEXTS[:3], np.array([0, 0, 1]))
    np.testing.assert_allclose(
        model.outputs(bare("x", "y")), [[3 / 6, 2 / 6, 1 / 6]] * 2
    )
    again = Constant.load(tmp_path, model.save(tmp_path))
    np.testing.assert_array_equal(again.output, model.output)


def test_tfidf_separates_words_and_knows_unseen_forms():
    outputs = fitted(Tfidf()).outputs(bare("good films", "cities", "CAFÉ"))
    np.testing.assert_array_equal(outputs.argmax(axis=1), [0, 1, 2])
    np.testing.assert_allclose(outputs.sum(axis=1), 1)


def test_tfidf_comes_back_exactly_and_without_pickle(tmp_path):
    model = fitted(Tfidf())
    again = TermHead.load(tmp_path, model.save(tmp_path))
    unseen = bare("what a good river", "", "naïve", "Ω")
    np.testing.assert_array_equal(again.outputs(unseen), model.outputs(unseen))
    again.save(tmp_path / "..")  # and once more
    assert [path.suffix for path in tmp_path.iterdir()] == [".safetensors"]


def test_texts_of_punctuation_alone_fail_in_words():
    with pytest.raises(TrialError, match="no term"):
        fitted(Tfidf(), ("...", "!!"), np.array([0, 1]))


@pytest.mark.parametrize("classes", [2, 3])
def test_sparse_rows_are_fitted_as_dense_ones_and_many_nearly_so(classes, monkeypatch):
    chance = np.random.default_rng(classes)
    labels = np.arange(90) % classes  # of three, one may be absent
    texts = [" ".join(chance.choice(list(WORDS[k]), 3)) for k in labels]
    rows = normalize(TfidfVectorizer(analyzer="char").fit_transform(texts))
    config = Config.of({"method": "tfidf"})
    dense = fit_class_head(rows.toarray(), labels, TASK, config, 0).outputs(
        rows.toarray()
    )
    few = fit_class_head(rows, labels, TASK, config, 0)
    np.testing.assert_allclose(few.outputs(rows), dense, atol=1e-4)
    monkeypatch.setattr(class_heads, "MOST_SPANNED", 60)
    many = fit_class_head(rows, labels, TASK, config, 0).outputs(rows)
    assert np.abs(many - dense).mean() < 0.1
    assert many[:, classes:].max(initial=0.0) < 1e-6
    assert (many.argmax(axis=1) == dense.argmax(axis=1)).mean() > 0.9


def test_thousands_of_texts_are_never_made_dense(monkeypatch):
    monkeypatch.setattr(class_heads, "MOST_SPANNED", 50)
    chance = np.random.default_rng(0)
    texts = [f"{WORDS[n % 3]} {chance.integers(10**9)}" for n in range(3000)]
    tracemalloc.start()
    model = fitted(Tfidf(), texts, np.arange(3000) % 3)
    outputs = model.outputs(bare(*texts))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3000 * 8 * sum(len(each.idf_) for each in model.terms) / 4
    assert (outputs.argmax(axis=1) == np.arange(3000) % 3).all()

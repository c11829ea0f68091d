import numpy as np
import pytest

from fewshot_automl.adaptation.baselines import Constant, Majority, TermHead, Tfidf
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


def test_long_inputs_are_taken_in_pieces():
    many = bare(*(f"good {n}" for n in range(1100)))
    assert fitted(Tfidf()).outputs(many).shape == (1100, 3)

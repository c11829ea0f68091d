import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer

from fewshot_automl.adaptation.terms import Terms
from fewshot_automl.errors import TrialError

OPTIONS = {
    "words": {"ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"},
    "characters": {"analyzer": "char_wb", "ngram_range": (3, 4)},
}
TEXTS = [
    "A good film!",
    "a  bad, bad film",
    "it's Übergut\tin é\u0301 ways",
    "x yz abc",
]


@pytest.mark.parametrize("kind", OPTIONS)
@given(
    texts=st.lists(st.text("abAB éß.'_\n-1", max_size=30), min_size=1, max_size=6),
    new=st.lists(st.text("abAB éß.'_\n-1", max_size=30), min_size=1, max_size=3),
)
def test_equals_scikit_learn(kind, texts, new):
    theirs = TfidfVectorizer(sublinear_tf=True, **OPTIONS[kind])
    texts = [*TEXTS, *texts]
    theirs.fit(texts)
    ours = Terms.counted(texts, kind)
    assert list(ours.terms) == theirs.get_feature_names_out().tolist()
    np.testing.assert_allclose(ours.inverse_frequency, theirs.idf_)
    expected = theirs.transform([*texts, *new]).toarray()
    np.testing.assert_allclose(ours.weigh([*texts, *new]), expected, atol=1e-12)


def test_keeps_the_most_frequent(monkeypatch):
    monkeypatch.setattr("fewshot_automl.adaptation.terms.MAX_TERMS", 2)
    assert Terms.counted(["b a c a b a"], "words").terms == ("a", "b")


def test_refuses_texts_without_a_term():
    with pytest.raises(TrialError, match=r"found no term"):
        Terms.counted(["...", "!"], "words")

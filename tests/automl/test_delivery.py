import numpy as np
import pandas as pd
import pytest

from fewshot_automl.automl import fit
from fewshot_automl.errors import ExportError
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.predictor import Predictor

QUICK = {
    "backbones": ("tiny-bert",),
    "methods": ("probe", "contrastive"),
    "budget": "none",
    "trials": 4,
}


@pytest.fixture
def tables(texts):
    train = pd.DataFrame({"text": texts[0], "label": texts[1]})
    test = pd.DataFrame(
        {"text": [f"{text} again" for text in texts[0]], "label": texts[1]}
    )
    return train, test


def test_a_model_that_changes_when_saved_is_refused(texts, tmp_path, monkeypatch):
    real = Predictor.load

    def turned(folder):
        loaded = real(folder)
        object.__setattr__(loaded, "temperature", 3.0 * loaded.temperature)
        return loaded

    monkeypatch.setattr(Predictor, "load", turned)
    with pytest.raises(ExportError, match="before it was saved"):
        fit(texts[0], labels=texts[1], out=tmp_path / "run", **QUICK)


def test_test_data_are_encoded_once_for_each_backbone_and_cut(
    tables, tmp_path, monkeypatch
):
    train, test = tables
    computed = []
    real = FeatureStore.fetch

    def counting(self, group, keys, compute):
        def counted(missing):
            computed.extend((group, keys[place]) for place in missing)
            return compute(missing)

        return real(self, group, keys, counted)

    monkeypatch.setattr(FeatureStore, "fetch", counting)
    from fewshot_automl.automl import finish

    monkeypatch.setattr(
        finish,
        "partners_of",
        lambda winner, *_, **__: [i for i in range(3) if i != winner],
    )
    result = fit(train, target="label", test=test, out=tmp_path / "run", **QUICK)
    assert len(result.summary["members"]) == 3
    kept = [pair for pair in computed if "again" not in pair[0]]
    again = {pair for pair in kept if kept.count(pair) > 1}
    # the check of the saved model encodes some labelled examples a second time
    assert len({key for _, key in again}) <= 8
    assert result.test_scores["n"] == len(test)


def test_test_scores_are_those_of_the_saved_model(tables, tmp_path):
    train, test = tables
    result = fit(train, target="label", test=test, out=tmp_path / "run", **QUICK)
    loaded = Predictor.load(tmp_path / "run")
    found = loaded.predict(test["text"].tolist())
    accuracy = np.mean([a == b for a, b in zip(found, test["label"], strict=True)])
    assert result.test_scores["accuracy"] == pytest.approx(accuracy)

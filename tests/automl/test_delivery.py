import numpy as np
import pandas as pd
import pytest

from fewshot_automl import fit
from fewshot_automl.adaptation.saved import Ensemble, Member
from fewshot_automl.automl import delivery
from fewshot_automl.errors import ExportError
from fewshot_automl.evaluation.folds import choose_folds
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.predictor import Predictor
from fewshot_automl.tasks import Task
from fewshot_automl.training.placement import choose_placement
from fewshot_automl.trial import Problem, TrialContext, refit, space_for

WORDS = ("good", "film", "bad", "place", "river", "city", "where", "name", "who", "how")
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
        worse = {"temperature": 3.0 * loaded.calibration["temperature"]}
        object.__setattr__(loaded, "calibration", worse)
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
        lambda tried, winner, *_, **__: [i for i in range(3) if i != winner][:2],
    )
    result = fit(train, target="label", test=test, out=tmp_path / "run", **QUICK)
    assert len(result.summary["members"]) == 3
    kept = [pair for pair in computed if "again" not in pair[0]]
    again = {pair for pair in kept if kept.count(pair) > 1}
    # the check of the saved model encodes some labelled examples a second time, and
    # the latency of a model is measured on one
    assert len({key for _, key in again}) <= 9
    assert result.test_scores["n"] == len(test)


def test_test_scores_are_those_of_the_saved_model(tables, tmp_path):
    train, test = tables
    result = fit(train, target="label", test=test, out=tmp_path / "run", **QUICK)
    loaded = Predictor.load(tmp_path / "run")
    found = loaded.predict(test["text"].tolist())
    accuracy = np.mean([a == b for a, b in zip(found, test["label"], strict=True)])
    assert result.test_scores["accuracy"] == pytest.approx(accuracy)


@pytest.fixture
def context(texts, tiny_cards, tmp_path):
    labels = np.unique(texts[1], return_inverse=True)[1]
    task = Task(modality="text", names=("film", "name", "place"))
    return TrialContext(
        problem=Problem(
            task=task,
            inputs=tuple(texts[0]),
            targets=labels,
            folds=choose_folds(task.rules.strata(labels), seed=0),
        ),
        cards=(tiny_cards["tiny-bert"],),
        store=FeatureStore(tmp_path / "features"),
        placement=choose_placement("cpu"),
    )


def model_of(context, kind, temperature=0.5):
    """Return a fitted model: of one method, or the ensemble of all three."""
    space = space_for(context.problem.profile, context.cards)
    brief = {"steps": 10, "batch_size": 8}
    configs = {
        "probe": space.default(method="probe"),
        "contrastive": space.default(method="contrastive", **brief),
        "full": space.default(method="full", **brief),
    }
    if kind != "ensemble":
        config, fitted = configs[kind], refit(context, configs[kind])
    else:
        config = configs["probe"]
        fitted = Ensemble(
            members=tuple(
                Member(
                    fitted=refit(context, each),
                    calibration={"temperature": temperature},
                    encoder=context.encodings(each).encoder,
                )
                for each in configs.values()
            )
        )
    return Predictor(
        task=context.problem.task,
        config=config,
        fitted=fitted,
        calibration={"temperature": temperature},
    )


@pytest.mark.parametrize("kind", ["probe", "contrastive", "full", "ensemble"])
def test_slices_predict_what_the_whole_does_and_keep_only_features(
    context, kind, monkeypatch
):
    model = model_of(context, kind)
    new = tuple(f"{text} {'once ' * n}more" for n, text in enumerate(WORDS))
    before = context.store.size_bytes()
    whole = delivery.predicted(model, new, context)
    grown = context.store.size_bytes() - before
    assert (grown > 0) == (kind in {"probe", "ensemble"})
    assert grown < 10_000  # features of 10 texts, no activations
    monkeypatch.setattr(delivery, "SLICE", 4)
    sliced = delivery.predicted(model, new, context)
    assert sliced.shape == (len(new), 3)
    np.testing.assert_allclose(sliced, whole, atol=1e-5)


@pytest.mark.parametrize("kind", ["probe", "ensemble"])
def test_rounding_that_a_low_temperature_magnifies_is_no_damage(
    context, kind, tmp_path, monkeypatch
):
    real = Predictor.outputs_of

    def rounded(self, inputs):
        proba = real(self, inputs)
        return proba + 5e-4 * np.array([1, -1, 0])

    monkeypatch.setattr(Predictor, "outputs_of", rounded)
    sharp = model_of(context, kind, temperature=0.05)
    delivery.deliver(sharp, tmp_path / "sharp", context)
    with pytest.raises(ExportError, match="before it was saved"):
        delivery.deliver(
            model_of(context, kind, temperature=1.0), tmp_path / "plain", context
        )

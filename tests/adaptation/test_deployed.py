"""A model measured in memory is the model that is saved: same size, same answers."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from fewshot_automl.adaptation import deployed as module
from fewshot_automl.adaptation.deployed import (
    deployed,
    latency_seconds,
    parameters_of,
    weight_bytes_of,
)
from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.adaptation.method import Job, Profile
from fewshot_automl.adaptation.saved import (
    Ensemble,
    Member,
    load_fitted,
    own_encoder,
    save_fitted,
)
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.tasks import Task
from fewshot_automl.training.placement import choose_placement
from fewshot_automl.trial.space import space_for

TEXTS = ("good film", "a bad film", "river city", "the city")
LABELS = np.array([0, 0, 1, 1])
TASK = Task(modality="text", names=("film", "place"))
QUICK = {"steps": 10, "batch_size": 8}


@pytest.fixture
def fit(tiny_backbone):
    def made(name, **values):
        backbone = tiny_backbone("tiny-bert")
        space = space_for(Profile(task=TASK, strata=(2, 2)), [backbone.card])
        quick = QUICK if METHODS[name].trains else {}
        config = space.default(method=name, **quick, **values)
        encoder = Encoder(backbone=backbone, store=FeatureStore(None))
        job = Job(task=TASK, config=config, seed=0, placement=choose_placement("cpu"))
        encodings = Encodings(inputs=TEXTS, encoder=encoder)
        return METHODS[name].fit(encodings, LABELS, job), encodings

    return made


@pytest.mark.parametrize(
    "name", ["majority", "tfidf", "prototype", "probe", "lora", "partial_freeze"]
)
def test_counts_what_is_saved_and_predicts_what_was_fitted(fit, name, tmp_path):
    fitted, encodings = fit(name)
    state = save_fitted(fitted, tmp_path)
    if name != "majority":
        saved = [load_file(path) for path in tmp_path.rglob("*.safetensors")]
        numbers = sum(value.size for file in saved for value in file.values())
        assert parameters_of(fitted) == pytest.approx(numbers, rel=0.01)
    loaded = load_fitted(tmp_path, state)
    assert parameters_of(loaded) == parameters_of(fitted)
    assert weight_bytes_of(loaded) == weight_bytes_of(fitted)
    alone = deployed(fitted, "cpu")
    own = Encodings(inputs=TEXTS, encoder=own_encoder(alone))
    np.testing.assert_allclose(alone.outputs(own), fitted.outputs(encodings), atol=1e-5)


def test_members_of_an_ensemble_add_up_for_each_has_its_own_backbone(fit, tmp_path):
    models = [fit(name) for name in ("probe", "lora")]
    ensemble = Ensemble(
        members=tuple(
            Member(fitted=fitted, calibration={}, encoder=encodings.encoder)
            for fitted, encodings in models
        )
    )
    assert parameters_of(ensemble) == sum(parameters_of(fitted) for fitted, _ in models)
    loaded = load_fitted(tmp_path, save_fitted(ensemble, tmp_path))
    assert isinstance(loaded, Ensemble)
    first, second = (member.fitted.backbone.module for member in loaded.members)
    shared = {p.data_ptr() for p in first.parameters()}
    assert not shared & {p.data_ptr() for p in second.parameters()}
    alone = deployed(ensemble, "cpu")
    np.testing.assert_allclose(
        alone.outputs(Encodings(inputs=TEXTS, encoder=None)),
        ensemble.outputs(models[0][1]),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("seconds", "runs"), [(0.001, 16), (0.01, 7), (0.03, 4), (0.2, 2)]
)
def test_slow_work_is_timed_less_often(seconds, runs, monkeypatch):
    clock = {"now": 0.0, "runs": 0}

    def work():
        clock["now"] += seconds
        clock["runs"] += 1

    monkeypatch.setattr(module.time, "perf_counter", lambda: clock["now"])
    assert module.median_seconds(work) == pytest.approx(seconds)
    assert clock["runs"] == runs


def test_a_latency_is_that_of_one_whole_prediction(fit):
    seconds = {
        name: latency_seconds(fit(name)[0], TEXTS[0], "cpu")
        for name in ("majority", "probe")
    }
    assert 0 < seconds["majority"] < seconds["probe"] < 1

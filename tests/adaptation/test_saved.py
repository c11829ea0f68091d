"""A model measured in memory is the model that is saved; several average."""

from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load_file

from fewshot_automl.adaptation import saved as module
from fewshot_automl.adaptation.baselines import Constant
from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.adaptation.method import Job, Profile
from fewshot_automl.adaptation.saved import (
    Ensemble,
    Member,
    latency_seconds,
    load_fitted,
    own_encoder,
    save_fitted,
    size_of,
)
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.errors import ExportError
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.tasks import Task
from fewshot_automl.tasks.calibration import apply_temperature
from fewshot_automl.training.placement import choose_placement
from fewshot_automl.trial.space import space_for

TEXTS = ("good film", "a bad film " * 30, "river city", "the city " * 20 + "name")
LABELS = np.array([0, 0, 1, 1])
TASK = Task(modality="text", names=("film", "place"))
QUICK = {"steps": 10, "batch_size": 8}
BARE = Encodings(inputs=("a", "b"), encoder=None)


@pytest.fixture
def fit(tiny_backbone):
    def made(name, **values):
        backbone = tiny_backbone("tiny-bert")
        profile = Profile(task=TASK, strata=(2, 2), cut_by=("tiny-bert",))
        space = space_for(profile, [backbone.card])
        quick = QUICK if METHODS[name].trains else {}
        config = space.default(method=name, **quick, **values)
        encoder = Encoder(backbone=backbone, store=FeatureStore(None))
        job = Job(task=TASK, config=config, seed=0, placement=choose_placement("cpu"))
        encodings = Encodings(inputs=TEXTS, encoder=encoder)
        return METHODS[name].fit(encodings, LABELS, job), encodings

    return made


@pytest.mark.parametrize(
    ("name", "values"),
    [
        *((n, {}) for n in ("majority", "tfidf", "prototype", "probe", "lora")),
        *((n, {"long_texts": "windows"}) for n in ("prototype", "probe")),
        *(("probe", {"blocks": blocks}) for blocks in ("last", "inner")),
        ("partial_freeze", {}),
    ],
)
def test_counts_what_is_saved_and_predicts_what_was_fitted(fit, name, values, tmp_path):
    fitted, encodings = fit(name, **values)
    state = save_fitted(fitted, tmp_path)
    if name != "majority":
        saved = [load_file(path) for path in tmp_path.rglob("*.safetensors")]
        numbers = sum(value.size for file in saved for value in file.values())
        assert size_of(fitted)["parameters"] == pytest.approx(numbers, rel=0.01)
    loaded = load_fitted(tmp_path, state)
    assert size_of(loaded) == size_of(fitted)
    own = Encodings(inputs=TEXTS, encoder=own_encoder(loaded))
    expected = fitted.outputs(encodings)
    np.testing.assert_allclose(loaded.outputs(own), expected, atol=1e-5)


def test_what_was_saved_without_weights_has_equal_ones(tmp_path):
    state = save_fitted(
        Ensemble(members=(member(0.9, 0.1), member(0.3, 0.7))), tmp_path
    )
    for values in state["members"]:
        del values["weight"], values["backbone_of"]
    old = load_fitted(tmp_path, state)
    np.testing.assert_allclose(old.outputs(BARE), [[0.6, 0.4]] * 2)


def test_members_on_one_frozen_backbone_share_it(fit, tmp_path, monkeypatch):
    """One pass, one file and one count of its numbers for a probe and a prototype."""
    probe, encodings = fit("probe")
    prototype, _ = fit("prototype")
    prototype = replace(prototype, backbone=probe.backbone)
    model = Ensemble(
        members=tuple(
            Member(
                fitted=fitted,
                calibration={},
                encoder=own_encoder(fitted),
                weight=weight,
            )
            for fitted, weight in ((probe, 0.75), (prototype, 0.25))
        )
    )
    loaded = load_fitted(tmp_path, save_fitted(model, tmp_path))
    assert len([*tmp_path.rglob("model.safetensors")]) == 1
    heads = sum(
        value.size for one in (probe, prototype) for value in one.head.arrays().values()
    )
    backbone = size_of(probe)["parameters"] - sum(
        value.size for value in probe.head.arrays().values()
    )
    assert size_of(loaded)["parameters"] == backbone + heads
    passes = []
    forward = Encoder._forward

    def counted(encoder, rows, cut):
        passes.extend(rows)
        return forward(encoder, rows, cut)

    monkeypatch.setattr(Encoder, "_forward", counted)
    bare = Encodings(inputs=TEXTS, encoder=None)
    outputs = loaded.outputs(bare)
    assert len(passes) == len(TEXTS)
    expected = 0.75 * probe.outputs(encodings) + 0.25 * prototype.outputs(encodings)
    np.testing.assert_allclose(outputs, expected, atol=1e-5)
    loaded.outputs(bare)
    assert len(passes) == 2 * len(TEXTS)  # nothing is kept between predictions


def test_members_of_an_ensemble_add_up_where_each_has_its_own_backbone(fit, tmp_path):
    models = [fit(name) for name in ("probe", "lora")]
    ensemble = Ensemble(
        members=tuple(
            Member(fitted=fitted, calibration={}, encoder=encodings.encoder, weight=0.5)
            for fitted, encodings in models
        )
    )
    parts = [size_of(fitted)["parameters"] for fitted, _ in models]
    assert size_of(ensemble)["parameters"] == sum(parts)
    loaded = load_fitted(tmp_path, save_fitted(ensemble, tmp_path))
    assert isinstance(loaded, Ensemble)
    first, second = (member.fitted.backbone.module for member in loaded.members)
    shared = {p.data_ptr() for p in first.parameters()}
    assert not shared & {p.data_ptr() for p in second.parameters()}
    np.testing.assert_allclose(
        loaded.outputs(Encodings(inputs=TEXTS, encoder=None)),
        ensemble.outputs(models[0][1]),
        atol=1e-5,
    )


@pytest.mark.parametrize(("seconds", "runs"), [(0.001, 16), (0.011, 11), (0.2, 2)])
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


def member(*proba, temperature=1.0, weight=0.5):
    return Member(
        fitted=Constant(output=np.array(proba)),
        calibration={"temperature": temperature},
        encoder=None,
        weight=weight,
    )


def test_averages_calibrated_probabilities_by_weight():
    sure, unsure = np.array([[0.99, 0.01]]), np.array([[0.4, 0.6]])
    first = member(*sure[0], temperature=3.0, weight=0.75)
    model = Ensemble(members=(first, member(*unsure[0], weight=0.25)))
    expected = 0.75 * apply_temperature(sure, 3.0) + 0.25 * unsure
    np.testing.assert_allclose(model.outputs(BARE), np.tile(expected, (2, 1)))
    assert model.is_finite


def test_one_broken_member_breaks_it():
    assert not Ensemble(members=(member(0.5, 0.5), member(np.nan, 0.5))).is_finite


def test_comes_back_from_disk_and_again(tmp_path):
    first = member(0.9, 0.1, temperature=2.0, weight=0.7)
    model = Ensemble(members=(first, member(0.3, 0.7, weight=0.3)))
    expected = model.outputs(BARE)
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        again = load_fitted(folder, save_fitted(model, folder))
        assert isinstance(again, Ensemble)
        np.testing.assert_array_equal(again.outputs(BARE), expected)
        model = again


def test_a_kind_of_a_newer_version_is_refused(tmp_path):
    with pytest.raises(ExportError, match="Update"):
        load_fitted(tmp_path, {"kind": "oracle of Delphi"})

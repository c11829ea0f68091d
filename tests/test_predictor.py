import copy
import json
import pickle
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_automl import predictor
from fewshot_automl.adaptation.baselines import Constant
from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.adaptation.method import Job, Profile
from fewshot_automl.adaptation.saved import own_encoder
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.data import Examples
from fewshot_automl.errors import DataError, ExportError, TaskError
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.predictor import MANIFEST, Predictor
from fewshot_automl.tasks import Task
from fewshot_automl.training.placement import choose_placement
from fewshot_automl.trial.space import space_for

TASK = Task(modality="text", names=("bad", "good"))
TEXTS = ["bad film", "the bad city", "good film", "the good city"]
UNSEEN = ["what a good name", "a bad river", ""]


@pytest.fixture(scope="module")
def trained(tiny_backbone, tiny_cards):
    """Return ``method -> Predictor``, trained on four texts."""

    def train(name):
        backbone = tiny_backbone("tiny-bert")
        profile = Profile(task=TASK, strata=(2, 2))
        space = space_for(profile, [tiny_cards["tiny-bert"]])
        config = space.default(method=name)
        if METHODS[name].trains:
            config = space.default(method=name, steps=10, batch_size=8)
        encoder = Encoder(backbone=backbone, store=FeatureStore(None))
        job = Job(task=TASK, config=config, seed=0, placement=choose_placement("cpu"))
        fitted = METHODS[name].fit(
            Encodings(inputs=tuple(TEXTS), encoder=encoder), np.array([0, 0, 1, 1]), job
        )
        return Predictor(
            task=TASK,
            config=config,
            fitted=fitted,
            calibration={"temperature": 1.5},
            facts={"score": {"raw": 0.5}},
        )

    return train


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """A machine without zoo, cache or network."""
    monkeypatch.delenv("FEWSHOT_ZOO_PATH", raising=False)
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))

    def refuse(*arguments, **options):
        raise AssertionError("a model must load without network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("fewshot_automl.backbones.weights.locate", refuse)
    return tmp_path


@pytest.mark.parametrize("name", ["majority", "tfidf", "probe", "full", "lora"])
def test_a_folder_predicts_by_itself_and_can_be_written_again(name, trained, nowhere):
    predictor = trained(name)
    expected = predictor.predict_proba(UNSEEN)
    for folder in (nowhere / "one", nowhere / "two"):
        assert predictor.save(folder) == folder
        predictor = Predictor.load(folder)
        np.testing.assert_allclose(predictor.predict_proba(UNSEEN), expected, atol=1e-5)
        assert predictor.predict(UNSEEN) == [
            TASK.names[place] for place in expected.argmax(axis=1)
        ]
        kinds = {path.suffix for path in folder.rglob("*") if path.is_file()}
        assert kinds <= {".json", ".safetensors", ".md"}
    assert predictor.calibration == {"temperature": 1.5}
    assert predictor.facts == {"score": {"raw": 0.5}}
    assert set(predictor.versions) >= {"torch", "fewshot-automl"}
    assert predictor.config == trained(name).config
    assert not (nowhere / "cache").exists()


def test_one_byte_anywhere_is_noticed(trained, tmp_path):
    whole = trained("lora").save(tmp_path / "whole")
    files = [path for path in sorted(whole.rglob("*")) if path.is_file()]
    assert len(files) >= 6
    for path in files:
        broken = tmp_path / "broken"
        shutil.rmtree(broken, ignore_errors=True)
        shutil.copytree(whole, broken)
        victim = broken / path.relative_to(whole)
        content = bytearray(victim.read_bytes())
        content[len(content) // 2] ^= 1
        victim.write_bytes(bytes(content))
        with pytest.raises(ExportError, match=r"opy the model again"):
            Predictor.load(broken)


def test_a_class_cannot_be_renamed_by_hand(trained, tmp_path):
    folder = trained("majority").save(tmp_path / "m")
    manifest = folder / "model.json"
    manifest.write_text(manifest.read_text().replace('"good"', '"bad "'))
    with pytest.raises(ExportError, match="damaged or changed"):
        Predictor.load(folder)


def test_a_missing_file_is_named(trained, tmp_path):
    folder = trained("probe").save(tmp_path / "m")
    (folder / "head.safetensors").unlink()
    with pytest.raises(ExportError, match=r"head\.safetensors is missing"):
        Predictor.load(folder)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": null}'])
def test_a_manifest_that_is_none_is_an_export_error(text, tmp_path):
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(ExportError, match=r"model\.json"):
        Predictor.load(tmp_path)


def test_a_newer_format_asks_for_an_update(trained, tmp_path):
    folder = trained("majority").save(tmp_path / "m")
    manifest = json.loads((folder / "model.json").read_text())
    newer = {**manifest, "format": 99, "versions": {"fewshot-automl": "9.1"}}
    (folder / "model.json").write_text(json.dumps(newer))
    with pytest.raises(ExportError, match=r"newer version.*fewshot-automl>=9\.1"):
        Predictor.load(folder)


def test_a_model_of_another_version_is_refused_in_words(trained, tmp_path):
    folder = trained("majority").save(tmp_path / "m")
    manifest = json.loads((folder / "model.json").read_text())
    del manifest["calibration"]
    sealed = {**manifest, "sha256": predictor._seal(manifest)}
    (folder / "model.json").write_text(json.dumps(sealed))
    with pytest.raises(ExportError, match=r"another version wrote\..* fit again"):
        Predictor.load(folder)


def test_an_empty_folder_is_no_model(tmp_path):
    with pytest.raises(ExportError, match="fewshot fit"):
        Predictor.load(tmp_path)


def test_the_folder_of_a_fit_is_taken_for_the_model_in_it(trained, tmp_path):
    trained("majority").save(tmp_path / "run" / "model")
    assert Predictor.load(tmp_path / "run").predict(["x"]) == ["bad"]


def test_replaces_a_model_but_nothing_else(trained, tmp_path):
    folder = trained("probe").save(tmp_path / "m")
    trained("majority").save(folder)
    assert isinstance(Predictor.load(folder).fitted, Constant)
    assert sorted(path.name for path in folder.iterdir()) == ["model.json"]
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").touch()
    with pytest.raises(ExportError, match="Choose another folder"):
        trained("majority").save(tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter.tex").exists()


def test_temperature_softens_and_keeps_the_order(trained):
    import dataclasses

    predictor = trained("probe")
    hard, soft = (
        dataclasses.replace(predictor, calibration=mended).predict_proba(UNSEEN)
        for mended in ({}, {"temperature": 4.0})
    )
    assert (soft.max(axis=1) <= hard.max(axis=1)).all()
    np.testing.assert_array_equal(soft.argmax(axis=1), hard.argmax(axis=1))
    np.testing.assert_allclose(soft.sum(axis=1), 1)


def test_the_wrong_kind_of_example_is_refused(trained):
    with pytest.raises(TaskError, match="column of texts"):
        trained("probe").predict([np.zeros((8, 8, 3), np.uint8)])


def test_a_model_in_service_keeps_nothing_of_what_it_is_shown(trained):
    encoder = own_encoder(trained("probe").fitted)
    encodings = Encodings(inputs=tuple(UNSEEN), encoder=encoder)
    np.testing.assert_array_equal(encodings.pooled(), encodings.pooled())
    assert encoder.store.misses == 2 * len(UNSEEN)  # computed each time


def test_nothing_in_nothing_out(trained):
    assert trained("probe").outputs_of(()).shape == (0, 2)


def test_one_broken_image_costs_the_others_nothing(
    tiny_backbone, tmp_path, monkeypatch
):
    monkeypatch.setattr("fewshot_automl.predictor.AT_ONCE", 2)
    rng = np.random.default_rng(0)
    images = []
    for name in "abcd":
        pixels = rng.integers(0, 255, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        images.append(tmp_path / f"{name}.png")
    task = Task(modality="image", names=("cat", "dog"))
    encoder = Encoder(backbone=tiny_backbone("tiny-resnet"), store=FeatureStore(None))
    profile = Profile(task=task, strata=(2, 2))
    config = space_for(profile, [encoder.backbone.card]).default(method="probe")
    job = Job(task=task, config=config, seed=0, placement=choose_placement("cpu"))
    seen = Encodings(inputs=tuple(images), encoder=encoder)
    fitted = METHODS["probe"].fit(seen, np.array([0, 0, 1, 1]), job)
    predictor = Predictor(task=task, config=config, fitted=fitted)
    whole = predictor.predict_proba(images)
    images[1].write_bytes(images[1].read_bytes()[:900])
    images[3].unlink()
    with pytest.warns(UserWarning, match=r"2 examples that cannot.*row 1: .*row 3: "):
        proba = predictor.predict_proba(images)
    with pytest.warns(UserWarning, match="row 3: "):
        said = predictor.predict(images)
    assert [word is None for word in said] == [False, True, False, True]
    np.testing.assert_allclose(proba[[0, 2]], whole[[0, 2]], atol=1e-5)
    assert np.isnan(proba[[1, 3]]).all()
    examples = Examples(
        inputs=tuple(images), targets=np.zeros(4), origins=tuple("abcd")
    )
    with pytest.raises(DataError, match=r"Test data must be readable.*b: .*d: "):
        predictor.scores_on(examples)


@pytest.mark.parametrize("name", ["majority", "tfidf", "lora"])
def test_pickles_are_the_files_of_the_saved_model(name, trained, nowhere):
    predictor = trained(name)
    wanted = predictor.predict_proba(UNSEEN)
    for twin in (pickle.loads(pickle.dumps(predictor)), copy.deepcopy(predictor)):
        np.testing.assert_allclose(twin.predict_proba(UNSEEN), wanted, atol=1e-5)
        assert (twin.task, twin.config) == (predictor.task, predictor.config)
    files = predictor.__getstate__()
    assert {Path(file).suffix for file in files} <= {".json", ".safetensors", ".md"}
    with pytest.raises(ExportError, match="damaged or changed"):
        predictor.__setstate__(
            {**files, MANIFEST: files[MANIFEST].replace(b"good", b"bad ")}
        )
    assert not (nowhere / "cache").exists()


@pytest.mark.parametrize(
    "text", ["good", "a good film / city", "good " * 4000, "good:x"]
)
def test_one_text_is_one_example_and_asks_no_hub(text, trained, nowhere):
    predictor = trained("tfidf")
    assert predictor.predict(text) == predictor.predict([text])


def test_a_string_that_names_a_file_is_read(trained, tmp_path):
    file = tmp_path / "new.csv"
    file.write_text("text\na good film\na bad city\n")
    assert len(trained("tfidf").predict(str(file))) == 2
    with pytest.raises(
        DataError, match=r"existing file or folder.*Closest: 'new\.csv'"
    ):
        trained("tfidf").predict(str(tmp_path / "now.csv"))


def test_a_long_prediction_is_the_same_and_says_how_far_it_is(trained, monkeypatch):
    model, said = trained("probe"), []
    whole, _ = model.answers(tuple(UNSEEN), said.append)
    assert said == []  # one piece
    monkeypatch.setattr(predictor, "AT_ONCE", len(UNSEEN) - 1)
    monkeypatch.setattr(predictor, "SILENT_SECONDS", 0.0)
    pieces, _ = model.answers(tuple(UNSEEN), said.append)
    np.testing.assert_allclose(pieces, whole, atol=1e-6)
    done = (0, len(UNSEEN) - 1)
    assert said == [
        f"Predicting: {n} of {len(UNSEEN)} examples are done." for n in done
    ]

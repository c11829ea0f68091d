import io
import math
import pickle

import numpy as np
import pytest
from PIL import Image

from fewshot_automl import errors
from fewshot_automl import modalities as inputs
from fewshot_automl.errors import DataError, ShapeError, UserError
from fewshot_automl.outcome import Outcome
from fewshot_automl.places import cache_folder
from fewshot_automl.tasks import Task


def png(image):
    file = io.BytesIO()
    image.save(file, "png")
    return file.getvalue()


def test_user_errors_are_value_errors_and_run_errors_are_not():
    named = [getattr(errors, name) for name in dir(errors) if name.endswith("Error")]
    assert len(named) > 8
    for error in named:
        if issubclass(error, errors.FewShotError):
            assert issubclass(error, ValueError) == issubclass(error, UserError)


def test_an_outcome_survives_json_and_pickle():
    outcome = Outcome(
        status="done",
        scores=(0.5, math.nan),
        mean=0.5,
        standard_error=0.1,
        cost_seconds=2.0,
        measures={"accuracy": 0.5},
        outputs=np.zeros((1, 2, 3), dtype=np.float32),
    )
    for again in (
        Outcome.from_json(outcome.to_json()),
        pickle.loads(pickle.dumps(outcome)),
    ):
        assert again.to_json() == outcome.to_json()
        assert math.isnan(again.scores[1])


def test_a_failed_trial_has_no_score_and_a_done_one_must():
    failed = Outcome(status="failed", reason="NaN")
    assert math.isnan(failed.mean)
    assert failed.to_json()["mean"] is None
    with pytest.raises(ShapeError, match="finite mean"):
        Outcome(status="done")


def test_a_task_survives_json_and_refuses_what_does_not_fit():
    task = Task(modality="text", names=("a", "b", "c"))
    assert Task.from_json(task.to_json()) == task
    old = {"modality": "text", "target": "multiclass", "metric": "accuracy"}
    assert Task.from_json({**old, "class_names": ["a", "b", "c"]}) == task
    for wrong in ({"names": ("a", "a", "b")}, {"names": ("a",)}, {"kind": "number"}):
        with pytest.raises(UserError):
            Task(**{**task.to_json(), "names": task.names, **wrong})


def test_images_come_upright_in_rgb_on_white(tmp_path):
    clear = Image.new("RGBA", (3, 2), (255, 0, 0, 0))
    assert inputs.open_image(png(clear)).getpixel((0, 0)) == (255, 255, 255)
    deep = Image.fromarray(np.full((2, 2), 65535, dtype=np.uint16))
    assert inputs.open_image(png(deep)).getpixel((0, 0)) == (255, 255, 255)
    grey = inputs.open_image(np.zeros((4, 5), dtype=np.uint8))
    assert (grey.mode, grey.size) == ("RGB", (5, 4))
    turned = Image.new("RGB", (4, 2))
    exif = turned.getexif()
    exif[0x0112] = 6
    file = tmp_path / "turned.jpg"
    turned.save(file, exif=exif)
    assert inputs.open_image(file).size == (2, 4)


def test_broken_images_are_named(tmp_path):
    file = tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    file.write_bytes(png(Image.fromarray(noise))[:-200])
    with pytest.raises(DataError, match=r"cut\.png"):
        inputs.open_image(file)
    with pytest.raises(DataError, match="in memory"):
        inputs.open_image(b"no image")


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(inputs.image, "MAX_PIXELS", 100)
    with pytest.raises(DataError, match="20 x 20 pixels are more than 100"):
        inputs.open_image(png(Image.new("RGB", (20, 20))))


def test_content_is_hashed_not_place(tmp_path):
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    for file in (first, second):
        file.write_bytes(png(Image.new("RGB", (2, 2))))
    assert inputs.content_hash(first) == inputs.content_hash(second)
    assert inputs.content_hash(first) == inputs.content_hash(first.read_bytes())
    assert len(set(inputs.content_hashes(["a", "b", b"a"]))) == 3
    flat = np.zeros((2, 8), dtype=np.uint8)
    assert inputs.content_hash(flat) != inputs.content_hash(flat.reshape(4, 4))


def test_cache_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path
    monkeypatch.delenv("FEWSHOT_CACHE")
    assert cache_folder().name == "fewshot_automl"

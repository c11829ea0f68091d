import json
import shutil

import pytest
from PIL import Image

from fewshot_automl import UserError, explain, fit
from fewshot_automl.automl.explain import GRID
from fewshot_automl.cli.entry import run
from fewshot_automl.features.store import FeatureStore

FEW = {"budget": "none", "trials": 1, "methods": ["prototype"]}


@pytest.fixture(scope="module")
def study(tmp_path_factory, at_home, texts):
    out = tmp_path_factory.mktemp("explain") / "study"
    fit(texts[0], labels=texts[1], out=out, **FEW)
    return out


def test_a_known_text_is_its_own_nearest_neighbour(study, texts):
    found = explain(study, texts[0][4], data=texts[0])
    assert found.neighbours[0].text == texts[0][4]
    assert found.neighbours[0].label == texts[1][4]
    assert found.neighbours[0].similarity == pytest.approx(1.0, abs=1e-4)
    assert [part.name for part in found.parts] == texts[0][4].split()
    model = found.answer, found.probability
    by_row = explain(study, texts[0], row=4, data=texts[0])
    assert (by_row.answer, by_row.probability) == pytest.approx(model)
    with pytest.raises(UserError, match="row must be from 0 to 17, got 18"):
        explain(study, texts[0], row=18, data=texts[0])


def test_labelled_examples_are_encoded_once(study, texts, monkeypatch):
    explain(study, texts[0][4], data=texts[0])
    encoded = []
    compute = FeatureStore._compute

    def counted(store, group, keys, batches, found):
        encoded.extend(keys if store._disk is not None else ())
        compute(store, group, keys, batches, found)

    monkeypatch.setattr(FeatureStore, "_compute", counted)
    explain(study, texts[0][5], data=texts[0])
    assert not encoded
    explain(study, "never seen", data=texts[0])
    assert len(encoded) == 1


def test_other_data_than_those_of_the_fit_are_refused(study):
    with pytest.raises(UserError, match="none of its examples"):
        explain(study, "good film", data=["nothing", "like", "it"])


def test_an_image_is_explained_wherever_it_is(tmp_path, at_home, images, capsys):
    for kind in ("red", "green"):
        (tmp_path / "data" / kind).mkdir(parents=True)
    for number, (pixels, kind) in enumerate(zip(*images, strict=True)):
        Image.fromarray(pixels).save(tmp_path / "data" / kind / f"{number}.png")
    fit(tmp_path / "data", out=tmp_path / "study", **FEW)
    path = tmp_path / "data" / "red" / "0.png"
    of_file = explain(tmp_path / "study", str(path))
    assert len(of_file.parts) == GRID**2
    assert of_file.neighbours[0].similarity == pytest.approx(1.0, abs=1e-4)
    assert explain(tmp_path / "study", [path.read_bytes()]) == of_file
    assert explain(tmp_path / "study", [images[0][0]]) == of_file
    shutil.copy(path, tmp_path / "new.png")
    path.unlink()  # it is not found any more, the others are
    assert run(["explain", f"{tmp_path}/study", f"{tmp_path}/new.png", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["answer"] == of_file.answer
    assert len(said["neighbours"]) == 5

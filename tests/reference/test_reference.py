"""Folders that earlier versions wrote must be read for ever; see `make.py`."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from fewshot_automl import Predictor
from fewshot_automl.cli.entry import run

FORMATS = sorted(path.name for path in Path(__file__).parent.glob("format-*"))

CARD = Path(__file__).parents[1] / "zoo" / "text" / "tiny-bert.toml"
MACRO_F1 = ("--metric", "macro_f1")


@pytest.fixture(params=FORMATS)
def written(request, tmp_path, own_places):
    """Return a copy of a folder that some version wrote."""
    home = Path(__file__).parent / request.param
    return Path(shutil.copytree(home, tmp_path / "written"))


@pytest.fixture
def own_places(tmp_path, monkeypatch, tiny_cards, random_weights):
    (tmp_path / "zoo").mkdir()
    shutil.copy(CARD, tmp_path / "zoo")
    (tmp_path / "zoo" / CARD.stem).symlink_to(random_weights(tiny_cards[CARD.stem]))
    monkeypatch.setenv("FEWSHOT_ZOO_PATH", str(tmp_path / "zoo"))
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")


def test_a_model_of_each_format_answers_as_it_did(written):
    said = json.loads((written / "said.json").read_text("utf-8"))
    outputs = Predictor.load(written / "study").predict_proba(said["texts"])
    np.testing.assert_allclose(outputs, said["outputs"], atol=1e-4)


def test_commands_open_a_study_of_each_format(written, capsys):
    study, data = str(written / "study"), str(written / "texts.csv")
    for words, told in (
        (["versions", study], "the first fit"),
        (["check", study, data, "--data", data], "as expected"),
        (["explain", study, "good film", "--data", data], "art"),
        (["retarget", study, *MACRO_F1, "--data", data], "macro f1"),
    ):
        assert run(words) == 0, (words, capsys.readouterr())
        said = capsys.readouterr()
        assert told in said.out + said.err, words


def test_a_study_of_a_newer_format_is_refused_in_words(written, capsys):
    study = written / "study"
    record = json.loads((study / "study.json").read_text("utf-8"))
    newer = {**record, "format": 99, "versions": {"fewshot-automl": "9.1"}, "moon": 1}
    (study / "study.json").write_text(json.dumps(newer), "utf-8")
    for words in (["versions"], ["retarget", *MACRO_F1], ["resume"], ["slices"]):
        assert run([*words, str(study)]) == 2, words
        said = " ".join(capsys.readouterr().err.split())
        assert "written by a newer version of fewshot_automl" in said, words
        assert "fewshot-automl>=9.1" in said

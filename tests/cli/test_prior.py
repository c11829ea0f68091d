"""Past studies by the command line: built, shown, and used by the next fit."""

import json
import shutil

import pytest

from fewshot_automl.automl.record import note_space, settings_of, write_record
from fewshot_automl.automl.settings import Settings
from fewshot_automl.cli.entry import run
from fewshot_automl.ledger import Ledger
from fewshot_automl.oracle.prior import Prior
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Config, Float, Space, When

FIT = (
    "fit reviews.csv --target stars --budget none --members 1 --json "
    "--backbones tiny-bert"
)
pytestmark = pytest.mark.usefixtures("at_home")
SPACE = Space(
    (
        Choice(name="method", options=("tfidf", "probe")),
        Float(name="rate", low=0.0, high=1.0, when=(When("method", ("probe",)),)),
    )
)


@pytest.fixture
def studies(home):
    """Two studies, the second with too few trials to teach anything."""
    for name, count in (("long", 7), ("short", 2)):
        study = write_record(home / name, Settings(), ["a text"], None, "mark")
        ledger = Ledger.open(home / name, study=study, space=SPACE)
        note_space(ledger, "text", SPACE)
        for place in range(count):
            config = Config.of({"method": "probe", "rate": place / 10})
            outcome = Outcome(status="done", mean=place / 10)
            ledger.finish(ledger.start(config), outcome)
    yield home / "long", home / "short"
    shutil.rmtree(home / "long")
    shutil.rmtree(home / "short")


def test_a_prior_is_built_shown_and_used(studies, capsys, last_json, home):
    words = ["prior", "build", "long", "short", "--out", "ours.json", "--json"]
    assert run(words) == 0
    built, err = last_json()
    assert [(s["kind"], s["trials"]) for s in built["studies"]] == [("text", 7)]
    assert built["studies"][0]["best"] == {"method": "probe", "rate": 0.6}
    assert list(built["skipped"]) == ["short"]
    assert "Skipped short: " in err
    assert run(["prior", "show", "ours.json"]) == 0
    shown = capsys.readouterr().out
    assert built["studies"][0]["name"] in shown
    assert "probe, rate 0.6" in shown
    words = f"{FIT} --trials 1 --methods tfidf --out next --prior ours.json"
    assert run(words.split()) == 0
    result = json.loads((home / "next" / "result.json").read_text())
    assert result["prior"] == f"ours.json, 1 past study, key {built['key']}"
    assert Prior.read(home / "next" / "prior.json").key == built["key"]
    assert settings_of(home / "next").prior == str(home / "ours.json")


def test_what_is_no_study_of_ours_is_named_and_left_out(studies, last_json, home):
    (home / "older").mkdir()
    (home / "older" / "study.json").write_text('{"settings": {}}')
    words = "prior build older long reviews.csv zoo --out ours.json --json"
    assert run(words.split()) == 0
    built, err = last_json()
    assert list(built["skipped"]) == ["older", "reviews.csv", "zoo"]
    assert "Skipped older: older/study.json must be of a study that this" in err
    assert len(built["studies"]) == 1


def test_the_shipped_prior_is_shown_without_a_file(last_json):
    assert run(["prior", "show", "--json"]) == 0
    found, err = last_json()
    assert found["key"] == Prior.default().key
    assert all(study.name in err for study in Prior.default().studies)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("prior build zoo --out x.json", "must hold a study"),
        ("prior show none.json", "must be a JSON file that can be read"),
        ("prior show reviews.csv", "must be a JSON file"),
        (f"{FIT} --trials 1 --prior none.json --out z", "fewshot prior build"),
    ],
)
def test_what_is_wrong_is_said(words, said, capsys, home):
    assert run(words.split()) == 2
    assert said in capsys.readouterr().err
    assert not (home / "z").exists()


def test_studies_that_teach_nothing_make_no_prior(studies, capsys, home):
    assert run(["prior", "build", "short", "--out", "empty.json"]) == 2
    assert "none that could be used" in capsys.readouterr().err
    assert not (home / "empty.json").exists()
    assert run(["prior", "build", "long", "--out", "nowhere/x.json"]) == 2
    assert "a folder that exists" in capsys.readouterr().err

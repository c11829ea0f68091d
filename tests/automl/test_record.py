import json

import numpy as np
import pytest

from fewshot_automl.automl.fit import resume
from fewshot_automl.automl.record import (
    PRIOR_FILE,
    chosen_prior,
    kept_if_tried,
    note_space,
    past_study,
    prior_in_words,
    write_record,
)
from fewshot_automl.automl.settings import Settings
from fewshot_automl.errors import UserError
from fewshot_automl.ledger import Ledger
from fewshot_automl.oracle import Past, Prior
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config, Float, Space

SPACE = Space((Float(name="x", low=0.0, high=1.0),))


def history(count):
    return [
        (Config.of({"x": float(x)}), Outcome(status="done", mean=float(x)))
        for x in np.linspace(0.1, 0.9, count)
    ]


@pytest.fixture
def own():
    return Prior(studies=(Past.of("own", SPACE, history(6), kind="text"),))


def test_a_study_is_read_from_its_folder(tmp_path):
    folder = tmp_path / "study"
    name = write_record(folder, Settings(), ["a text"], None, "mark")
    ledger = Ledger.open(folder, study=name, space=SPACE)
    note_space(ledger, "text", SPACE)
    for config, outcome in history(6):
        ledger.finish(ledger.start(config), outcome)
    assert past_study(folder) == Past.of(name, SPACE, history(6), kind="text")


def test_a_study_that_never_began_is_not_taken_for_an_old_one(tmp_path):
    folder = tmp_path / "study"
    write_record(folder, Settings(), ["a text"], None, "mark")
    with pytest.raises(UserError, match="must have tried something, got no trial"):
        past_study(folder)


def without(record, name):
    return {key: value for key, value in record.items() if key != name}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda record: without(record, "name"), "differs in name"),
        (lambda record: {**record, "settings": {"moon": 1}}, "differs in moon"),
        (lambda record: without(record, "settings"), "damaged"),
        (lambda record: [record], "damaged"),
    ],
)
def test_a_study_of_another_version_is_refused_in_words(change, words, tmp_path):
    folder = tmp_path / "study"
    write_record(folder, Settings(), ["a text"], None, "mark")
    file = folder / "study.json"
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    for use in (
        past_study,
        resume,
        lambda folder: write_record(folder, Settings(), ["a text"], None, "mark"),
    ):
        with pytest.raises(UserError, match=words):
            use(folder)
    file.write_text('{"name": "hal')
    with pytest.raises(UserError, match="damaged"):
        resume(folder)


def test_only_a_new_study_without_a_done_trial_is_deleted(tmp_path):
    def work(folder, file):
        with kept_if_tried(folder):
            (folder / file).parent.mkdir(parents=True)
            (folder / file).touch()
            raise ZeroDivisionError

    def fail(folder, file):
        with pytest.raises(ZeroDivisionError):
            work(folder, file)

    fail(tmp_path / "new", "study.json")
    assert not (tmp_path / "new").exists()
    fail(tmp_path / "tried", "predictions/one.safetensors")
    fail(tmp_path / "tried", "more/file")
    assert len(list((tmp_path / "tried").rglob("*"))) == 4


def test_nothing_asked_is_the_shipped_prior_and_none_is_none(tmp_path):
    assert chosen_prior(None, tmp_path) is Prior.default()
    assert chosen_prior("none", tmp_path).studies == ()
    assert prior_in_words("none", Prior()) == "none"
    assert prior_in_words(None, Prior.default()).startswith("the shipped one, ")


def test_a_prior_of_the_users_own_stays_with_the_study(own, tmp_path):
    file, folder = tmp_path / "own.json", tmp_path / "study"
    own.write(file)
    write_record(folder, Settings(prior=str(file)), ["a text"], None, "mark")
    assert chosen_prior(str(file), folder) == own
    own.write(folder / PRIOR_FILE)
    assert prior_in_words(str(file), own) == f"own.json, 1 past study, key {own.key}"
    file.unlink()
    assert chosen_prior(str(file), folder) == own
    for missing, study in ((file, tmp_path), (tmp_path / "misspelt.json", folder)):
        with pytest.raises(UserError, match="must be a JSON file"):
            chosen_prior(str(missing), study)
    own.about("image").write(file)
    assert chosen_prior(str(file), folder).studies == ()


def test_settings_remember_which_prior():
    settings = Settings(prior="/a/b.json")
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings

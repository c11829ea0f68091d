import json

import numpy as np
import pytest

from fewshot_automl.automl.past import (
    chosen_prior,
    note_space,
    past_study,
    prior_in_words,
    settled_prior,
)
from fewshot_automl.automl.record import write_record
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
    study = past_study(folder)
    assert (study.name, study.kind, study.space) == (name, "text", SPACE)
    assert [config for config, _ in study.history] == [c for c, _ in history(6)]


def test_a_study_that_never_began_is_not_taken_for_an_old_one(tmp_path):
    folder = tmp_path / "study"
    write_record(folder, Settings(), ["a text"], None, "mark")
    with pytest.raises(UserError, match="must have tried something, got no trial"):
        past_study(folder)


def test_a_study_that_noted_no_space_is_refused(tmp_path):
    folder = tmp_path / "study"
    name = write_record(folder, Settings(), ["a text"], None, "mark")
    Ledger.open(folder, study=name, space=SPACE).start(history(1)[0][0])
    with pytest.raises(UserError, match=r"fewshot resume .* --budget 1min"):
        past_study(folder)


def test_nothing_asked_is_the_shipped_prior_and_none_is_none(tmp_path):
    assert chosen_prior(None, None) is Prior.default()
    assert settled_prior("none", tmp_path).studies == ()
    assert list(tmp_path.iterdir()) == []
    assert prior_in_words("none", Prior()) == "none"
    assert prior_in_words(None, Prior.default()).startswith("the shipped one, ")


def test_a_prior_of_the_users_own_stays_with_the_study(own, tmp_path):
    file, folder = tmp_path / "own.json", tmp_path / "study"
    own.write(file)
    write_record(folder, Settings(prior=str(file)), ["a text"], None, "mark")
    assert settled_prior(str(file), folder) == own
    assert prior_in_words(str(file), own) == f"own.json, 1 past study, key {own.key}"
    file.unlink()
    assert settled_prior(str(file), folder) == own
    with pytest.raises(UserError, match="must be a JSON file"):
        chosen_prior(str(file), None)
    with pytest.raises(UserError, match="must be a JSON file"):
        chosen_prior(str(tmp_path / "misspelt.json"), folder)
    own.about("image").write(file)
    assert settled_prior(str(file), folder).studies == ()


def test_settings_remember_which_prior():
    settings = Settings(prior="/a/b.json")
    assert Settings.from_json(json.loads(json.dumps(settings.to_json()))) == settings

"""A resumed study may have lost a backbone, or have too little time for scoring."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fewshot_automl import Settings, fit
from fewshot_automl.automl.scoring import Tried
from fewshot_automl.errors import RunError
from fewshot_automl.policy import CostModel, leader

TINY = Path(__file__).parents[1] / "zoo" / "text"
GONE, HERE = "tiny-mpnet", "tiny-bert"
BEGUN = Settings(backbones=(GONE,), methods=("probe",), budget_seconds=100.0, trials=1)


@pytest.fixture(scope="module", autouse=True)
def two_backbones(at_home, tmp_path_factory, tiny_cards, random_weights):
    """Add another tiny backbone to the zoo."""
    home = tmp_path_factory.mktemp("home")
    for name in (GONE, HERE):
        shutil.copy(TINY / f"{name}.toml", home)
        (home / name).symlink_to(random_weights(tiny_cards[name]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWSHOT_ZOO_PATH", str(home))
        yield


@pytest.fixture(scope="module")
def begun(texts, tmp_path_factory, two_backbones):
    out = tmp_path_factory.mktemp("begun") / "run"
    return fit(texts[0], labels=texts[1], out=out, settings=BEGUN).folder


@pytest.fixture
def go_on(begun, texts, tmp_path, monkeypatch, notes):
    """Return a function that goes on with a study, whose first trial is the best."""

    def by_age(space, history, seed, prior):
        return {i: -float(i) for i, (_, o) in enumerate(history) if o.is_done}

    def evidence(tried, number):
        return np.full(len(tried.problem.targets), -1.0 - number)

    monkeypatch.setattr(leader, "posterior_means", by_age)
    monkeypatch.setattr(Tried, "evidence", evidence)
    out = shutil.copytree(begun, tmp_path / "run")

    def resumed(**changes):
        settings = replace(BEGUN, **changes)
        return fit(
            texts[0], labels=texts[1], out=out, listener=notes, settings=settings
        )

    return resumed


@pytest.mark.parametrize("budget", [100.0, None])
def test_a_backbone_that_is_gone_does_not_break_a_resume(go_on, notes, budget):
    result = go_on(backbones=(HERE,), budget_seconds=budget, trials=2)
    assert [c.text("backbone") for c, _ in result.history] == [GONE, HERE]
    assert result.config.text("backbone") == HERE
    assert len(result.summary["members"]) == 1
    assert len(notes.heard("not at hand any more")) == 1


def test_without_any_trial_that_can_be_fitted_it_says_what_to_fetch(go_on):
    with pytest.raises(RunError, match=GONE):
        go_on(backbones=(HERE,), budget_seconds=None)


def test_a_narrowed_study_may_still_use_what_is_at_hand(go_on, notes):
    narrow = {"backbone": (HERE,)}
    result = go_on(backbones=(GONE, HERE), narrow=narrow, trials=2)
    assert result.config.text("backbone") == GONE
    assert not notes.heard("not at hand any more")


@pytest.mark.filterwarnings("ignore:18 training examples")
def test_a_large_test_set_leaves_time_for_trials(texts, tmp_path, monkeypatch):
    monkeypatch.setattr(CostModel, "scoring_seconds", lambda *_: 1e6)
    table = pd.DataFrame({"text": texts[0], "label": texts[1]})
    settings = replace(
        BEGUN, methods=("tfidf", "probe"), budget_seconds=400.0, trials=2
    )
    result = fit(
        table, target="label", test=table, out=tmp_path / "run", settings=settings
    )
    assert result.summary["ending"] == "trials"
    assert len(result.summary["members"]) == 1

import shutil
from pathlib import Path

import pandas as pd
import pytest

from fewshot_automl import Settings, fit
from fewshot_automl.automl import finish
from fewshot_automl.errors import RunError
from fewshot_automl.policy import CostModel, leader

TINY = Path(__file__).parents[1] / "zoo" / "text"
QUICK = {"backbones": ("tiny-bert",), "methods": ("tfidf", "probe")}


@pytest.fixture
def two_backbones(tmp_path, tiny_cards, random_weights, monkeypatch):
    """Add another tiny backbone to the zoo."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("tiny-bert", "tiny-mpnet"):
        shutil.copy(TINY / f"{name}.toml", home)
        (home / name).symlink_to(random_weights(tiny_cards[name]))
    monkeypatch.setenv("FEWSHOT_ZOO_PATH", str(home))


def by_age(space, history, seed, prior):
    """Return scores by which the first trial done is the best."""
    return {i: -float(i) for i, (_, o) in enumerate(history) if o.is_done}


@pytest.fixture
def begun(texts, tmp_path, two_backbones, monkeypatch):
    """Return a function that goes on with a study whose best backbone is gone."""
    monkeypatch.setattr(leader, "posterior_means", by_age)
    study = {"labels": texts[1], "methods": ("probe",), "out": tmp_path / "run"}
    fit(texts[0], backbones=("tiny-mpnet",), budget=100.0, trials=1, **study)

    def go_on(listener, **more):
        return fit(
            texts[0], backbones=("tiny-bert",), listener=listener, **study, **more
        )

    return go_on


@pytest.mark.parametrize("budget", [100.0, "none"])
def test_a_backbone_that_is_gone_does_not_break_a_resume(begun, notes, budget):
    result = begun(notes, budget=budget, trials=2)
    assert [c.text("backbone") for c, _ in result.history] == [
        "tiny-mpnet",
        "tiny-bert",
    ]
    assert result.config.text("backbone") == "tiny-bert"
    assert len(result.summary["members"]) == 1
    told = [said for said in notes.sentences if "not at hand any more" in said]
    assert len(told) == 1


def test_without_any_trial_that_can_be_fitted_it_says_what_to_fetch(begun, notes):
    with pytest.raises(RunError, match="tiny-mpnet"):
        begun(notes, budget="none", trials=1)


def test_a_narrowed_study_may_still_use_what_is_at_hand(
    texts, tmp_path, two_backbones, monkeypatch, notes
):
    monkeypatch.setattr(leader, "posterior_means", by_age)
    study = {"labels": texts[1], "methods": ("probe",), "out": tmp_path / "run"}
    both = ("tiny-mpnet", "tiny-bert")
    fit(texts[0], backbones=("tiny-mpnet",), budget=100.0, trials=1, **study)
    narrowed = Settings(
        backbones=both,
        methods=("probe",),
        narrow={"backbone": ("tiny-bert",)},
        trials=2,
        budget_seconds=100.0,
    )
    result = fit(
        texts[0],
        labels=texts[1],
        out=tmp_path / "run",
        settings=narrowed,
        listener=notes,
    )
    assert result.config.text("backbone") == "tiny-mpnet"
    assert not [said for said in notes.sentences if "not at hand any more" in said]


def test_scoring_neither_starves_the_search_nor_is_forgotten_for_partners(
    texts, tmp_path, monkeypatch, notes
):
    """Of 400 s, each member asks 150 for scoring: two are in time, three are not."""
    monkeypatch.setattr(CostModel, "scoring_seconds", lambda *_: 150.0)
    monkeypatch.setattr(
        finish,
        "partners_of",
        lambda tried, winner, *_, **__: [i for i in range(3) if i != winner],
    )
    table = pd.DataFrame({"text": texts[0], "label": texts[1]})
    result = fit(
        table,
        target="label",
        test=table,
        budget=400.0,
        trials=3,
        out=tmp_path / "run",
        listener=notes,
        **QUICK,
    )
    assert result.summary["ending"] == "trials"
    assert len(result.summary["members"]) == 2


def test_a_large_test_set_leaves_time_for_trials(texts, tmp_path, monkeypatch):
    monkeypatch.setattr(CostModel, "scoring_seconds", lambda *_: 1e6)
    table = pd.DataFrame({"text": texts[0], "label": texts[1]})
    result = fit(
        table,
        target="label",
        test=table,
        budget=400.0,
        trials=2,
        out=tmp_path / "run",
        **QUICK,
    )
    assert result.summary["ending"] == "trials"
    assert len(result.summary["members"]) == 1


def test_members_may_be_changed_by_a_resume(texts, tmp_path, monkeypatch):
    asked = []

    def partners(tried, winner, *_, most, **__):
        asked.append(most)
        return []

    monkeypatch.setattr(finish, "partners_of", partners)
    for members in (3, 1):
        fit(
            texts[0],
            labels=texts[1],
            out=tmp_path / "run",
            settings=Settings(**QUICK, members=members, budget_seconds=None, trials=1),
        )
    assert asked == [2, 0]

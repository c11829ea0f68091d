"""Fits in which dear Configs run on their first folds before on all."""

import json
from dataclasses import replace

import pytest

from fewshot_automl.automl import finish, fit
from fewshot_automl.automl import search as module
from fewshot_automl.automl.plan import Plan, Splits
from fewshot_automl.automl.search import pays_to_look_first
from fewshot_automl.oracle.folds import latest, resumable
from fewshot_automl.oracle.oracle import tried

TIMED = Plan(budget_seconds=60.0, dear_trials=6)


@pytest.mark.parametrize(
    ("plan", "dear_fits", "device", "expected"),
    [
        (TIMED, 4, "cpu", True),
        (TIMED, 4, "mps", True),
        (TIMED, 4, "cuda:0", False),
        (TIMED, 3, "cpu", False),
        (replace(TIMED, dear_trials=5), 4, "cpu", False),
        (replace(TIMED, dear_trials=None), 4, "cpu", False),
        (Plan(budget_seconds=None, dear_trials=None), 4, "cpu", False),
    ],
)
def test_it_pays_where_many_trials_fit_a_time(plan, dear_fits, device, expected):
    assert pays_to_look_first(plan, dear_fits, device) == expected


class Looking:
    """Suggests short dear Configs, never goes on with one, and has none after some."""

    def __init__(self, most=3):
        self.most = most

    def suggest(self, space, history, n, seed, within=None):
        seen = tried(history)
        configs = [
            space.default(method="partial_freeze", steps=10 + x, batch_size=8)
            for x in range(self.most)
        ]
        return [c for c in configs if c not in seen][:n]


@pytest.fixture
def study(texts, tmp_path, monkeypatch, notes):
    """Return a function that fits with plain probes first, then looks at others."""
    draw = module.settled_plan

    def three_folds(*parts):
        return replace(draw(*parts), splits=Splits(folds=3, repeats=1))

    monkeypatch.setattr(module, "settled_plan", three_folds)
    monkeypatch.setattr(module, "LEAST_FITS", 3)
    monkeypatch.setattr(module, "oracle_named", lambda *_, **__: Looking())
    monkeypatch.setattr(
        module.Opening,
        "__call__",
        lambda self, history: [self.space.default(method="probe")],
    )

    def study(**more):
        return fit(
            texts[0],
            labels=texts[1],
            methods=("probe", "partial_freeze"),
            backbones=("tiny-bert",),
            out=tmp_path / "run",
            listener=notes,
            **{"budget": 1000.0, "trials": 4, **more},
        )

    return study


def folds_of(result):
    return [(len(o.scores), o.folds_left) for _, o in result.history]


def whole_ahead(space, history, seed, advisers=()):
    """Return scores by which whole trials lead."""
    places = [i for i in latest(history) if history[i][1].is_done]
    return {i: 1.0 - history[i][1].folds_left for i in places}


def last_ahead(space, history, seed, advisers=()):
    """Return scores by which the last Config that was tried leads."""
    places = [i for i in latest(history) if history[i][1].is_done]
    return {i: float(tuple(dict(history)).index(history[i][0])) for i in places}


def test_looks_that_do_not_lead_are_left_and_cannot_win(study, monkeypatch, notes):
    monkeypatch.setattr(finish, "smoothed_scores", whole_ahead)
    monkeypatch.setattr("fewshot_automl.oracle.completion.smoothed_scores", whole_ahead)
    result = study()
    assert folds_of(result)[1:] == [(1, 2)] * 3
    assert result.config.text("method") == "probe"
    assert result.summary["trials"]["done"] == 4
    assert set(result.summary["indistinguishable"]) == {0}
    page = (result.folder / "report.html").read_text("utf-8")
    assert "1 of 3" in page
    assert "3 of some folds only" in page
    frame = result.trials()
    assert frame["folds_left"].tolist() == [0, 2, 2, 2]
    assert len(notes.events) == 8


def test_a_look_that_leads_is_seen_through_and_may_win(study, monkeypatch, notes):
    monkeypatch.setattr(finish, "smoothed_scores", last_ahead)
    monkeypatch.setattr("fewshot_automl.oracle.completion.smoothed_scores", last_ahead)
    result = study()
    assert folds_of(result)[1:] == [(1, 2)] * 3 + [(3, 0)]
    assert result.summary["winner"]["number"] == 4
    assert result.summary["ending"] == "trials"
    assert result.summary["trials"]["done"] == 4
    first, second = result.history[3][1], result.history[4][1]
    assert result.history[3][0] == result.history[4][0]
    assert second.scores[:1] == first.scores
    assert not resumable(result.history[3:])
    written = json.loads((result.folder / "result.json").read_text())
    assert written["winner"]["number"] == 4
    assert "1 of 3" in (result.folder / "report.html").read_text("utf-8")


def test_a_leader_of_no_recall_yet_is_seen_through(study, monkeypatch):
    """Of a few examples a class may be missed that all folds find; here none does."""
    monkeypatch.setattr(finish, "smoothed_scores", last_ahead)
    monkeypatch.setattr("fewshot_automl.oracle.completion.smoothed_scores", last_ahead)
    result = study(min_worst_recall=0.999)
    assert folds_of(result)[1:] == [(1, 2)] * 3 + [(3, 0)] * 3
    assert not {1, 2, 3} & set(result.summary["over"])


def test_a_leader_whose_folds_do_not_fit_the_time_is_told_of(study, monkeypatch, notes):
    monkeypatch.setattr(finish, "smoothed_scores", last_ahead)
    monkeypatch.setattr(module.Search, "_completed", lambda self, end, *_: end)
    result = study()
    assert folds_of(result)[1:] == [(1, 2)] * 3
    assert result.config.text("method") == "probe"
    told = [said for said in notes.sentences if "ran 1 of 3 folds" in said]
    assert len(told) == 1


def test_time_is_kept_for_the_folds_of_a_leader(study, monkeypatch):
    kept = []
    reserve = module.Search._reserve

    def spy(self, history):
        seconds = reserve(self, history)
        ahead = module.leading_quickly(history)
        known = [c for c in ahead if c in resumable(history)]
        prices = self.forecast.after(history)
        most = [prices.trial_seconds(c) for c in known[:1]]
        kept.append((seconds - self._final_seconds(history), sum(most)))
        return seconds

    monkeypatch.setattr(module.Search, "_reserve", spy)
    study()
    assert kept
    for extra, expected in kept:
        assert extra == pytest.approx(expected, abs=1e-6)

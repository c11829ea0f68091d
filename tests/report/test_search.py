from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_automl.report.axes import Axis, around
from fewshot_automl.report.search import search


def test_best_so_far_follows_the_metric_direction(make_study):
    up = make_study(("a", "b"))
    found = search(up.summary, up.history)
    assert list(found.best) == sorted(found.best)
    down = make_study(("a", "b"), metric="log_loss")
    found = search(down.summary, down.history)
    assert list(found.best) == sorted(found.best, reverse=True)
    assert all(row.score > 0 for row in found.done)


def test_best_starts_at_the_first_trial_that_was_done(make_study):
    study = make_study(("a", "b"), failed=(0, 1))
    found = search(study.summary, study.history)
    assert (found.first, len(found.best)) == (2, 4)


def test_winner_leads_the_table_and_failures_end_it(make_study):
    study = make_study(("a", "b"), failed=(1,))
    ranked = search(study.summary, study.history).ranked
    assert ranked[0].is_winner
    assert ranked[-1].number == 1
    scores = [row.score for row in ranked[1:-1]]
    assert scores == sorted(scores, reverse=True)


def test_faults_of_one_reason_stand_together(make_study):
    study = make_study(("a", "b"), failed=(1, 3, 4))
    config, outcome = study.history[4]
    reason = study.history[1][1].reason
    study.history[4] = (config, replace(outcome, reason=reason))
    page = study.write()
    assert "2 trials (1, 4) failed: Reason 1: a &lt; b &amp; c" in page
    assert "Trial 3 (prototype on minilm-l6) failed: Reason 3" in page


@pytest.mark.parametrize("worst", [-50.0, -0.9])
def test_one_trial_gone_astray_does_not_flatten_the_others(make_study, worst):
    study = make_study(("a", "b"), metric="log_loss")
    config, outcome = study.history[0]
    study.history[0] = (config, replace(outcome, mean=worst))
    found = search(study.summary, study.history)
    assert found.hidden == (worst < -10)
    assert found.scores.high < 10


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.booleans())
def test_ticks_lie_on_the_axis_and_are_few(low, span, log):
    low = abs(low) + 1e-3 if log else low
    axis = Axis(low=low, high=low + span, start=0.0, end=100.0, log=log)
    ticks = axis.ticks()
    assert len(ticks) <= 8
    assert list(ticks) == sorted(set(ticks))
    slack = 1e-6 * (abs(low) + span)
    assert all(low - slack <= tick <= low + span + slack for tick in ticks)


@given(st.lists(st.floats(0, 1), max_size=5))
def test_range_is_never_empty_and_within_limits(values):
    low, high = around(values, (0.0, 1.0))
    assert 0 <= low < high <= 1
    assert all(low <= value <= high for value in values)


@pytest.mark.parametrize("limits", [(float("inf"), 0.0), (0.0, float("inf"))])
def test_infinite_limits_do_not_bind(limits):
    assert around([0.5, 1.5], limits, margin=0.1) == (0.4, 1.6)

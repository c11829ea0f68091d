from dataclasses import replace

import pytest

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
    faults = search(study.summary, study.history).faults
    assert [[row.number for row in rows] for rows in faults] == [[1, 4], [3]]


@pytest.mark.parametrize("worst", [-50.0, -0.9])
def test_one_trial_gone_astray_does_not_flatten_the_others(make_study, worst):
    study = make_study(("a", "b"), metric="log_loss")
    config, outcome = study.history[0]
    study.history[0] = (config, replace(outcome, mean=worst))
    found = search(study.summary, study.history)
    assert found.hidden == (worst < -10)
    assert found.scores.high < 10

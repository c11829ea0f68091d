import math

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from fewshot_automl.errors import UserError
from fewshot_automl.sampler.history import history_of, outcome_of
from fewshot_automl.sampler.structure import Structure

UP, DOWN = [StudyDirection.MAXIMIZE], [StudyDirection.MINIMIZE]


def trial_of(value=None, state=TrialState.COMPLETE, x=0.5, **more):
    return create_trial(
        state=state,
        value=value,
        params={"x": x},
        distributions={"x": FloatDistribution(0.0, 1.0)},
        **more,
    )


def outcomes(trials, directions):
    structure = Structure.of(trials, None)
    return [outcome for _, outcome in history_of(trials, structure, directions)]


def test_scores_are_greater_when_better():
    trials = [trial_of(3.0), trial_of(1.0)]
    assert [o.mean for o in outcomes(trials, UP)] == [3.0, 1.0]
    assert [o.mean for o in outcomes(trials, DOWN)] == [-3.0, -1.0]


def test_a_standard_error_is_passed_on_and_may_be_unknown():
    attrs = {"fewshot_standard_error": 0.25}
    known, unknown = outcomes([trial_of(1.0, user_attrs=attrs), trial_of(1.0)], DOWN)
    assert known.standard_error == 0.25
    assert math.isnan(unknown.standard_error)


@pytest.mark.parametrize("error", [-1.0, "much", True])
def test_a_standard_error_must_be_a_number_from_0_on(error):
    with pytest.raises(UserError, match="number from 0 on"):
        outcome_of(trial_of(1.0, user_attrs={"fewshot_standard_error": error}), [1.0])


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_an_infinite_value_is_a_failure(value):
    assert outcome_of(trial_of(value), [1.0]).status == "failed"


def test_failed_trials_are_failures_and_running_ones_pending():
    assert outcome_of(trial_of(state=TrialState.FAIL), [1.0]).status == "failed"
    assert outcome_of(trial_of(state=TrialState.RUNNING), [1.0]).status == "running"


def test_a_pruned_trial_scores_what_it_reported_last_but_is_none_of_the_better():
    def pruned(*values):
        reported = dict(enumerate(values))
        return trial_of(state=TrialState.PRUNED, intermediate_values=reported)

    trials = [*map(trial_of, (1.0, 2.0, 9.0)), pruned(0.0, 5.0), pruned(8.0, 1.5)]
    assert [o.mean for o in outcomes(trials, UP)][3:] == [2.0, 1.5]
    assert [o.mean for o in outcomes(trials, DOWN)][3:] == [-5.0, -2.0]
    assert outcomes([pruned(7.0)], UP)[0].mean == 7.0
    assert outcomes([pruned(math.nan)], UP)[0].status == "failed"
    assert outcomes([pruned()], UP)[0].status == "failed"


def test_seconds_are_those_of_the_trial():
    study = optuna.create_study()
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    (trial,) = study.trials
    assert outcome_of(trial, [1.0]).cost_seconds == trial.duration.total_seconds()


def test_constraints_are_told_by_name():
    study = optuna.create_study()
    trial = study.ask({"x": FloatDistribution(0.0, 1.0)})
    trial.set_constraint("size", 2.5)
    study.tell(trial, 1.0)
    assert dict(outcome_of(study.trials[0], [1.0]).objectives) == {
        "constraint_size": 2.5
    }


def test_waiting_trials_are_left_out():
    study = optuna.create_study()
    study.enqueue_trial({"x": 0.5})
    assert history_of(study.trials, Structure.of(study.trials, None), UP) == []

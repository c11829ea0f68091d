import optuna
import pytest
from optuna.trial import TrialState

from fewshot_automl.sampler.structure import Structure
from fewshot_automl.space import Choice, When


def seen(objective, trials=40):
    """Return the structure of a study that an objective was run in at random."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=trials)
    return Structure.of(study.get_trials(deepcopy=False), None), study


def when(structure, name):
    return structure.space[name].when


def test_a_plain_space_has_no_conditions():
    def objective(trial):
        trial.suggest_int("n", 1, 100, log=True)
        trial.suggest_categorical("only", ["one"])
        return trial.suggest_float("x", 0, 1)

    structure, _ = seen(objective, 5)
    assert structure.space.names == ("n", "x")
    assert structure.space["n"].log
    assert not any(structure.conditions)


def test_what_a_category_decides_over_is_found():
    def objective(trial):
        trial.suggest_categorical("schedule", ["flat", "cosine"])
        method = trial.suggest_categorical("method", ["probe", "lora", "full"])
        trial.suggest_float("mix", 0, 1)
        if method != "probe":
            trial.suggest_float("rate", 1e-5, 1, log=True)
        if method == "lora" and trial.suggest_categorical("many", [True, False]):
            trial.suggest_int("rank", 8, 64)
        return 0.0

    structure, study = seen(objective)
    assert when(structure, "mix") == ()
    assert when(structure, "rate") == (When("method", ("1", "2")),)
    assert when(structure, "many") == (When("method", ("1",)),)
    assert when(structure, "rank") == (When("many", ("0",)),)
    for trial in study.trials:
        config = structure.config(trial.params)
        assert structure.space.contains(config)
        assert structure.params(config) == trial.params


def test_a_number_of_layers_becomes_a_choice_in_order():
    def objective(trial):
        for layer in range(trial.suggest_int("layers", 1, 4)):
            trial.suggest_int(f"units_{layer}", 4, 128, log=True)
        return 0.0

    structure, study = seen(objective)
    layers = structure.space["layers"]
    assert isinstance(layers, Choice)
    assert layers.descriptors == ((1.0,), (2.0,), (3.0,), (4.0,))
    assert when(structure, "units_0") == ()
    assert when(structure, "units_2") == (When("layers", ("3", "4")),)
    for trial in study.trials:
        config = structure.config(trial.params)
        assert structure.params(config) == trial.params


def test_two_conditions_that_must_both_hold_are_found():
    def objective(trial):
        a = trial.suggest_categorical("a", [False, True])
        b = trial.suggest_categorical("b", [False, True])
        if a and b:
            trial.suggest_float("x", 0, 1)
        return 0.0

    structure, _ = seen(objective)
    assert set(when(structure, "x")) == {When("a", ("1",)), When("b", ("1",))}


def test_a_value_not_seen_yet_is_taken_to_have_it():
    def objective(trial):
        trial.suggest_categorical("method", "abcd")
        if trial.params["method"] == "b":
            trial.suggest_float("x", 0, 1)
        return 0.0

    study = optuna.create_study()
    for method in "ab":
        study.enqueue_trial({"method": method, "x": 0.5})
    study.optimize(objective, n_trials=2)
    structure = Structure.of(study.trials, None)
    assert when(structure, "x") == (When("method", ("1", "2", "3")),)


def test_what_nothing_explains_is_left_out():
    def objective(trial):
        if trial.suggest_float("x", 0, 1) > 0.5:
            trial.suggest_float("y", 0, 1)
        return 0.0

    structure, _ = seen(objective)
    assert structure.space.names == ("x",)


def test_a_range_for_each_branch_gives_a_dimension_for_each():
    def objective(trial):
        optimizer = trial.suggest_categorical("optimizer", ["adam", "sgd"])
        low = 1e-5 if optimizer == "adam" else 1e-2
        trial.suggest_float("rate", low, 1, log=True)
        return 0.0

    structure, study = seen(objective)
    assert len(structure.space.names) == 3
    for trial in study.trials:
        config = structure.config(trial.params)
        assert len(config.items) == 2
        assert structure.space.contains(config)
        assert structure.params(config) == pytest.approx(trial.params)


def test_a_range_that_changes_without_a_branch_is_the_latest():
    def objective(trial):
        return trial.suggest_float("x", 0, 1 + trial.number)

    structure, _ = seen(objective, 4)
    assert structure.space.names == ("x",)
    assert structure.space["x"].high == 4


@pytest.mark.parametrize("state", [TrialState.PRUNED, TrialState.FAIL])
def test_trials_that_ended_early_do_not_tell_what_is_never_asked(state):
    def objective(trial):
        method = trial.suggest_categorical("method", ["a", "b"])
        if method == "a":
            raise optuna.TrialPruned if state == TrialState.PRUNED else ValueError
        return trial.suggest_float("x", 0, 1)

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=10, catch=(ValueError,))
    assert {trial.state for trial in study.trials} == {state, TrialState.COMPLETE}
    structure = Structure.of(study.trials, None)
    assert when(structure, "x") == ()


def test_only_names_of_interest_are_looked_at():
    def objective(trial):
        return trial.suggest_float("x", 0, 1) + trial.suggest_float("y", 0, 1)

    _, study = seen(objective, 3)
    assert Structure.of(study.trials, {"y"}).space.names == ("y",)


def test_what_is_given_narrows_the_space():
    def objective(trial):
        if trial.suggest_categorical("method", ["probe", "lora"]) == "lora":
            trial.suggest_int("rank", 1, 64)
        return trial.suggest_float("mix", 0, 1)

    structure, _ = seen(objective, 10)
    part = structure.beside({"method": "probe", "mix": 0.5})
    assert part.size() == 1
    assert structure.beside({}) == structure.space

import pickle
import subprocess
import sys
import threading

import numpy as np
import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.samplers import PartialFixedSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from fewshot_automl.errors import UserError
from fewshot_automl.oracle import SobolOracle
from fewshot_automl.oracle.gp import GpOracle
from fewshot_automl.sampler import FewShotSampler

QUICK = GpOracle(candidates=32, samples=8, fit_steps=5)
"""Quick settings for what no setting may break."""
FAIR = GpOracle(candidates=96, samples=16, fit_steps=15)
"""Settings that find good points in a few seconds."""


def quick(seed=0):
    return FewShotSampler(seed=seed, oracle=QUICK)


def fair(seed=0):
    return FewShotSampler(seed=seed, oracle=FAIR)


def bowl(trial):
    x, y = trial.suggest_float("x", -5, 5), trial.suggest_float("y", -5, 5)
    return (x - 2) ** 2 + (y + 1) ** 2


def branches(trial):
    """Use every kind of parameter, nested branches and a single category."""
    trial.suggest_categorical("only", ["one"])
    method = trial.suggest_categorical("method", ["svm", "forest", "network"])
    trial.suggest_float("step", 0.0, 1.0, step=0.25)
    if method == "svm":
        return abs(np.log10(trial.suggest_float("C", 1e-4, 1e4, log=True)) - 1)
    if method == "forest":
        return 2 - trial.suggest_int("trees", 10, 400, step=10) / 400
    value = 1.0
    for layer in range(trial.suggest_int("layers", 1, 3)):
        units = trial.suggest_int(f"units_{layer}", 4, 128, log=True)
        value -= 0.3 - abs(np.log2(units) - 5) / 10
    if trial.suggest_categorical("dropout", [True, False]):
        value -= 0.05 - trial.suggest_float("rate", 0, 0.5) / 10
    return value


def ran(objective, sampler, trials=14, direction="minimize", **more):
    study = optuna.create_study(sampler=sampler, direction=direction, **more)
    study.optimize(objective, n_trials=trials)
    return study


def asked_for(study):
    return [trial.params for trial in study.trials]


def test_importing_it_needs_no_torch():
    code = "import sys, fewshot_automl.sampler; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_it_goes_where_the_study_points(direction):
    sign = 1 if direction == "minimize" else -1
    study = ran(lambda t: sign * bowl(t), fair(1), 16, direction)
    assert sign * study.best_value < 0.5


def test_a_space_with_branches_is_searched_as_one():
    study = ran(branches, quick(), 18)
    assert {t.params["method"] for t in study.trials} == {"svm", "forest", "network"}
    late = study.trials[10:]
    independent = [t for t in late if not any("suggested" in a for a in t.system_attrs)]
    assert not independent
    assert len({tuple(t.params.items()) for t in study.trials}) == 18


def test_a_seed_makes_suggestions_repeatable():
    first, again, other = (asked_for(ran(branches, quick(s), 10)) for s in (3, 3, 4))
    assert first == again != other
    assert FewShotSampler() is not None


def test_a_negative_seed_is_refused():
    with pytest.raises(UserError, match="seed must be 0 or more, got -1"):
        FewShotSampler(seed=-1)


@pytest.mark.parametrize("kind", ["journal", "sqlite"])
def test_a_study_goes_on_in_another_process_as_if_never_left(kind, tmp_path):
    whole = asked_for(ran(branches, quick(), 12))

    def storage():
        if kind == "sqlite":
            return f"sqlite:///{tmp_path / 'studies.db'}"
        return JournalStorage(JournalFileBackend(str(tmp_path / "study.journal")))

    for _ in range(2):
        study = optuna.create_study(
            storage=storage(), study_name="s", sampler=quick(), load_if_exists=True
        )
        study.optimize(branches, n_trials=6)
    assert asked_for(study) == whole


def test_jobs_side_by_side_are_given_different_suggestions():
    barrier = threading.Barrier(3)

    def objective(trial):
        value = bowl(trial)
        if trial.number >= 3:
            barrier.wait(timeout=60)  # so that three are always under way
        return value

    study = optuna.create_study(sampler=quick())
    study.optimize(objective, n_trials=3)
    study.optimize(objective, n_trials=9, n_jobs=3)
    assert len({tuple(t.params.values()) for t in study.trials}) == 12


def test_trials_asked_for_together_are_spread():
    study = ran(bowl, fair(), 8)
    ranges = {name: FloatDistribution(-5, 5) for name in "xy"}
    asked = [study.ask(ranges) for _ in range(4)]
    points = np.array([[t.params["x"], t.params["y"]] for t in asked])
    gaps = np.linalg.norm(points[:, None] - points, axis=-1)[np.triu_indices(4, 1)]
    assert gaps.min() > 0.05
    for trial in asked:
        study.tell(trial, bowl(trial))
    assert len(study.trials) == 12


def test_those_who_ask_at_once_without_seeing_each_other_get_different_answers():
    study = ran(bowl, quick(), 6)
    trials = [study.ask() for _ in range(3)]  # nothing is sampled before a suggest
    points = [(t.suggest_float("x", -5, 5), t.suggest_float("y", -5, 5))
              for t in reversed(trials)]  # fmt: skip
    assert len(set(points)) == 3


def test_failed_and_pruned_trials_do_not_stop_it():
    def objective(trial):
        value = bowl(trial)
        if trial.params["x"] < -3:
            raise ValueError("diverged")
        trial.report(value, 0)
        if value > 20:
            raise optuna.TrialPruned
        return float("inf") if trial.params["y"] > 4 else value

    study = optuna.create_study(sampler=quick())
    study.optimize(objective, n_trials=20, catch=(ValueError,))
    assert study.best_value < 5
    late = [t.params["x"] for t in study.trials[12:]]
    assert np.mean(np.array(late) < -3) < 0.2


def test_a_study_in_which_everything_fails_goes_on():
    def objective(trial):
        trial.suggest_float("x", 0, 1)
        raise ValueError

    study = optuna.create_study(sampler=quick())
    study.optimize(objective, n_trials=8, catch=(ValueError,))
    assert len({t.params["x"] for t in study.trials}) == 8


def test_a_space_that_is_used_up_is_gone_through_again():
    study = ran(lambda t: t.suggest_categorical("a", ["x", "y"]) == "x", quick(), 5)
    assert len(study.trials) == 5
    assert {t.params["a"] for t in study.trials[:3]} == {"x", "y"}


def test_a_queued_trial_keeps_its_values_and_the_rest_suits_them():
    def objective(trial):
        a, x = (
            trial.suggest_categorical("a", ["up", "down"]),
            trial.suggest_float("x", 0, 1),
        )
        return (x - (0.9 if a == "up" else 0.1)) ** 2

    study = ran(objective, fair(), 14)
    for a in ("up", "down"):
        study.enqueue_trial({"a": a})
        study.optimize(objective, n_trials=1)
    up, down = study.trials[-2:]
    assert (up.params["a"], down.params["a"]) == ("up", "down")
    assert up.params["x"] > 0.6
    assert down.params["x"] < 0.4


def test_a_queued_value_that_is_not_allowed_ends_its_trial_only():
    def objective(trial):
        trial.suggest_categorical("a", ["up", "down"])
        return trial.suggest_float("x", 0, 1)

    study = ran(objective, quick(), 5)
    study.enqueue_trial({"a": "sideways"})
    study.optimize(objective, n_trials=4, catch=(ValueError,))
    assert [t.state.name for t in study.trials].count("COMPLETE") == 8


@pytest.mark.filterwarnings("ignore:PartialFixedSampler is experimental")
def test_a_parameter_that_is_fixed_leaves_the_others():
    study = ran(bowl, PartialFixedSampler({"y": 1.0}, quick()), 8)
    assert {t.params["y"] for t in study.trials} == {1.0}
    assert len({t.params["x"] for t in study.trials}) == 8


def test_ranges_may_change_during_a_study():
    study = ran(lambda t: t.suggest_float("x", 0, 1 + t.number % 3), quick(), 10)
    assert all(t.params["x"] <= 1 + t.number % 3 for t in study.trials)


def test_what_the_oracle_does_not_know_can_be_left_to_another_sampler():
    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        return trial.suggest_float("y", 0, 1) if x > 0.5 else x

    class Counting(RandomSampler):
        names: list = []  # noqa: RUF012

        def sample_independent(self, study, trial, name, distribution):
            self.names.append(name)
            return super().sample_independent(study, trial, name, distribution)

    sampler = FewShotSampler(seed=0, oracle=QUICK, independent_sampler=Counting(seed=0))
    ran(objective, sampler, 10)
    assert set(Counting.names[1:]) == {"y"}


def test_another_oracle_can_be_used():
    study = ran(branches, FewShotSampler(seed=0, oracle=SobolOracle()), 8)
    assert len(study.trials) == 8


def test_a_sampler_can_be_pickled():
    copy = pickle.loads(pickle.dumps(quick(5)))
    assert asked_for(ran(bowl, copy, 6)) == asked_for(ran(bowl, quick(5), 6))


def test_noise_that_is_known_is_not_taken_for_skill():
    def objective(trial):
        x = trial.suggest_float("x", 0, 1)
        lucky = trial.number % 4 == 3
        trial.set_user_attr("fewshot_standard_error", 5.0 if lucky else 0.01)
        return -3.0 if lucky else (x - 0.7) ** 2

    study = ran(objective, fair(), 18)
    late = [t.params["x"] for t in study.trials[12:]]
    assert np.median(np.abs(np.array(late) - 0.7)) < 0.15


def two_values(trial):
    x = trial.suggest_float("x", 0, 2)
    y = trial.suggest_float("y", 0, 1)
    return x**2 + y, -((x - 2) ** 2 + y)


def test_a_front_is_sought_where_there_are_several_objectives():
    directions = ["minimize", "maximize"]
    study = optuna.create_study(sampler=fair(), directions=directions)
    study.optimize(two_values, n_trials=16)
    assert np.mean([trial.params["y"] for trial in study.trials[8:]]) < 0.25
    assert np.ptp([trial.params["x"] for trial in study.best_trials]) > 0.8


def test_several_objectives_need_an_oracle_that_takes_them():
    sampler = FewShotSampler(seed=0, oracle=SobolOracle())
    study = optuna.create_study(sampler=sampler, directions=["minimize", "maximize"])
    with pytest.raises(UserError, match="must be a GpOracle, got SobolOracle"):
        study.optimize(two_values, n_trials=2)


def test_constraints_are_kept():
    def objective(trial):
        value = bowl(trial)
        trial.set_constraint("left", trial.params["x"])  # the best is at x = 2
        return value

    study = ran(objective, fair(), 18)
    assert study.best_trial.params["x"] <= 0
    assert np.mean([trial.params["x"] <= 0.3 for trial in study.trials[10:]]) > 0.7


def hartmann(trial):
    """Return the negative of a function with a maximum of 3.86 and three others."""
    x = np.array([trial.suggest_float(f"x{i}", 0, 1) for i in range(3)])
    a = np.array([[3, 10, 30], [0.1, 10, 35], [3, 10, 30], [0.1, 10, 35]])
    p = np.array(
        [[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]]
    )
    heights = np.array([1.0, 1.2, 3.0, 3.2])
    return -float(heights @ np.exp(-(a * (x - p / 1e4) ** 2).sum(axis=1)))


def branin(trial):
    x, y = trial.suggest_float("x", -5, 10), trial.suggest_float("y", 0, 15)
    curve = y - 5.1 / (4 * np.pi**2) * x**2 + 5 / np.pi * x - 6
    return curve**2 + 10 * (1 - 1 / (8 * np.pi)) * np.cos(x) + 10


@pytest.mark.slow
@pytest.mark.parametrize("objective", [branin, hartmann, branches])
def test_it_is_no_worse_than_tpe_on_average(objective):
    """Over 10 seeds of 30 trials."""
    samplers = {
        "ours": lambda seed: FewShotSampler(seed=seed),
        "tpe": lambda seed: TPESampler(seed=seed),
    }
    means = {
        name: np.mean([ran(objective, make(seed), 30).best_value for seed in range(10)])
        for name, make in samplers.items()
    }
    assert means["ours"] <= means["tpe"], means

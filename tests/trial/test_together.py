"""Configs that are cross-validated as one job."""

import dataclasses
import pickle
import time

import numpy as np
import pytest

from fewshot_automl.errors import OutOfTime
from fewshot_automl.evaluation.predictions import load_predictions
from fewshot_automl.executors import executor_named
from fewshot_automl.ledger import Ledger
from fewshot_automl.oracle.random import RandomOracle
from fewshot_automl.space import Config
from fewshot_automl.study import Budget, Cohorts, run
from fewshot_automl.trial import together as module
from fewshot_automl.trial.evaluate import Evaluate
from fewshot_automl.trial.together import Together

QUICK = {"steps": 10, "batch_size": 8, "frozen_fraction": 0.5}


@pytest.fixture
def together(workbench, space):
    return Together(workbench=workbench, whole=space, slots=16)


def lora(space, **values):
    return space.default(method="lora", **{**QUICK, **values})


def proba_of(workbench, outcome):
    return load_predictions(workbench.folder / outcome.predictions).proba


def test_is_what_a_study_calls_a_cohort(together):
    assert isinstance(together, Cohorts)


def test_configs_get_the_outcomes_they_get_alone(together, workbench, space):
    configs = (
        lora(space),
        lora(space, rank=2, lora_learning_rate=5e-3),
        lora(space, steps=14),
    )
    outcomes = together(configs, None)
    found = [proba_of(workbench, outcome) for outcome in outcomes]
    for config, outcome, proba in zip(configs, outcomes, found, strict=True):
        alone = Evaluate(workbench=workbench)(config, None)
        np.testing.assert_allclose(proba, proba_of(workbench, alone), atol=5e-3)
        assert outcome.is_done
        assert len(outcome.scores) == len(workbench.problem.folds.first)
        assert outcome.objectives.keys() == alone.objectives.keys()


def test_the_time_of_a_job_is_shared(together, space):
    start = time.monotonic()
    outcomes = together((lora(space), lora(space, rank=2)), None)
    total = time.monotonic() - start
    assert 0 < sum(outcome.cost_seconds for outcome in outcomes) <= total
    assert outcomes[0].cost_seconds == outcomes[1].cost_seconds


@pytest.fixture
def sizes(monkeypatch):
    """Return the list of how many trainings ran side by side, as it grows."""
    seen = []
    row = module.method("lora")
    real = type(row).fit_together

    def spy(self, encodings, labels, chosen, jobs):
        seen.append(len(jobs))
        return real(self, encodings, labels, chosen, jobs)

    monkeypatch.setattr(type(row), "fit_together", spy)
    return seen


def test_no_more_folds_train_at_once_than_there_are_slots(workbench, space, sizes):
    few = Together(workbench=workbench, whole=space, slots=3)
    assert few.alone(lora(space), None).is_done
    assert sizes == [3, 1]


def test_a_begun_config_runs_only_the_folds_that_are_left(
    together, workbench, space, sizes
):
    """A study that looked first on a CPU may be resumed on a GPU."""
    begun, other = lora(space), lora(space, rank=2)
    look = Evaluate(workbench=workbench).first_look(begun, None)
    first = proba_of(workbench, look)[0]
    held = np.isfinite(first[:, 0])
    rest, whole = together((begun, other), None)
    assert sizes == [3 + 4]
    assert rest.is_whole
    assert len(rest.scores) == 4
    assert rest.scores[0] == look.scores[0]
    np.testing.assert_array_equal(proba_of(workbench, rest)[0][held], first[held])
    assert rest.cost_seconds == pytest.approx(whole.cost_seconds * 3 / 4)
    assert together.alone(begun, None).is_whole
    assert sizes == [3 + 4, 4]  # that trial was over


def test_what_cannot_be_measured_trains_alone(together, space, monkeypatch):
    def broken(self, name):
        raise OSError("weights are gone")

    monkeypatch.setattr(type(together.workbench), "backbone", broken)
    assert together.size(lora(space)) == 1


def test_one_that_diverges_fails_alone(together, space):
    good = lora(space)
    wild = Config.of({**good.to_json(), "lora_learning_rate": 1e30})
    first, second = together((wild, good), None)
    assert first.status == "failed"
    assert "lower learning rate" in first.reason
    assert second.is_done


def test_companions_have_the_same_cut_method_and_backbone(together, space):
    config = lora(space, frozen_fraction=0.1)
    narrowed = together.space(config)
    assert narrowed.contains(config)
    assert narrowed["method"].options == ("lora",)
    blocks = together.workbench.backbone("tiny-bert").depth
    ends = narrowed["frozen_fraction"]
    assert {round(ends.low * blocks), round(ends.high * blocks)} == {
        round(0.1 * blocks)
    }
    assert together.space(space.default(method="full", steps=10)) is not None


def test_quick_methods_and_trials_on_a_cpu_run_alone(together, workbench, space):
    assert together.size(space.default(method="probe")) == 1
    assert together.size(lora(space)) == 16 // len(workbench.problem.folds.first)
    measured = Together(workbench=workbench, whole=space)
    assert measured.size(lora(space)) == 1


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({}, 16),
        ({16: 100.0}, 32),
        ({16: 100.0, 32: 190.0}, 64),
        ({16: 100.0, 32: 105.0}, 16),
        ({16: 100.0, 32: 190.0, 64: 200.0}, 32),
    ],
)
def test_slots_double_while_that_pays(workbench, space, monkeypatch, rates, expected):
    monkeypatch.setattr(module, "free_bytes", lambda device: 10**12)
    together = Together(
        workbench=dataclasses.replace(
            workbench,
            placement=dataclasses.replace(workbench.placement, device="cpu:0"),
        ),
        whole=space,
    )
    config = lora(space)
    together._rates[together._kind(config)] = dict(rates)
    assert together._best_slots(config) == expected


def test_the_folds_of_one_config_train_together_where_that_pays(
    together, workbench, space, monkeypatch
):
    config = lora(space)
    alone = Evaluate(workbench=workbench)(config, None)
    calls = []
    real = module.Together.__call__

    def spy(self, configs, deadline):
        calls.append(configs)
        return real(self, configs, deadline)

    monkeypatch.setattr(module.Together, "__call__", spy)
    found = together.alone(config, None)
    assert calls == [(config,)]
    np.testing.assert_allclose(
        proba_of(workbench, found), proba_of(workbench, alone), atol=5e-3
    )
    on_cpu = Together(workbench=workbench, whole=space)
    assert on_cpu.alone(config, None).mean == alone.mean
    assert len(calls) == 1


def test_pickles_without_what_was_measured(together, space):
    before = pickle.dumps(together)
    together._row_bytes(lora(space))
    together._rates[together._kind(lora(space))] = {16: 1.0}
    assert pickle.dumps(together) == before
    assert pickle.loads(before).slots == 16


def test_slots_fit_in_memory(workbench, space, monkeypatch):
    together = Together(workbench=workbench, whole=space)
    config = lora(space)
    each = together._row_bytes(config) * config["batch_size"]
    assert each > 0
    deeper = lora(space, frozen_fraction=0.0)
    assert together._row_bytes(deeper) > together._row_bytes(config)
    monkeypatch.setattr(module, "free_bytes", lambda device: 5.5 * each / 0.6)
    assert together._best_slots(config) == 5
    assert together._best_slots(lora(space, batch_size=32)) == 1


def test_a_deadline_ends_the_job(together, space):
    with pytest.raises(OutOfTime):
        together((lora(space), lora(space, rank=2)), time.monotonic() - 1)


def test_a_study_trains_its_trials_together(workbench, space, tmp_path):
    calls = []

    narrowed = space.narrow("method", ["lora"]).narrow("steps", (10, 12))
    together = Together(workbench=workbench, whole=narrowed, slots=16)

    class Spy:
        size = together.size
        space = together.space

        def __call__(self, configs, deadline):
            calls.append(len(configs))
            return together(configs, deadline)

    ledger = Ledger.open(tmp_path / "study", study="s", space=narrowed)
    end = run(
        narrowed,
        Evaluate(workbench=workbench),
        oracle=RandomOracle(),
        ledger=ledger,
        executor=executor_named("in_process", 1),
        budget=Budget(started=time.monotonic(), trials=6),
        cohorts=Spy(),
    )
    assert len(end.history) == 6
    assert all(outcome.is_done for _, outcome in end.history)
    assert max(calls) > 1

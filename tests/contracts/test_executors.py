"""Every executor of the table keeps the same promises."""

import math
import time
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from fewshot_automl import trial
from fewshot_automl.adaptation.method import Profile
from fewshot_automl.errors import OutOfTime, UnknownNameError, UserError
from fewshot_automl.evaluation.folds import choose_folds
from fewshot_automl.executors import EXECUTORS, Executor, Ranks, executor_named
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task
from fewshot_automl.training.placement import choose_placement
from fewshot_automl.trial import Problem, TrialContext, space_for

MARKS = {
    "ranks": (pytest.mark.slow,),
    "ray": (
        pytest.mark.slow,
        # Ray's own, of Python 3.12 and of what it leaves to the system at its end:
        pytest.mark.filterwarnings("ignore::ResourceWarning"),
    ),
}


def evaluate(config: Config, allowance_seconds: float | None) -> Outcome:
    """Return a score, or fail, as the Config says."""
    if config["x"] == 3:
        raise MemoryError("no room")
    if config["x"] == 4:
        raise OutOfTime("late")
    if allowance_seconds == 0:
        raise OutOfTime("none")
    time.sleep(0.02 * (5 - float(config["x"])))  # the later, the quicker
    return Outcome(
        status="done",
        mean=math.sin(float(config["x"])),
        scores=(0.1, 0.2),
        outputs=np.full((1, 2, 3), float(config["x"]), dtype=np.float32),
    )


def sized(x, allowance_seconds):
    return x, allowance_seconds


@pytest.fixture(
    params=[pytest.param(name, marks=MARKS.get(name, ())) for name in EXECUTORS]
)
def executor(request):
    name = request.param
    workers = 1 if name == "in_process" else 2
    about = {"address": request.getfixturevalue("ray_cluster")} if name == "ray" else {}
    executor = executor_named(name, workers, **about)
    yield executor
    executor.shutdown()


def drain(executor):
    finished = []
    while batch := executor.wait(300.0):
        finished += batch
    return finished


def test_it_has_the_shape_of_an_executor(executor):
    assert isinstance(executor, Executor)
    assert executor.slots >= 1


def test_outcomes_are_the_same_in_the_order_of_submission(executor):
    configs = [Config.of({"x": x}) for x in range(6)]
    tickets = [executor.submit(evaluate, config, None) for config in configs]
    by_ticket = {done.ticket: done for done in drain(executor)}
    assert tickets == list(range(6))
    results = [by_ticket[ticket] for ticket in tickets]
    assert [r.value and r.value.to_json() for r in results] == [
        None if x in (3, 4) else evaluate(Config.of({"x": x}), None).to_json()
        for x in range(6)
    ]
    assert [(type(r.error), str(r.error)) for r in results if r.error] == [
        (MemoryError, "no room"),
        (OutOfTime, "late"),
    ]


@pytest.mark.slow
def test_real_trials_have_the_same_outcomes_everywhere(
    executor, tiny_cards, random_weights, tmp_path, monkeypatch
):
    card = tiny_cards["tiny-bert"]
    monkeypatch.setenv("FEWSHOT_ZOO_PATH", str(random_weights(card).parent))
    task, labels = Task(modality="text", names=("film", "place")), np.repeat([0, 1], 6)
    problem = Problem(
        task=task,
        inputs=tuple(f"{w} {'is ' * n}" for w in ("good", "river") for n in range(6)),
        targets=labels,
        folds=choose_folds(task.rules.strata(labels), seed=0, max_folds=3),
    )
    context = TrialContext(
        problem=problem,
        cards=(card,),
        store=FeatureStore(tmp_path / "features"),
        placement=choose_placement("cpu"),
    )
    space = space_for(Profile.of(task, labels), context.cards)
    configs = [
        space.default(method=method, backbone=card.id, **more)
        for method, more in (("probe", {}), ("partial_freeze", {"steps": 10}))
    ]
    call = sent = partial(trial.evaluate, context)
    if isinstance(executor, Ranks):
        place = replace(context.placement, processes=2)
        shared = TrialContext(
            problem=problem, cards=(card,), store=context.store, placement=place
        )
        sent = partial(trial.together, trial.evaluate, shared)
    tickets = [executor.submit(sent, config, None) for config in configs]
    ended = drain(executor)
    assert not [done.error for done in ended if done.error]
    found = {done.ticket: done.value for done in ended}
    for ticket, config in zip(tickets, configs, strict=True):
        here = call(config, None)
        assert found[ticket].scores == here.scores
        assert np.allclose(found[ticket].outputs, here.outputs, atol=1e-6)


def test_outputs_come_back_by_value(executor):
    executor.submit(evaluate, Config.of({"x": 5}), None)
    (done,) = drain(executor)
    assert (done.value.outputs == np.full((1, 2, 3), 5, dtype=np.float32)).all()


def test_a_call_is_told_its_allowance(executor):
    executor.submit(sized, 7, 2.5)
    executor.submit(evaluate, Config.of({"x": 1}), 0.0)
    first, second = sorted(drain(executor), key=lambda done: done.ticket)
    assert first.value == (7, 2.5)
    assert isinstance(second.error, OutOfTime)


def test_nothing_submitted_is_nothing_to_wait_for(executor):
    assert executor.wait() == []
    assert executor.wait(1e6) == []


def test_every_call_is_returned_once(executor):
    tickets = [executor.submit(sized, x, None) for x in range(5)]
    finished = drain(executor)
    assert sorted(done.ticket for done in finished) == tickets
    assert drain(executor) == []


def test_it_can_be_shut_down_twice_and_with_work_waiting(executor):
    for _ in range(4):
        executor.submit(sized, 1, None)
    executor.shutdown()
    executor.shutdown()
    assert executor.wait(1.0) == []


def test_a_name_the_table_lacks_is_refused():
    with pytest.raises(UnknownNameError, match="Closest: 'loky'"):
        executor_named("loki", 2)


@pytest.mark.parametrize(("name", "workers"), [("in_process", 2), ("loky", 0)])
def test_a_number_of_workers_it_cannot_have_is_refused(name, workers):
    with pytest.raises(UserError, match="workers must be 1"):
        executor_named(name, workers)

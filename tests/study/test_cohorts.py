"""Several Configs as one job, on two-line cohorts."""

import functools
import math
import operator
import os
import tempfile
import time
from dataclasses import dataclass, field

import pytest

from fewshot_automl.errors import OutOfTime, RunError
from fewshot_automl.executors import InProcess, LocalProcesses
from fewshot_automl.ledger import INTERRUPTED, Ledger
from fewshot_automl.oracle.oracle import tried
from fewshot_automl.oracle.sobol import SobolOracle
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Config, Int, Space
from fewshot_automl.study import Budget, Cohorts, Patience, run, trial_seed

SPACE = Space(
    (Choice(name="backbone", options=("a", "b")), Int(name="x", low=0, high=999))
)


def config(x, backbone="a"):
    return Config.of({"backbone": backbone, "x": x})


def done(point):
    return Outcome(status="done", mean=point.number("x"), cost_seconds=0.5)


def alone(point, deadline):
    return Outcome(status="done", mean=-point.number("x"), cost_seconds=2.0)


@dataclass
class Toy:
    """Runs up to `most` trials of one backbone together, and remembers them."""

    most: int = 4
    answer: object = None
    jobs: list = field(default_factory=list)

    def size(self, point):
        return self.most

    def space(self, point):
        return SPACE.narrow("backbone", [point.text("backbone")])

    def __call__(self, configs, deadline):
        self.jobs.append([(c.text("backbone"), c["x"]) for c in configs])
        return self.answer(configs) if self.answer else tuple(map(done, configs))


@dataclass
class Scripted:
    """Proposes the lowest untried `x` of the first backbone it may use."""

    calls: list = field(default_factory=list)

    def suggest(self, space, history, n, seed, within=None):
        space = within or space
        self.calls.append((space, list(history), n, seed))
        backbone = space["backbone"].options[0]
        points = (config(x, backbone) for x in range(1, 1000))
        seen = tried(history)
        return [point for point in points if point not in seen][:n]


@pytest.fixture
def ledger(tmp_path):
    return Ledger.open(tmp_path, study="toy", space=SPACE)


@pytest.fixture
def go(ledger):
    def go(cohorts, evaluate=alone, **parts):
        parts = {
            "oracle": Scripted(),
            "ledger": ledger,
            "executor": InProcess(),
            "budget": Budget(started=100.0, trials=8),
            "clock": lambda: 100.0,
            **parts,
        }
        return run(SPACE, evaluate, cohorts=cohorts, **parts)

    return go


def points_of(end):
    return [point["x"] for point, _ in end.history]


def statuses_of(end):
    return [outcome.status for _, outcome in end.history]


def test_it_has_the_shape_of_cohorts():
    assert isinstance(Toy(), Cohorts)


def test_a_job_is_filled_by_the_oracle(go):
    toy, oracle = Toy(), Scripted()
    end = go(toy, oracle=oracle, seed=7)
    assert toy.jobs == [
        [("a", x) for x in range(1, 5)],
        [("a", x) for x in range(5, 9)],
    ]
    assert points_of(end) == list(range(1, 9))
    assert [outcome.mean for _, outcome in end.history] == list(range(1, 9))
    asked = [(n, len(history), seed) for _, history, n, seed in oracle.calls]
    assert asked == [
        (n, shown, trial_seed(7, shown))
        for n, shown in [(1, 0), (3, 1), (1, 4), (3, 5)]
    ]
    whole, narrowed = oracle.calls[2], oracle.calls[3]
    assert (whole[0], narrowed[0]) == (SPACE, toy.space(config(5)))
    assert narrowed[1][-1][0] == config(5)
    assert narrowed[1][-1][1].status == "running"


def test_a_budget_of_trials_cuts_the_last_job(go):
    toy = Toy()
    end = go(toy, budget=Budget(started=100.0, trials=5))
    assert [len(job) for job in toy.jobs] == [4]
    assert points_of(end) == [1, 2, 3, 4, 5]
    assert end.history[4][1].mean == -5.0  # it ran by itself
    assert end.ending == "trials"


def test_a_budget_smaller_than_a_cohort_holds(go):
    toy = Toy(most=64)
    assert len(go(toy, budget=Budget(started=100.0, trials=3)).history) == 3
    assert [len(job) for job in toy.jobs] == [3]


def test_companions_of_the_opening_come_before_those_of_the_oracle(go):
    opening = [config(50), config(60, "b"), config(70), config(50), config(80, "b")]
    toy, oracle = Toy(), Scripted()
    end = go(toy, oracle=oracle, opening=lambda history: opening)
    assert toy.jobs == [
        [("a", 50), ("a", 70), ("a", 1), ("a", 2)],
        [("b", 60), ("b", 80), ("b", 1), ("b", 2)],
    ]
    assert [n for _, _, n, _ in oracle.calls] == [2, 2]
    assert len({point for point, _ in end.history}) == 8


def test_who_must_be_alone_is(go):
    @dataclass
    class Lonely(Toy):
        def size(self, point):
            return 1 if point["x"] % 2 else 4

        def space(self, point):
            return None if point["x"] == 2 else super().space(point)

    toy = Lonely()
    end = go(toy, budget=Budget(started=100.0, trials=6))
    # 1 and 3 are alone, 2 has no companions; 5 is no companion of 4, while 6 is.
    assert toy.jobs == [[("a", 4), ("a", 6)]]
    assert points_of(end) == [1, 2, 3, 4, 6, 5]


def test_the_smallest_wish_of_a_job_counts(go):
    @dataclass
    class Wishful(Toy):
        def size(self, point):
            return {50: 4, 60: 2, 70: 4, 80: 3}.get(int(point["x"]), 1)

    toy = Wishful()
    opening = [config(x) for x in (50, 70, 60, 80)]
    go(toy, opening=lambda history: opening, budget=Budget(started=100.0, trials=4))
    assert toy.jobs == [[("a", 50), ("a", 70), ("a", 80)]]


def test_what_an_oracle_may_not_propose_is_not_taken(go):
    class Stubborn:
        def suggest(self, space, history, n, seed, within=None):
            x = len(history) + 1
            return [config(x), config(x), config(1), config(3, "b"), config(x + 1)]

    toy = Toy(most=3)
    end = go(toy, oracle=Stubborn(), budget=Budget(started=100.0, trials=3))
    assert toy.jobs == [[("a", 1), ("a", 2), ("a", 3)]]
    assert len(end.history) == 3


def test_nothing_to_join_is_a_trial_alone(go):
    class Sole:
        calls = 0

        def suggest(self, space, history, n, seed, within=None):
            Sole.calls += 1
            return [] if history else [config(9)]

    toy = Toy()
    end = go(toy, oracle=Sole())
    assert (points_of(end), toy.jobs, end.ending) == ([9], [], "exhausted")
    assert Sole.calls == 3  # once for the trial, its companions, and the next one


def test_the_job_must_fit_the_time(go):
    toy, oracle = Toy(), Scripted()
    now = [100.0]

    def slow(configs):
        now[0] += 4.0 * len(configs)
        return tuple(map(done, configs))

    toy.answer = slow
    end = go(
        toy,
        oracle=oracle,
        clock=lambda: now[0],
        forecast=lambda point, history: 4.0,
        budget=Budget(started=100.0, seconds=13.0),
    )
    assert (points_of(end), end.ending) == ([1, 2, 3], "seconds")
    assert [n for _, _, n, _ in oracle.calls[:2]] == [1, 2]


def test_the_forecast_of_a_companion_sees_the_others_running(go):
    """The first of a backbone pays 8 s more."""

    def forecast(point, history):
        known = any(c["backbone"] == point["backbone"] for c, _ in history)
        return 1.0 if known else 9.0

    toy = Toy()
    go(toy, forecast=forecast, budget=Budget(started=100.0, seconds=11.5, trials=3))
    assert toy.jobs == [[("a", 1), ("a", 2), ("a", 3)]]


def test_time_that_the_oracle_takes_is_not_there_for_the_job(go, tmp_path):
    now = [100.0]

    class Slow(Scripted):
        def suggest(self, space, history, n, seed, within=None):
            now[0] += 3.0 if history else 0.0
            return super().suggest(space, history, n, seed, within)

    def go_with(seconds, opening=()):
        toy = Toy()
        end = go(
            toy,
            oracle=Slow(),
            ledger=Ledger.open(tmp_path / str(seconds), study="toy", space=SPACE),
            clock=lambda: now[0],
            forecast=lambda point, history: 2.0,
            opening=lambda history: opening,
            budget=Budget(started=now[0], seconds=seconds, trials=4),
        )
        return points_of(end), toy.jobs, end.ending

    # Two of the opening fit before the oracle is asked for more, one does after.
    points, jobs, _ = go_with(6.5, [config(20), config(21)])
    assert (points[0], jobs) == (20, [])
    points, jobs, ending = go_with(4.5)
    assert (points, jobs, ending) == ([], [], "seconds")


def test_a_diverging_member_does_not_touch_its_neighbours(go):
    def answer(configs):
        nan = Outcome(status="failed", reason="loss became NaN", cost_seconds=0.5)
        return tuple(nan if c["x"] == 2 else done(c) for c in configs)

    end = go(Toy(answer=answer), budget=Budget(started=100.0, trials=4))
    assert statuses_of(end) == ["done", "failed", "done", "done"]
    assert end.history[1][1].reason == "loss became NaN"


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (lambda configs: (*map(done, configs), done(configs[0])), "got 5 of them"),
        (lambda configs: tuple(map(done, configs[1:])), "got 3 of them"),
        (lambda configs: (), "got 0 of them"),
        (lambda configs: 7, "got 7"),
    ],
)
def test_an_answer_of_another_size_fails_every_trial(go, answer, got):
    end = go(Toy(answer=answer), budget=Budget(started=100.0, trials=4))
    assert statuses_of(end) == ["failed"] * 4
    reasons = {outcome.reason for _, outcome in end.history}
    assert reasons == {f"cohorts must return a tuple of 4 finished Outcomes, {got}"}


@pytest.mark.parametrize("wrong", [None, 0.9, Outcome(status="running")])
def test_what_is_no_outcome_fails_its_trial_only(go, wrong):
    def answer(configs):
        return (*map(done, configs[:-1]), wrong)

    end = go(Toy(answer=answer), budget=Budget(started=100.0, trials=4))
    assert statuses_of(end) == ["done", "done", "done", "failed"]
    assert "must return a finished Outcome" in end.history[3][1].reason


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        (RuntimeError("CUDA"), "failed", "RuntimeError: CUDA"),
        (MemoryError(), "failed", "MemoryError"),
        (OutOfTime("late"), "stopped", "late"),
    ],
)
def test_what_a_job_raises_is_said_of_all_its_trials(go, error, status, reason):
    now = [100.0]

    def answer(configs):
        now[0] += 6.0
        raise error

    end = go(
        Toy(answer=answer),
        clock=lambda: now[0],
        budget=Budget(started=100.0, trials=4),
    )
    assert [(o.status, o.reason, o.cost_seconds) for _, o in end.history] == [
        (status, reason, 1.5)
    ] * 4


def test_a_job_that_fails_counts_once(go, ledger):
    def answer(configs):
        raise RuntimeError("no weights")

    with pytest.raises(RunError, match="first 12 trials failed"):
        go(
            Toy(answer=answer),
            budget=Budget(started=100.0, trials=99),
            patience=Patience(failures=3),
        )
    assert len(ledger.history()) == 12


def test_a_display_hears_of_each_trial(go):
    events = []
    go(Toy(most=2), budget=Budget(started=100.0, trials=3), on_event=events.append)
    assert [(e.kind, e.number, e.outcome.status, e.trials_left) for e in events] == [
        ("started", 0, "running", 1),
        ("started", 1, "running", 1),
        ("finished", 0, "done", 1),
        ("finished", 1, "done", 1),
        ("started", 2, "running", 0),
        ("finished", 2, "done", 0),
    ]
    assert [len(event.history) for event in events] == [2, 2, 2, 2, 3, 3]


def test_ctrl_c_in_a_job_stops_all_of_it(go):
    def answer(configs):
        raise KeyboardInterrupt

    end = go(Toy(answer=answer))
    assert end.interrupted
    assert [(o.status, o.reason) for _, o in end.history] == [
        ("stopped", INTERRUPTED)
    ] * 4
    again = go(Toy())
    assert statuses_of(again) == ["stopped"] * 4 + ["done"] * 8
    assert points_of(again) == [1, 2, 3, 4, *range(1, 9)]


@pytest.mark.parametrize(
    ("when", "statuses"),
    [
        (("started", 1), ["stopped"] * 4),
        (("finished", 2), ["done"] * 4),
        (("finished", 5), ["done"] * 8),
    ],
)
def test_ctrl_c_in_a_display_loses_nothing(go, when, statuses):
    def on_event(event):
        if (event.kind, event.number) == when:
            raise KeyboardInterrupt

    end = go(Toy(), on_event=on_event)
    assert end.interrupted
    assert statuses_of(end) == statuses


class Killed(Ledger):
    """Dies at its n-th write, as after SIGKILL nothing else is written."""

    left: int = 0

    def start(self, point):
        self.count()
        return super().start(point)

    def finish(self, number, outcome):
        self.count()
        super().finish(number, outcome)

    def count(self):
        if self.left == 0:
            raise SystemExit
        self.left -= 1


@pytest.mark.parametrize("writes", [1, 3, 4, 5, 7, 8, 9, 14])
def test_a_study_killed_at_any_write_goes_on(tmp_path, writes):
    """A job takes 8 writes: starting its 4 trials and finishing them."""
    first = Killed.open(tmp_path, study="toy", space=SPACE)
    first.left = writes
    with pytest.raises(SystemExit):
        ten_trials(first)
    before = [row for row in first.history() if row[1].is_done]
    running = sum(outcome.status == "running" for _, outcome in first.history())
    resumed = Ledger.open(tmp_path, study="toy", space=SPACE)
    assert resumed.interrupt_running() == running
    end = ten_trials(resumed)
    rows = [(point, outcome) for point, outcome in end.history if outcome.is_done]
    assert [(p, o.to_json()) for p, o in rows[: len(before)]] == [
        (p, o.to_json()) for p, o in before
    ]
    ended = [point for point, _ in rows]
    assert len(ended) == len(set(ended)) == 10
    assert statuses_of(end).count("stopped") == running
    if len(before) % 4 == 0:  # no job was half recorded
        assert ended == never_killed()


def ten_trials(ledger):
    return run(
        SPACE,
        alone,
        cohorts=Toy(),
        oracle=SobolOracle(),
        ledger=ledger,
        executor=InProcess(),
        budget=Budget(started=time.monotonic(), trials=10),
        opening=lambda history: [config(500), config(501)],
    )


@functools.cache
def never_killed():
    with tempfile.TemporaryDirectory() as folder:
        end = ten_trials(Ledger.open(folder, study="toy", space=SPACE))
    return [point for point, _ in end.history]


@dataclass(frozen=True)
class Crew:
    """A cohort that may be sent to another process."""

    seconds: float = 0.0
    most: int = 3

    def size(self, point):
        return self.most if point["x"] < 900 else 1

    def space(self, point):
        return SPACE.narrow("backbone", [point.text("backbone")])

    def __call__(self, configs, deadline):
        time.sleep(self.seconds)
        process = float(os.getpid())
        return tuple(
            Outcome(
                status="failed" if c["x"] == 2 else "done",
                mean=math.nan if c["x"] == 2 else c.number("x"),
                objectives={"process": process},
            )
            for c in configs
        )


@pytest.fixture
def processes():
    executor = LocalProcesses(2)
    yield executor
    executor.shutdown()


def test_jobs_run_in_other_processes(go, processes):
    oracle = Scripted()
    end = go(
        Crew(seconds=0.1),
        oracle=oracle,
        executor=processes,
        opening=lambda history: [config(950)],
        budget=Budget(started=100.0, trials=8),
    )
    expected = ["done", "done", "failed", *["done"] * 5]
    assert (points_of(end), statuses_of(end)) == ([950, *range(1, 8)], expected)
    assert end.history[0][1].mean == -950.0  # by `alone`
    homes = [o.objectives.get("process") for _, o in end.history]
    assert homes[0] is None
    assert len(set(homes[1:4])) == len(set(homes[4:7])) == 1
    assert os.getpid() not in homes
    running = [sum(o.status == "running" for _, o in h) for _, h, _, _ in oracle.calls]
    assert running[:2] == [1, 2]  # the second job is made while the first runs


def test_a_job_that_does_not_come_back_is_given_up_whole(go, processes):
    for _ in range(2):  # workers take a while to start
        processes.submit(operator.abs, -1)
    while processes.wait():
        pass
    began = time.monotonic()
    end = go(
        Crew(seconds=60.0),
        executor=processes,
        clock=time.monotonic,
        budget=Budget(started=began, seconds=1.0),
        patience=Patience(grace_seconds=0.2),
    )
    assert statuses_of(end) == ["stopped"] * 6
    assert {o.reason for _, o in end.history} == {"did not come back by its deadline"}
    assert end.ending == "seconds"


def test_a_worker_that_dies_fails_its_whole_job(go, processes):
    end = go(
        Fatal(),
        executor=processes,
        budget=Budget(started=100.0, trials=4),
        opening=lambda history: [config(950)],
    )
    assert statuses_of(end) == ["done", "failed", "failed", "failed"]
    assert {o.reason for _, o in end.history[1:]} == {
        "TrialError: the worker process ended by itself with exit code 3"
    }


class Fatal(Crew):
    """Takes its process with it."""

    def __call__(self, configs, deadline):
        os._exit(3)


def test_without_cohorts_nothing_changes(tmp_path, go):
    """A size of 1 throughout gives the trials of a study without cohorts."""

    def study(name, cohorts):
        ledger = Ledger.open(tmp_path / name, study="toy", space=SPACE)
        end = go(cohorts, ledger=ledger, oracle=SobolOracle())
        return [(point, outcome.to_json()) for point, outcome in end.history]

    assert study("none", None) == study("lonely", Toy(most=1))

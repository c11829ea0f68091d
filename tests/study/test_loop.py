"""The loop on two-line functions, with a fake clock and a scripted oracle."""

import functools
import math
import threading
import time
from dataclasses import dataclass, field

import pytest

from fewshot_automl.errors import OutOfTime, RunError
from fewshot_automl.executors import InProcess, WorkerProcesses
from fewshot_automl.ledger import INTERRUPTED, Ledger
from fewshot_automl.oracle.oracle import tried
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config, Int, Space
from fewshot_automl.study import SECONDS_USED, Budget, Study, loop, run

SPACE = Space((Int(name="x", low=0, high=999),))


def config(x):
    return Config.of({"x": x})


@dataclass
class Clock:
    """Tells a time that only moves when told to."""

    now: float = 100.0

    def __call__(self):
        return self.now

    def evaluate(self, point, allowance):
        """Take `x` seconds, but no longer than allowed."""
        seconds = float(point["x"])
        if allowance is not None and seconds > allowance:
            self.now += allowance
            raise OutOfTime("the end came first")
        self.now += seconds
        return Outcome(status="done", mean=float(point["x"]), cost_seconds=1.0)


@dataclass
class Scripted:
    """Proposes what a list says, by what is not yet tried, and remembers its calls."""

    points: list
    calls: list = field(default_factory=list)

    def suggest(self, space, history, n, seed, allows=None):
        self.calls.append((list(history), n, seed))
        seen = tried(history)
        return [config(x) for x in self.points if config(x) not in seen][:n]


class Seeded:
    """Proposes by its seed alone, as a random search does."""

    def suggest(self, space, history, n, seed, allows=None):
        seen = tried(history)
        order = (config((seed + 37 * step) % 1000) for step in range(1000))
        return [point for point in order if point not in seen][:n]


@pytest.fixture
def ledger(tmp_path):
    return Ledger.open(tmp_path, study="toy", space=SPACE)


@pytest.fixture
def go(ledger):
    """Return a `run` with everything filled in that a test leaves out."""

    def go(evaluate=None, *, points=range(1, 1000), clock=None, **parts):
        clock = clock or Clock()
        seconds = parts.pop("seconds", None)
        trials = parts.pop("trials", None if seconds else 3)
        parts = {
            "oracle": Scripted(list(points)),
            "ledger": ledger,
            "executor": InProcess(),
            "budget": Budget(started=clock(), seconds=seconds, trials=trials),
            "clock": clock,
            **parts,
        }
        return run(Study(space=SPACE, evaluate=evaluate or clock.evaluate, **parts))

    return go


def points_of(end):
    return [point["x"] for point, _ in end.history]


def statuses_of(end):
    return [outcome.status for _, outcome in end.history]


def test_trials_are_counted(go, ledger):
    end = go()
    assert (points_of(end), end.ending) == ([1, 2, 3], "trials")
    assert [(p, o.to_json()) for p, o in end.history] == [
        (p, o.to_json()) for p, o in ledger.history()
    ]


def test_the_opening_goes_first_and_follows_the_history(go):
    asked = []

    def opening(history):
        asked.append(len(history))
        second = [config(30)] if any(o.is_done for _, o in history) else []
        return [config(10), config(20), *second]

    end = go(opening=opening, trials=5)
    assert points_of(end) == [10, 20, 30, 1, 2]
    assert asked == [0, 1, 2, 3, 4]


def test_many_slots_are_filled_by_few_questions(go):
    executor, oracle = InProcess(), Scripted(list(range(1, 1000)))
    executor.slots = 16
    end = go(executor=executor, oracle=oracle, trials=32, thinks_ahead=True)
    assert sorted(points_of(end)) == list(range(1, 33))
    assert [n for _, n, _ in oracle.calls] == [8] * 4


def test_a_config_that_another_driver_has_is_left_to_it(go, ledger, monkeypatch):
    start, others = ledger.start, []

    def taken(point):
        if not others:
            others.append(start(point))
            return None
        return start(point)

    monkeypatch.setattr(ledger, "start", taken)
    end = go()
    assert points_of(end) == [1, 2, 3]
    assert statuses_of(end) == ["running", "done", "done"]


def test_what_a_dead_driver_left_may_be_tried_again(go, ledger):
    clock, gone = Clock(), []

    def evaluate(point, allowance):
        if not gone:  # meanwhile another driver starts a trial and dies
            gone.append(ledger.start(config(7)))
            ledger.finish(gone[0], Outcome(status="stopped", reason=INTERRUPTED))
        return clock.evaluate(point, allowance)

    end = go(evaluate, clock=clock, points=[5, 7], trials=2)
    assert points_of(end) == [5, 7, 7]
    assert statuses_of(end) == ["done", "stopped", "done"]


def test_a_study_without_time_tries_what_is_sure_until_a_trial_is_done(go):
    clock = Clock()

    def evaluate(point, allowance):
        if point["x"] == 7:
            raise RuntimeError("broken")
        return clock.evaluate(point, allowance)

    def sure(history):
        is_done = any(outcome.is_done for _, outcome in history)
        return None if is_done else config(7 + len(history))

    budget = Budget(started=0.0, seconds=50.0)  # it is 100 now
    end = go(evaluate, clock=clock, budget=budget, sure=sure)
    assert points_of(end) == [7, 8]
    assert statuses_of(end) == ["failed", "done"]
    assert (end.ending, clock.now) == ("seconds", 108.0)


def test_time_is_spent_exactly(go, ledger):
    """1+2+3 = 6 s fit into 8; the next, of 4 s, is stopped at the end."""
    clock = Clock()
    budget = Budget(started=98.0, seconds=10.0)  # 2 s went by before the study
    end = go(clock=clock, budget=budget)
    assert statuses_of(end) == ["done", "done", "done", "stopped"]
    assert end.history[3][1].reason == "the end came first"
    assert end.history[3][1].cost_seconds == 2.0
    assert (end.ending, clock.now) == ("seconds", 108.0)
    assert ledger.notes()[SECONDS_USED] == 10.0


def test_the_reserve_is_kept(go):
    clock = Clock()
    allowances = []

    def evaluate(point, allowance):
        allowances.append(allowance)
        return clock.evaluate(point, allowance)

    end = go(
        evaluate,
        clock=clock,
        seconds=20.0,
        reserve=lambda history: 2.0 * len(history),
    )
    # What a trial itself would have kept for it is kept from its start.
    assert allowances == [18.0, 15.0, 11.0, 6.0, 0.0]
    assert statuses_of(end) == ["done"] * 4 + ["stopped"]
    assert (end.ending, clock.now) == ("seconds", 110.0)


def test_what_does_not_fit_is_not_started(go):
    clock = Clock()
    end = go(
        clock=clock,
        points=[50, 3, 60, 4, 70],
        opening=lambda history: [config(200), config(1)],
        expected_seconds=lambda point, history: float(point["x"]),
        seconds=10.0,
    )
    assert points_of(end) == [1, 3, 4]
    assert statuses_of(end) == ["done"] * 3
    assert (end.ending, clock.now) == ("seconds", 108.0)


def test_no_time_at_all_starts_nothing(go):
    oracle = Scripted([1])
    budget = Budget(started=100.0, seconds=5.0, used_before=5.0)
    end = go(oracle=oracle, budget=budget)
    assert (end.history, end.ending, oracle.calls) == ([], "seconds", [])


def test_no_config_is_tried_twice_whatever_the_oracle_says(go):
    class Stubborn:
        def suggest(self, space, history, n, seed, allows=None):
            return [config(5)]

    end = go(oracle=Stubborn(), opening=lambda _: [config(4), config(4)], trials=9)
    assert (points_of(end), end.ending) == ([4, 5], "exhausted")


def test_a_failing_trial_ends_nothing(go):
    raised = {1: MemoryError(), 2: RuntimeError("CUDA"), 3: OutOfTime("late")}

    def evaluate(point, allowance):
        if point["x"] in raised:
            raise raised[point["x"]]
        return None if point["x"] == 4 else Outcome(status="done", mean=1.0)

    end = go(evaluate, trials=5)
    assert statuses_of(end) == ["failed", "failed", "stopped", "failed", "done"]
    assert [outcome.reason for _, outcome in end.history] == [
        "MemoryError",
        "RuntimeError: CUDA",
        "late",
        "evaluate must return a finished Outcome, got None",
        "",
    ]


def test_nothing_but_failures_is_an_error(go, ledger):
    def evaluate(point, allowance):
        raise RuntimeError(f"no weights {point.number('x') % 2:.0f}")

    with pytest.raises(RunError) as caught:
        go(evaluate, trials=99)
    assert str(caught.value).count("no weights") == 2
    assert "first 10 trials failed" in str(caught.value)
    assert len(ledger.history()) == 10


def test_failures_after_a_done_trial_are_endured(go):
    def evaluate(point, allowance):
        if point["x"] > 1:
            raise RuntimeError("no")
        return Outcome(status="done", mean=1.0)

    end = go(evaluate, trials=20)
    assert statuses_of(end) == ["done"] + ["failed"] * 19


def test_ctrl_c_ends_with_what_there_is(go, ledger):
    def evaluate(point, allowance):
        if point["x"] == 2:
            raise KeyboardInterrupt
        return Outcome(status="done", mean=1.0)

    end = go(evaluate)
    assert end.ending == "interrupted"
    assert statuses_of(end) == ["done", "stopped"]
    assert end.history[1][1].reason == INTERRUPTED
    again = go()
    assert points_of(again) == [1, 2, 2, 3]  # what was broken off is tried again
    assert statuses_of(again) == ["done", "stopped", "done", "done"]


def test_ctrl_c_in_a_display_leaves_nothing_running(go):
    def on_event(event):
        if (event.kind, event.number) == ("started", 1):
            raise KeyboardInterrupt

    end = go(on_event=on_event)
    assert end.ending == "interrupted"
    assert statuses_of(end) == ["done", "stopped"]


@pytest.mark.parametrize(
    ("seconds", "thinks_ahead"), [(1.0, False), (0.5, False), (5.0, True)]
)
@pytest.mark.parametrize("killed_at", [0, 1, 2, 4, 7])
def test_a_resumed_study_equals_one_never_killed(
    tmp_path, go, killed_at, seconds, thinks_ahead
):
    def study(ledger, evaluate):
        return go(
            evaluate,
            ledger=ledger,
            oracle=Seeded(),
            opening=lambda history: [config(500), config(501)],
            expected_seconds=lambda point, history: seconds,
            thinks_ahead=thinks_ahead,
            trials=9,
        )

    def evaluate(point, allowance):
        return Outcome(status="done", mean=float(point["x"]))

    def killed(point, allowance):
        if len([o for _, o in first.history() if o.is_done]) == killed_at:
            raise SystemExit  # nothing catches it, as nothing catches SIGKILL
        return evaluate(point, allowance)

    whole = study(Ledger.open(tmp_path / "w", study="toy", space=SPACE), evaluate)
    first = Ledger.open(tmp_path / "k", study="toy", space=SPACE)
    with pytest.raises(SystemExit):
        study(first, killed)
    resumed = Ledger.open(tmp_path / "k", study="toy", space=SPACE)
    assert resumed.interrupt_running() == 1
    end = study(resumed, evaluate)
    assert [row for row in end.history if row[1].is_done] == list(whole.history)
    assert len(end.history) == len(whole.history) + 1


def test_the_oracle_thinks_while_a_trial_runs(go):
    asked = threading.Event()

    class Watched(Scripted):
        def suggest(self, space, history, n, seed, allows=None):
            asked.set()
            return super().suggest(space, history, n, seed)

    def evaluate(point, allowance):
        if point["x"] > 1:
            assert asked.wait(30.0)  # the next one was asked for before this one ended
            asked.clear()
        return Outcome(status="done", mean=1.0)

    oracle = Watched([2, 3, 4])
    end = go(
        evaluate,
        oracle=oracle,
        opening=lambda history: [config(1)],
        thinks_ahead=True,
        trials=3,
    )
    assert (points_of(end), statuses_of(end)) == ([1, 2, 3], ["done"] * 3)
    shown = [[o.status for _, o in history] for history, _, _ in oracle.calls]
    assert shown == [["running"], ["done", "running"]]


def test_what_was_thought_ahead_gives_way_to_the_opening(go):
    def opening(history):
        is_done = any(outcome.is_done for _, outcome in history)
        return [config(1), config(50)] if is_done else [config(1)]

    oracle = Scripted([2, 3])
    end = go(oracle=oracle, opening=opening, thinks_ahead=True)
    assert points_of(end) == [1, 50, 2]
    assert [len(history) for history, _, _ in oracle.calls] == [1, 2]


def test_cheap_configs_are_asked_for_several_at_a_time(go, ledger):
    oracle = Scripted([1, 2, 3, 4, 5, 900, 6, 7, 8])
    end = go(
        lambda point, allowance: Outcome(status="done", mean=1.0),
        oracle=oracle,
        expected_seconds=lambda point, history: float(point["x"]) / 100,
        trials=8,
    )
    assert points_of(end) == [1, 2, 3, 4, 5, 900, 6, 7]
    # After 1 it is asked for more, and for 900 and what follows alone.
    assert [(len(h), n) for h, n, _ in oracle.calls] == [
        (0, 1), (1, 4), (5, 4), (6, 1), (7, 4)
    ]  # fmt: skip
    assert ledger.notes()["suggested"] == [{"x": 7}, {"x": 8}]


def test_the_oracle_may_suggest_only_what_is_allowed(go):
    class Obedient(Scripted):
        def suggest(self, space, history, n, seed, allows=None):
            self.points = [x for x in range(99) if allows(config(x))]
            return super().suggest(space, history, n, seed)

    end = go(
        oracle=Obedient([]),
        allows=lambda history: lambda point: point["x"] > 10 * len(history),
    )
    assert points_of(end) == [1, 11, 21]


def test_a_display_hears_of_everything(go):
    events = []
    budget = Budget(started=100.0, seconds=100.0, trials=2)
    go(on_event=events.append, budget=budget)
    assert [(e.kind, e.number, e.outcome.status, e.trials_left) for e in events] == [
        ("started", 0, "running", 1),
        ("finished", 0, "done", 1),
        ("started", 1, "running", 0),
        ("finished", 1, "done", 0),
    ]
    assert [len(e.history) for e in events] == [1, 1, 2, 2]


def square_once_the_next_runs(folder, point, allowance):
    """Trial ``x`` ends when trial ``x + 1`` has begun, to show which overlap."""
    x = int(point["x"])
    (folder / f"{x}").touch()
    until = time.monotonic() + 60
    while x < 8 and not (folder / f"{x + 1}").exists():
        if time.monotonic() > until:
            return Outcome(status="failed", reason=f"trial {x + 1} never began")
        time.sleep(0.01)
    return Outcome(status="done", mean=float(x) ** 2)


def sleep_for_ever(point, allowance):
    if point["x"] == 1:
        return Outcome(status="done", mean=1.0)
    time.sleep(60)
    return Outcome(status="done", mean=math.nan)


def test_slots_are_kept_busy(go, tmp_path):
    oracle = Scripted(list(range(1, 9)))
    executor = WorkerProcesses(2)
    trial = functools.partial(square_once_the_next_runs, tmp_path)
    end = go(trial, oracle=oracle, executor=executor, trials=8)
    executor.shutdown()
    assert points_of(end) == list(range(1, 9))
    assert [outcome.mean for _, outcome in end.history] == [x**2 for x in range(1, 9)]
    pending = [sum(o.status == "running" for _, o in h) for h, _, _ in oracle.calls]
    assert pending == [0] + [1] * 7


def test_a_trial_that_does_not_come_back_is_given_up(go, monkeypatch, tmp_path):
    monkeypatch.setattr(loop, "GRACE_SECONDS", 0.3)
    executor = WorkerProcesses(2)
    for _ in range(2):  # workers take a while to start
        trial = functools.partial(square_once_the_next_runs, tmp_path)
        executor.submit(trial, config(8), None)
    while executor.wait():
        pass
    began = time.monotonic()
    end = go(
        sleep_for_ever,
        executor=executor,
        clock=time.monotonic,
        budget=Budget(started=began, seconds=2.0),
    )
    executor.shutdown()
    assert statuses_of(end)[:2] == ["done", "stopped"]
    assert end.history[1][1].reason == "did not come back by its deadline"
    assert end.ending == "seconds"

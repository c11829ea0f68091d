"""First looks at Configs, on two-line functions and scripted oracles."""

import time
from dataclasses import dataclass

import pytest

from fewshot_automl.errors import OutOfTime
from fewshot_automl.executors import InProcess, LocalProcesses
from fewshot_automl.ledger import INTERRUPTED, Ledger
from fewshot_automl.oracle.folds import resumable
from fewshot_automl.oracle.oracle import tried
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config, Int, Space
from fewshot_automl.study import Budget, run

SPACE = Space((Int(name="x", low=0, high=99),))
FOLDS = (0.25, 0.5, 0.75)


def config(x):
    return Config.of({"x": x})


def done(folds, before=0):
    return Outcome(
        status="done",
        scores=FOLDS[:folds],
        mean=0.5,
        cost_seconds=float(folds - before),
        folds_left=len(FOLDS) - folds,
    )


def whole(point, deadline):
    return done(3)


def first(point, deadline):
    return done(1)


@dataclass
class Planned:
    """Suggests what a list says, one after the other, whatever was tried."""

    points: list

    def suggest(self, space, history, n, seed, within=None):
        return [config(self.points.pop(0))] if self.points else []


class Keen:
    """Goes on with every Config at once, and suggests the next when it is whole."""

    def suggest(self, space, history, n, seed, within=None):
        seen = tried(history)
        new = (config(x) for x in range(100))
        return [*resumable(history), *(c for c in new if c not in seen)][:n]


@pytest.fixture
def ledger(tmp_path):
    return Ledger.open(tmp_path, study="toy", space=SPACE)


def go(ledger, oracle, evaluate=whole, first_look=first, **parts):
    executor = parts.pop("executor", None) or InProcess()
    return run(
        SPACE,
        evaluate,
        first_look=first_look,
        oracle=oracle,
        ledger=ledger,
        executor=executor,
        budget=parts.pop("budget", None)
        or Budget(started=time.monotonic(), trials=parts.pop("trials", 3)),
        **parts,
    )


def told(end):
    return [(c["x"], o.status, len(o.scores), o.folds_left) for c, o in end.history]


def test_new_suggestions_run_on_their_first_folds_and_again_on_all(ledger):
    end = go(ledger, Planned([1, 2, 1, 3]))
    assert told(end) == [
        (1, "done", 1, 2),
        (2, "done", 1, 2),
        (1, "done", 3, 0),
        (3, "done", 1, 2),
    ]
    assert end.ending == "trials"  # three Configs, four entries
    assert [o.to_json() for _, o in ledger.history()] == [
        o.to_json() for _, o in end.history
    ]


def test_the_opening_runs_whole(ledger):
    end = go(ledger, Planned([2]), opening=lambda history: [config(1)], trials=2)
    assert told(end) == [(1, "done", 3, 0), (2, "done", 1, 2)]


def test_what_the_opening_asks_for_after_a_look_is_made_whole(ledger):
    def opening(history):
        return [config(2)] if history else []

    end = go(ledger, Planned([2, 5]), opening=opening, trials=2)
    assert told(end) == [(2, "done", 1, 2), (2, "done", 3, 0), (5, "done", 1, 2)]


def test_without_first_looks_nothing_changes(ledger):
    end = go(ledger, Planned([1, 1, 2]), first_look=None, trials=2)
    assert told(end) == [(1, "done", 3, 0), (2, "done", 3, 0)]


def test_a_whole_config_is_never_tried_again(ledger):
    end = go(ledger, Planned([1, 1, 1, 1, 2]), trials=2)
    assert told(end) == [(1, "done", 1, 2), (1, "done", 3, 0), (2, "done", 1, 2)]


def test_what_ends_at_its_first_look_is_done(ledger):
    """Quick Configs have no folds left; a failed one is not tried again."""

    def look(point, deadline):
        if point["x"] == 2:
            raise RuntimeError("no")
        return done(3)

    end = go(ledger, Planned([1, 1, 2, 2, 3]), first_look=look)
    assert told(end) == [(1, "done", 3, 0), (2, "failed", 0, 0), (3, "done", 3, 0)]


def test_the_rest_must_fit_the_time_like_any_trial(ledger):
    asked = []

    def forecast(point, history):
        asked.append(point["x"])
        return 1e9 if point in resumable(history) else 0.0

    now = time.monotonic()
    end = go(
        ledger,
        Planned([1, 1, 2]),
        forecast=forecast,
        budget=Budget(started=now, seconds=60.0, trials=2),
    )
    assert told(end) == [(1, "done", 1, 2), (2, "done", 1, 2)]
    assert asked == [1, 1, 2]


def test_displays_count_configs(ledger):
    left = []
    go(
        ledger,
        Planned([1, 1, 2]),
        on_event=lambda event: left.append((event.number, event.trials_left)),
        trials=5,
    )
    assert left == [(0, 4), (0, 4), (1, 4), (1, 4), (2, 3), (2, 3)]


def test_a_rest_that_was_stopped_may_be_run_when_resumed(ledger):
    def late(point, deadline):
        raise OutOfTime("late")

    end = go(ledger, Planned([1, 1, 1]), late, trials=9)
    assert told(end) == [(1, "done", 1, 2), (1, "stopped", 0, 0)]
    end = go(ledger, Planned([1, 1]), trials=9)
    assert told(end)[2:] == [(1, "done", 3, 0)]


def test_a_study_killed_between_two_entries_goes_on(ledger, tmp_path):
    plain = go(ledger, Keen(), trials=2)

    def interrupted(point, deadline):
        raise KeyboardInterrupt

    for before in range(2):
        other = Ledger.open(tmp_path / str(before), study="toy", space=SPACE)
        parts = (interrupted, first) if before else (whole, interrupted)
        broken = go(other, Keen(), *parts, trials=2)
        assert broken.interrupted
        assert broken.history[-1][1].reason == INTERRUPTED
        again = Ledger.open(tmp_path / str(before), study="toy", space=SPACE)
        again.interrupt_running()
        resumed = go(again, Keen(), trials=2)
        counted = [row for row in told(resumed) if row[1] == "done"]
        assert counted == told(plain)[: len(counted)]
        assert {x for x, *_ in counted} == {0, 1}


def test_other_processes_look_first_too_and_never_twice_at_once(ledger):
    """While one slot looks at a Config, the other must not: it is asked to."""
    executor = LocalProcesses(2, threads_each=1)
    oracle = Planned([1, 1, 2, 2, 1, 3, 3, 2, 1, 4])
    histories = []
    try:
        end = go(
            ledger,
            oracle,
            executor=executor,
            trials=4,
            on_event=lambda event: histories.append(event.history),
        )
    finally:
        executor.shutdown()
    assert {x for x, *_ in told(end)} == {1, 2, 3, 4}
    for x in range(1, 5):
        entries = [row for row in told(end) if row[0] == x]
        assert entries in (
            [(x, "done", 1, 2)],
            [(x, "done", 1, 2), (x, "done", 3, 0)],
        )
    for history in histories:
        running = [c["x"] for c, o in history if o.status == "running"]
        assert len(running) == len(set(running))

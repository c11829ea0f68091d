import math
import pickle

import pytest
from fewshot_automl.oracle.goals import SCORE, Aims, Goal, Limit, measured

from fewshot_automl.errors import UserError
from fewshot_automl.oracle import GpOracle
from fewshot_automl.outcome import Outcome

DONE = Outcome(status="done", mean=0.9, measures={"flops": 2e9, "memory_mb": math.nan})


def test_a_goal_reads_what_a_trial_reached_so_that_more_is_better():
    assert Goal(SCORE).of(DONE) == 0.9
    assert Goal("flops", maximise=False).of(DONE) == -2e9
    for name in ("memory_mb", "latency_ms"):
        assert math.isnan(Goal(name).of(DONE))
    failed = Outcome(status="failed", measures={"flops": 1.0})
    assert math.isnan(measured("flops", failed))


def test_a_limit_allows_its_ends_and_nothing_unknown():
    limit = Limit("worst_recall", least=0.5, most=0.9)
    values = (0.49, 0.5, 0.9, 0.91, math.nan)
    assert [limit.allows(v) for v in values] == [False, True, True, False, False]
    assert str(limit) == "worst_recall at least 0.5 and at most 0.9"
    assert not Limit("x", least=0.5).allows(math.nan)


def test_aims_know_their_names_and_costs():
    aims = Aims(
        goals=(Goal(SCORE), Goal("flops", maximise=False)),
        limits=(
            Limit("latency_ms", most=9.0),
            Limit("worst_recall", least=0.5),
            Limit(SCORE, least=0.6),
        ),
    )
    assert aims.names == (SCORE, "flops", "latency_ms", "worst_recall")
    assert [aims.is_cost(n) for n in aims.names] == [False, True, True, False]
    assert not aims.is_plain
    assert aims.limit("latency_ms") == Limit("latency_ms", most=9.0)
    assert aims.limit("flops") is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Goal(" "), "must not be empty"),
        (lambda: Goal(SCORE, maximise=False), "must be maximised"),
        (lambda: Limit("flops"), "must have an end"),
        (lambda: Limit("flops", most=math.nan), "must be finite"),
        (lambda: Limit("flops", most=math.inf), "must be finite"),
        (lambda: Limit("flops", least=2.0, most=1.0), "must allow something"),
        (lambda: Aims(goals=()), "must not be empty"),
        (lambda: Aims(goals=(Goal("a"), Goal("a", False))), "different names"),
        (lambda: Aims(limits=(Limit("a", 1.0), Limit("a", 2.0))), "different names"),
        (lambda: Aims(reference=(0.1, 0.2)), "one finite value"),
        (lambda: Aims(reference=(math.nan,)), "one finite value"),
    ],
)
def test_what_makes_no_sense_is_said(make, words):
    with pytest.raises(UserError, match=words):
        make()


def test_aims_and_an_oracle_with_them_can_be_pickled():
    aims = Aims(limits=(Limit("flops", most=1e9),), exact={"flops": hash})
    assert pickle.loads(pickle.dumps(aims)) == aims
    oracle = GpOracle(aims=aims)
    assert pickle.loads(pickle.dumps(oracle)) == oracle

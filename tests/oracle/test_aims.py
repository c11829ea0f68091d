import math
import pickle

import pytest

from fewshot_automl.errors import UserError
from fewshot_automl.oracle import (
    SCORE,
    Aims,
    GpOracle,
    Limit,
    Objective,
    measured,
    oracle_named,
)
from fewshot_automl.outcome import Outcome

DONE = Outcome(status="done", mean=0.9, measures={"flops": 2e9, "memory_mb": math.nan})


def test_what_was_not_measured_is_nan():
    assert measured(SCORE, DONE) == 0.9
    assert measured("flops", DONE) == 2e9
    failed = Outcome(status="failed", measures={"flops": 1.0})
    for name, outcome in (("memory_mb", DONE), ("latency", DONE), ("flops", failed)):
        assert math.isnan(measured(name, outcome))


def test_a_limit_allows_its_ends_and_nothing_unknown():
    limit = Limit("worst_recall", least=0.5, most=0.9)
    values = (0.49, 0.5, 0.9, 0.91, math.nan)
    assert [limit.allows(v) for v in values] == [False, True, True, False, False]
    assert str(limit) == "worst_recall at least 0.5 and at most 0.9"


def test_aims_know_their_names_and_costs():
    aims = Aims(
        objectives=(Objective(SCORE), Objective("flops", maximise=False)),
        limits=(
            Limit("latency_ms", most=9.0),
            Limit("worst_recall", least=0.5),
            Limit(SCORE, least=0.6),
        ),
    )
    assert aims.names == (SCORE, "flops", "latency_ms", "worst_recall")
    assert [aims.is_cost(n) for n in aims.names] == [False, True, True, False]
    assert not Aims(limits=(Limit(SCORE, most=0.9),)).is_cost(SCORE)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Objective(" "), "must have a name"),
        (lambda: Objective(SCORE, maximise=False), "must be maximised"),
        (lambda: Limit("flops"), "one finite end"),
        (lambda: Limit("flops", most=math.nan), "one finite end"),
        (lambda: Limit("flops", most=math.inf), "one finite end"),
        (lambda: Limit("flops", least=2.0, most=1.0), "allow something"),
        (lambda: Aims(objectives=()), "one or more"),
        (lambda: Aims(objectives=(Objective("a"),) * 2), "Name each once"),
        (lambda: Aims(limits=(Limit("a", 1.0), Limit("a", 2.0))), "Name each once"),
        (lambda: oracle_named("gpp"), "gp"),
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

import logging

import numpy as np
import pytest
from fewshot_automl.oracle.evidence import Evidence
from fewshot_automl.oracle.front_improvement import (
    FrontImprovement,
    Prospects,
    ScoreImprovement,
)
from fewshot_automl.oracle.goals import SCORE, Aims, Goal, Limit
from fewshot_automl.oracle.improvement import LOWEST_BAR, Improvement
from fewshot_automl.oracle.process import Points
from fewshot_automl.oracle.pursuit import Pursuit
from fewshot_automl.oracle.surrogate import fit_scores

from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config, Float, Space

LINE = Space((Float(name="x", low=0.0, high=1.0),))


def at(x):
    return Config.of({"x": float(x)})


def size(config):
    return float(1e6 * 10 ** config.number("x"))


def recall_at(x):
    return 0.8 - 0.6 * x


PLACES = np.linspace(0, 1, 9)
HISTORY = [
    (
        at(x),
        Outcome(
            status="done",
            mean=0.5 + 0.3 * x,
            standard_error=0.01,
            measures={"worst_recall": recall_at(x), "parameters": size(at(x))},
        ),
    )
    for x in PLACES
]
SMALL = Goal("parameters", maximise=False)
SIZES = {"parameters": size}


def pursuit(**aims):
    score = fit_scores(Evidence.of(LINE, HISTORY), steps=30, seed=0)
    return Pursuit.of(Aims(**aims), score, steps=30, seed=0)


def test_quantities_come_goals_first_and_are_learnt_unless_known():
    found = pursuit(
        goals=(Goal(SCORE), SMALL),
        limits=(Limit("worst_recall", least=0.5), Limit("parameters", most=5e6)),
        exact=SIZES,
    )
    assert [q.name for q in found.quantities] == [SCORE, "parameters", "worst_recall"]
    score, parameters, recall = found.look_up([at(0.2), at(0.7)]).views
    assert isinstance(score, Points)
    assert not isinstance(parameters, Points)
    assert isinstance(recall, Points)
    assert parameters[0] > parameters[1]  # smaller is better
    recalls = found.quantities[2].scale.natural(recall.means)
    np.testing.assert_allclose(recalls, [recall_at(0.2), recall_at(0.7)], atol=0.02)
    scale = found.quantities[1].scale
    assert found.standard.ranges[1] == (scale.standard_of(5e6), np.inf)
    assert found.standard.ranges[0] == (-np.inf, np.inf)


def test_the_reference_is_the_one_given_or_by_what_was_seen():
    goals = (Goal(SCORE), SMALL)
    given = pursuit(goals=goals, reference=(0.4, 2e7), exact=SIZES)
    scales = [quantity.scale for quantity in given.quantities]
    assert given.standard.reference == (
        scales[0].standard_of(0.4),
        scales[1].standard_of(2e7),
    )
    chosen = pursuit(goals=goals, exact=SIZES)
    score, parameters = (
        scale.natural(np.array([end]))[0]
        for scale, end in zip(scales, chosen.standard.reference, strict=True)
    )
    assert 0.4 < score < 0.5
    assert 1e7 < parameters < 1.5e7
    assert pursuit().standard.reference == (LOWEST_BAR,)
    (low,) = pursuit(limits=(Limit("worst_recall", least=0.5),)).standard.reference
    assert LOWEST_BAR < low < -1


def test_what_was_never_measured_is_left_out_and_said(caplog):
    with caplog.at_level(logging.WARNING):
        found = pursuit(goals=(Goal("latency_ms", maximise=False),))
    assert "latency_ms" in caplog.text
    assert [quantity.name for quantity in found.quantities] == [SCORE]
    assert len(found.standard.reference) == 1


def test_ranks_put_the_front_before_others_and_the_infeasible_last():
    found = pursuit(
        goals=(Goal(SCORE), Goal("worst_recall")),
        limits=(Limit("parameters", most=4e6),),
        exact=SIZES,
    )
    ranked = found.ranked([at(x) for x in (0.9, 0.7, 0.5, 0.3)])
    assert ranked == [2, 3, 1, 0]
    assert found.ranked([]) == []


@pytest.mark.parametrize("n", [1, 3])
def test_picks_keep_limits_and_pending_ones_are_avoided(n):
    found = pursuit(limits=(Limit("worst_recall", least=0.5),))
    improvement = found.improvement(
        [c for c, _ in HISTORY] * 2,
        [at(0.45), HISTORY[0][0]],
        samples=64,
        picks=3,
        seed=0,
    )
    assert isinstance(improvement, FrontImprovement)
    pool = [at(x) for x in np.linspace(0.01, 0.99, 99)]
    picks = improvement.greedy(found.look_up(pool), np.zeros(99), n)
    places = [pool[i].number("x") for i in picks]
    assert len(set(places)) == n
    assert 0.3 < places[0] < 0.55


def test_the_score_alone_is_judged_as_ever():
    score = fit_scores(Evidence.of(LINE, HISTORY), steps=30, seed=0)
    evidence, process = score.evidence, score.process
    seen, other = (
        process.look_up(evidence.encode([at(x) for x in places]))
        for places in (PLACES, (0.2, 0.4, 0.95))
    )
    plain = Improvement(seen, seen.take(np.zeros(0, int)), samples=64, picks=2, seed=0)
    bonus = np.zeros(3)
    assert ScoreImprovement(plain).greedy(
        Prospects((other,)), bonus, 2
    ) == plain.greedy(other, bonus, 2)

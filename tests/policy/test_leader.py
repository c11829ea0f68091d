import math
from dataclasses import replace

import pytest
from policy_numbers import Counted, allowed_for, config_of, done, space_of

from fewshot_automl.oracle import Aims, Limit
from fewshot_automl.outcome import Outcome
from fewshot_automl.policy import Leader, Plan, broken, excess, leader
from fewshot_automl.policy.leader import ranked_backbones

LIMITS = (Limit("latency_ms", most=5.0), Limit("worst_recall", least=0.5))
AIMS = Aims(limits=LIMITS)
CONFIGS = [config_of("probe", name, head="logistic") for name in ("small", "large")]


def trial(config, mean, **measures):
    return config, done(mean=mean, **measures)


def test_luck_does_not_lead():
    shaky = config_of("prototype"), replace(done(mean=0.8), standard_error=0.4)
    sure = [trial(config_of("probe", head=h), 0.75) for h in ("logistic", "lda")]
    sure += [trial(config_of(steps=steps), 0.74) for steps in (20, 30)]
    ranking = Leader(space=space_of())([shaky, *sure, trial(CONFIGS[0], 0.2)])
    assert set(ranking.scores) == set(ranking.order) == set(range(6))
    assert ranking.scores[0] < 0.8
    assert ranking.order[-1] == 5


def test_what_breaks_a_limit_does_not_lead_while_another_keeps_all():
    fast, slow = {"latency_ms": 2.0, "worst_recall": 0.6}, {"latency_ms": 9.0}
    history = [
        trial(CONFIGS[1], 0.9, worst_recall=0.9, **slow),
        trial(CONFIGS[0], 0.3, **fast),
    ]
    within = Leader(space=space_of(), aims=Aims(limits=LIMITS))
    assert within(history).order == (1,)
    assert within(history).holds
    closest = Leader(space=space_of(), aims=Aims(limits=LIMITS[:1]))(
        [*history[:1], trial(CONFIGS[0], 0.3, latency_ms=50.0)]
    )
    assert closest.order == (0,)
    assert not closest.holds
    assert set(closest.scores) == {0, 1}


def test_sizes_are_those_of_a_fit_to_all_examples():
    sizes = {CONFIGS[0]: 4.0, CONFIGS[1]: 6.0}
    aims = Aims(limits=(Limit("memory_mb", most=5.0),), exact={"memory_mb": sizes.get})
    history = [
        trial(c, m, memory_mb=1.0) for c, m in zip(CONFIGS, (0.3, 0.9), strict=True)
    ]
    assert Leader(space=space_of(), aims=aims)(history).order == (0,)


def test_a_constant_answer_leads_only_by_more_than_its_error():
    constant = config_of("majority"), replace(done(mean=0.5), standard_error=0.1)
    for mean, order in ((0.45, (1, 0)), (0.35, (0, 1))):
        lead = Leader(space=space_of(), learns=lambda c: c["method"] != "majority")
        assert lead([constant, trial(CONFIGS[0], mean)]).order == order


def test_a_backbone_that_is_gone_does_not_lead():
    lead = Leader(space=space_of(), is_at_hand=lambda c: c["backbone"] != "large")
    ranking = lead([trial(CONFIGS[1], 0.9), trial(CONFIGS[0], 0.3)])
    assert ranking.order == (1,)
    assert ranking.scores[0] > ranking.scores[1]
    assert Leader(space=space_of())([]).order == ()


def test_the_surrogate_is_asked_once_for_the_same_trials(monkeypatch):
    asked = []

    def means(space, history, seed, prior):
        asked.append(len(history))
        return {0: 1.0}

    monkeypatch.setattr(leader, "posterior_means", means)
    lead, history = Leader(space=space_of()), [trial(CONFIGS[0], 0.5)]
    for running in range(3):
        lead([*history, *[(CONFIGS[1], Outcome(status="running"))] * running])
    lead([*history, trial(CONFIGS[1], 0.5)])
    assert asked == [1, 2]


def test_backbones_are_ranked_by_their_best_cheap_score_and_the_zoo():
    arithmetic, names = Counted(), ("small", "middle", "large")
    assert ranked_backbones(names, [], arithmetic) == ["large", "middle", "small"]
    cheap = [trial(config_of("probe", "small", head="lda"), 0.9)]
    trained = [trial(config_of(backbone="middle"), 1.0)]
    ranked = ranked_backbones(names, cheap + trained, arithmetic)
    assert ranked == ["small", "large", "middle"]


def test_limits_say_what_breaks_them_and_by_how_much():
    kept = {"latency_ms": 5.0, "worst_recall": 0.5}
    assert broken(LIMITS, kept) == []
    assert excess(LIMITS, kept) == 0
    slow = {"latency_ms": 7.5, "worst_recall": 0.25}
    assert broken(LIMITS, slow) == list(LIMITS)
    assert excess(LIMITS, slow) == pytest.approx(0.5 + 0.5)
    assert excess(LIMITS, {}) == math.inf


def allowed(costs, seconds=math.inf, aims=AIMS, most=None):
    plan = Plan(budget_seconds=None, trial_seconds=most)
    return allowed_for(costs, plan, seconds, aims=aims)


def test_a_backbone_goes_only_when_all_that_was_tried_on_it_costs_too_much(costs):
    every = ["small", "middle", "large"]

    def left(history):
        keeps = allowed(costs).within_limits(history)
        return [name for name in every if keeps(config_of("probe", name))]

    def seen(name, latency, head="lda"):
        config = config_of("probe", name, head=head)
        return trial(config, 0.5, latency_ms=latency, worst_recall=0.0)

    assert left([trial(CONFIGS[0], 0.5)]) == every  # it was not measured
    mixed = [seen("small", 9.0), seen("small", 2.0, "rbf"), seen("middle", 9.0)]
    assert left(mixed) == ["small", "large"]
    assert left([seen(name, 9.0) for name in every]) == every


def test_what_a_config_fixes_is_held_against_the_limits(costs):
    aims = Aims(
        limits=(Limit("parameters", most=10.0),),
        exact={"parameters": lambda config: float(config.get("rank", 0))},
    )
    keeps = allowed(costs, aims=aims)([])
    assert keeps(config_of("lora", rank=8))
    assert not keeps(config_of("lora", rank=12))


def test_what_takes_too_long_is_not_allowed(costs):
    short, long = config_of(steps=10, batch_size=8), config_of(steps=160, batch_size=64)
    needed = costs.seconds(short)
    assert needed > 2
    assert allowed(costs)([])(long)
    assert allowed(costs, seconds=needed / 0.8)([])(short)
    assert not allowed(costs, seconds=needed)([])(short)  # not all that is left
    assert not allowed(costs, most=needed * 1.1)([])(long)
    slow = [(config_of(steps=11, batch_size=8), done(9 * needed))]
    assert not allowed(costs, most=needed * 1.1)(slow)(short)
    assert allowed(costs, most=0.0)([])(config_of("probe", head="lda"))


def reserve(costs, budget=100.0, tested=0):
    return allowed_for(costs, Plan(budget_seconds=budget), tested=tested).reserve


def test_the_reserve_grows_with_what_leads(costs):
    cheap = [trial(config_of("probe", head="lda"), 0.6)]
    long = config_of(steps=160, batch_size=64)
    fit = costs.refit_seconds(long)
    assert reserve(costs)([]) == pytest.approx(6.0)
    assert 6.0 <= reserve(costs)(cheap) < 6.5
    trained = [*cheap, (long, done(costs.seconds(long), mean=0.9))]
    assert reserve(costs)(trained) > 6.0 + fit
    assert reserve(costs, budget=None)(trained) == 0.0


def test_scoring_claims_no_more_than_its_share(costs):
    history = [trial(config_of("probe", "large", head="lda"), 0.6)]
    many = reserve(costs, tested=10**9)
    assert many(history) < 6.5 + 25.0 * 3
    assert many(history) > reserve(costs, tested=3)(history) + 20.0


def test_what_trains_now_keeps_time_for_its_final_fit(costs):
    long = config_of(steps=160, batch_size=64)
    fit = costs.refit_seconds(long)
    assert reserve(costs)([(long, Outcome(status="running"))]) > 6.0 + fit
    within = allowed_for(costs, Plan(budget_seconds=100.0))
    assert within.needed(long, []) > 0.8 * costs.seconds(long, 1) + fit


def test_cheap_trials_end_when_they_find_nothing_better(costs):
    heads = [config_of("probe", "small", head=str(n)) for n in range(12)]
    found = [trial(c, 0.5 + 0.01 * n) for n, c in enumerate(heads)]
    stale = [trial(c, 0.5) for c in heads]
    for budget, pays in ((100.0, False), (None, True)):
        within = allowed_for(costs, Plan(budget_seconds=budget), left=100.0)
        assert within(found)(config_of("probe"))
        assert within(stale)(config_of("probe")) == pays
        assert within(stale)(config_of(steps=10))

"""What no history may break: every promise of `Oracle.suggest`, on any space."""

import itertools
import math
from types import MappingProxyType

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from fewshot_automl.oracle import ORACLES, RandomOracle, SobolOracle, incumbent
from fewshot_automl.oracle.gp import GpOracle
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Config, Float, Int, Space, When

SMALL = {"candidates": 32, "samples": 8, "fit_steps": 4}
MADE = MappingProxyType(
    {
        "random": RandomOracle(),
        "sobol": SobolOracle(),
        "gp": GpOracle(**SMALL),
        "gp, early": GpOracle(initial_trials=2, candidates=8, samples=1, fit_steps=1),
    }
)
"""Oracles with quick settings; their names are the test's ids."""

NAN, INF = math.nan, math.inf
MIXED = Space(
    (
        Choice(name="backbone", options=("s", "m", "l"),
               descriptors=((1.0, 7.0), (2.0, 7.0), (4.0, NAN))),
        Choice(name="method", options=("probe", "lora")),
        Int(name="rank", low=1, high=64, log=True, when=(When("method", ("lora",)),)),
        Float(name="rate", low=1e-5, high=1e-1, log=True,
              when=(When("method", ("lora",)),)),
        Choice(name="only", options=("this",)),
        Float(name="mix", low=0.0, high=1.0),
    )
)  # fmt: skip
FEW = Space(
    (
        Choice(name="method", options=("a", "b", "c")),
        Int(name="rank", low=1, high=3, when=(When("method", ("b", "c")),)),
    )
)


def test_every_oracle_of_the_table_is_under_test():
    kinds = {name.partition(",")[0] for name in MADE}
    assert kinds == set(ORACLES)


@pytest.fixture(params=list(MADE))
def oracle(request):
    return MADE[request.param]


def done(mean, error=0.01, seconds=1.0):
    return Outcome(
        status="done", mean=float(mean), standard_error=error, cost_seconds=seconds
    )


def untried(history):
    """Return whether a Config may be suggested, as a function."""
    taken = {config for config, outcome in history if outcome.status != "stopped"}
    return lambda config: config not in taken


def check(oracle, space, history, n, within=None, seed=5):
    """Suggest, check every promise, and return the suggestions."""
    configs = oracle.suggest(space, history, n, seed, within)
    assert configs == oracle.suggest(space, history, n, seed, within)
    assert len(set(configs)) == len(configs) <= n
    assert all(map(space.contains, configs))
    assert all(map(untried(history), configs))
    part = space if within is None else within
    if isinstance(part, Space):
        assert all(map(part.contains, configs))
        left = part.size() - sum(
            not untried(history)(config)
            for config in {config for config, _ in history if part.contains(config)}
        )
    else:
        assert set(configs) <= set(part)
        left = len(set(filter(untried(history), part)))
    assert len(configs) == min(n, left)
    return configs


def a_space(draw):
    """Return a space with conditions of any depth.

    It is no strategy, because beartype uses `random` while dimensions are made, and
    hypothesis forbids that inside strategies.
    """
    dimensions = []
    for index in range(draw(st.integers(1, 6))):
        name = f"d{index}"
        when = some_conditions(draw, dimensions)
        kind = draw(st.sampled_from(["choice", "choice", "float", "int"]))
        if kind == "choice":
            dimensions.append(a_choice(draw, name, when))
            continue
        low, log = draw(st.integers(1, 3)), draw(st.booleans())
        if kind == "float":
            high = low + draw(st.sampled_from([0.0, 1e-12, 0.5, 1e6]))
            dimensions.append(
                Float(name=name, low=float(low), high=high, log=log, when=when)
            )
        else:
            high = low + draw(st.sampled_from([0, 1, 5, 10_000]))
            dimensions.append(Int(name=name, low=low, high=high, log=log, when=when))
    return Space(tuple(dimensions))


def some_conditions(draw, dimensions):
    parents = [d for d in dimensions if isinstance(d, Choice)]
    chosen = draw(st.lists(st.sampled_from(parents), max_size=2)) if parents else []
    return tuple(
        When(
            parent.name,
            tuple(sorted(draw(st.sets(st.sampled_from(parent.options), min_size=1)))),
        )
        for parent in {parent.name: parent for parent in chosen}.values()
    )


def a_choice(draw, name, when):
    options = tuple(f"o{i}" for i in range(draw(st.integers(1, 4))))
    numbers = st.sampled_from([0.0, 1.0, -3.5, 1e9, NAN])
    rows = None
    if draw(st.booleans()):
        width = draw(st.integers(0, 2))
        row = st.lists(numbers, min_size=width, max_size=width)
        rows = tuple(tuple(draw(row)) for _ in options)
    return Choice(name=name, options=options, when=when, descriptors=rows)


SCORES = {
    "usual": st.floats(-1.0, 1.0),
    "any": st.floats(-1e300, 1e300),
    "huge": st.sampled_from([1e300, 9e299, -1e300]),
    "tiny": st.sampled_from([1e-300, 2e-300, -1e-300]),
    "equal": st.just(0.7),
    "nearly equal": st.sampled_from([0.7, 0.7 + 1e-15, 0.7 - 1e-13]),
}
ERRORS = st.sampled_from([0.0, 1e-300, 1e-9, 0.1, 1e6, NAN, INF])


def a_history(draw, space):
    """Return trials of every status in `space`, some Configs tried twice."""
    configs = RandomOracle().suggest(space, [], draw(st.integers(0, 12)), 0)
    configs += configs[: draw(st.integers(0, 2))]
    scores = SCORES[draw(st.sampled_from(list(SCORES)))]
    usual = draw(st.sampled_from(["done", "failed"]))
    statuses = st.sampled_from([usual] * 5 + ["done", "failed", "running", "stopped"])
    seconds = st.sampled_from([0.0, 1e-12, 3.0, 1e9])
    history = []
    for config in configs:
        status = draw(statuses)
        outcome = (
            done(draw(scores), draw(ERRORS), draw(seconds))
            if status == "done"
            else Outcome(status=status)
        )
        history.append((config, outcome))
    return history


def a_part(draw, space):
    """Return a part of `space` in which to search, or None for all of it."""
    kind = draw(st.sampled_from(["all", "narrowed", "pool"]))
    if kind == "pool":
        return RandomOracle().suggest(space, [], draw(st.integers(0, 8)), 0)
    if kind == "narrowed":
        dimension = draw(st.sampled_from(space.dimensions))
        kept = (
            draw(st.sets(st.sampled_from(dimension.options), min_size=1))
            if isinstance(dimension, Choice)
            else (dimension.low, dimension.decode(0.5))
        )
        return space.narrow(dimension.name, sorted(kept))
    return None


@pytest.mark.parametrize("name", MADE)
@settings(
    max_examples=15,
    deadline=None,
    phases=[Phase.explicit, Phase.reuse, Phase.generate],  # shrinking takes minutes
    suppress_health_check=[HealthCheck.too_slow],
)
@given(st.data())
def test_on_any_space_and_history_every_promise_is_kept(name, data):
    space = a_space(data.draw)
    history = a_history(data.draw, space)
    part = a_part(data.draw, space)
    check(MADE[name], space, history, data.draw(st.integers(0, 4)), part)


def drawn(space, outcomes):
    configs = RandomOracle().suggest(space, [], len(outcomes), 3)
    return list(zip(configs, outcomes, strict=True))


def alternating(values, count=12):
    return list(itertools.islice(itertools.cycle(values), count))


def of_folds(scale, count=12):
    """Return outcomes with the scores of their folds, a third of them looks at one."""
    outcomes = []
    for i in range(count):
        scores = [scale * (0.5 + 0.3 * math.sin(i) + 0.1 * math.cos(7 * i + j))
                  for j in range(3 if i % 3 else 1)]  # fmt: skip
        outcomes.append(
            Outcome(
                status="done",
                scores=tuple(scores),
                mean=sum(score / len(scores) for score in scores),
                standard_error=0.05 * scale if i % 3 else NAN,
                cost_seconds=1.0,
            )
        )
    return outcomes


HISTORIES = {
    "of folds": of_folds(1.0),
    "of huge folds": of_folds(1e300),
    "of large folds": of_folds(1e149),
    "of tiny folds": of_folds(1e-300),
    "no trial": [],
    "one trial": [done(0.5)],
    "one failure": [Outcome(status="failed", reason="out of memory")],
    "one running": [Outcome(status="running")],
    "all equal": [done(0.5)] * 12,
    "all equal to 0 without noise": [done(0.0, 0.0, 0.0)] * 12,
    "all failed": [Outcome(status="failed", reason="NaN")] * 12,
    "all running": [Outcome(status="running")] * 12,
    "all stopped": [Outcome(status="stopped")] * 12,
    "half failed": alternating([done(0.5), Outcome(status="failed"), done(0.6)]),
    "huge": list(map(done, alternating([1e300, -1e300, 3e299]))),
    "tiny": list(map(done, alternating([1e-300, 3e-300, -1e-300]))),
    "huge beside tiny": list(map(done, alternating([1e300, 1e-300, 0.0]))),
    "errors unknown": [done(m, NAN) for m in alternating([0.1, 0.4, 0.3])],
    "errors zero": [done(m, 0.0) for m in alternating([0.1, 0.4, 0.3])],
    "errors infinite": [done(m, INF) for m in alternating([0.1, 0.4, 0.3])],
    "errors huge": [done(m, 1e300) for m in alternating([0.1, 0.4, 0.3])],
    "errors of every kind": [
        done(m, e)
        for m, e in zip(alternating([0.1, 0.4]), alternating([0.0, NAN, 0.1, INF]),
                        strict=True)
    ],
    "seconds of every size": [
        done(m, 0.01, s)
        for m, s in zip(alternating([0.1, 0.4]), alternating([0.0, 1e-9, 1e9]),
                        strict=True)
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", HISTORIES)
def test_it_survives_a_history_that_is(kind, oracle):
    check(oracle, MIXED, drawn(MIXED, HISTORIES[kind]), 3)


@pytest.mark.parametrize("kind", HISTORIES)
def test_a_winner_is_found_in_a_history_that_is(kind):
    history = drawn(MIXED, HISTORIES[kind])
    best = incumbent(MIXED, history, seed=0)
    assert (best is None) == (not any(outcome.is_done for _, outcome in history))
    assert best is None or history[best][1].is_done


@pytest.mark.parametrize("kind", ["one trial", "all failed", "huge", "errors zero"])
def test_it_survives_in_a_pool_a_history_that_is(kind, oracle):
    history = drawn(MIXED, HISTORIES[kind])
    tried = [config for config, _ in history]
    new = RandomOracle().suggest(MIXED, history, 6, 8)
    assert len(check(oracle, MIXED, history, 4, [*tried, *new, *new])) == 4
    assert set(check(oracle, MIXED, history, 9, tuple(new))) == set(new)
    assert check(oracle, MIXED, history, 2, tried) == []
    assert check(oracle, MIXED, history, 2, []) == []


def test_it_survives_500_trials(oracle):
    outcomes = [
        done(math.sin(i), 0.05, 1.0 + i % 7) if i % 9 else Outcome(status="failed")
        for i in range(500)
    ]
    check(oracle, MIXED, drawn(MIXED, outcomes), 2)


def test_it_survives_one_point_tried_60_times(oracle):
    (config,) = RandomOracle().suggest(MIXED, [], 1, 0)
    check(oracle, MIXED, [(config, done(math.sin(i))) for i in range(60)], 2)


def test_a_space_of_one_active_option_has_one_suggestion(oracle):
    space = Space(
        (
            Choice(name="method", options=("only",)),
            Int(name="rank", low=4, high=4),
            Float(name="rate", low=0.1, high=0.1),
        )
    )
    (config,) = check(oracle, space, [], 3)
    assert check(oracle, space, [(config, done(0.5))], 3) == []
    assert check(oracle, space, [(config, Outcome(status="failed"))], 1) == []


def test_a_space_without_dimensions_has_one_suggestion(oracle):
    assert check(oracle, Space(()), [], 2) == [Config.of({})]


def test_a_space_is_walked_through_to_its_end_and_no_further(oracle):
    history = []
    while configs := check(oracle, FEW, history, 2):
        for config in configs:
            outcome = (
                done(len(history)) if len(history) % 3 else Outcome(status="failed")
            )
            history.append((config, outcome))
    assert len(history) == FEW.size() == 7


def test_a_part_that_is_exhausted_has_no_suggestion(oracle):
    part = FEW.narrow("method", ["b"])
    history = []
    while configs := check(oracle, FEW, history, 1, part):
        history.append((configs[0], done(len(history))))
    assert len(history) == 3
    assert check(oracle, FEW, history, 1) != []


@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**63])
def test_any_seed_from_0_on_will_do(oracle, seed):
    check(oracle, MIXED, drawn(MIXED, [done(i % 5) for i in range(8)]), 2, seed=seed)

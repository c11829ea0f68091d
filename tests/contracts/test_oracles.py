"""What every oracle keeps, and what the Gaussian process owes beyond that."""

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from fewshot_automl.oracle import ORACLES, GpOracle, Oracle, oracle_named
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Config, Float, Int, Space, When

EVALUATIONS = 25
FIRST = 5
"""Trials by Sobol, the same for every oracle that is compared."""


@dataclass(frozen=True)
class Problem:
    """A function with a known best value and a known noise."""

    space: Space
    value: Callable[[Config], float]
    best: float
    noise: float = 0.0


def branin() -> Problem:
    space = Space(
        (
            Float(name="x", low=-5.0, high=10.0),
            Float(name="y", low=0.0, high=15.0),
        )
    )

    def value(config: Config) -> float:
        x, y = config.number("x"), config.number("y")
        bowl = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
        return -(bowl**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)

    return Problem(space, value, best=-0.397887)


def methods() -> Problem:
    """Return four methods that share a rate and have dimensions of their own."""
    names = ("probe", "freeze", "lora", "full")
    tuned = When("method", names[1:])
    lora = When("method", ("lora",))
    space = Space(
        (
            Choice(name="method", options=names),
            Float(name="strength", low=1e-3, high=1e3, log=True,
                  when=(When("method", ("probe",)),)),
            Float(name="rate", low=1e-5, high=1e-1, log=True, when=(tuned,)),
            Float(name="fraction", low=0.0, high=1.0,
                  when=(When("method", ("freeze",)),)),
            Int(name="rank", low=1, high=64, log=True, when=(lora,)),
            Choice(name="schedule", options=("flat", "cosine", "linear"), when=(lora,)),
            Float(name="decay", low=1e-6, high=1e-1, log=True,
                  when=(When("method", ("full",)),)),
        )
    )  # fmt: skip
    base = {"probe": 0.55, "freeze": 0.7, "lora": 0.75, "full": 0.65}
    peak = {"freeze": -3.0, "lora": -2.5, "full": -4.0}
    bonus = {"flat": 0.0, "cosine": 0.05, "linear": 0.03}

    def value(config: Config) -> float:
        method = config.text("method")
        score = base[method]
        if method == "probe":
            return score - 0.02 * math.log10(config.number("strength")) ** 2
        score -= 0.08 * (math.log10(config.number("rate")) - peak[method]) ** 2
        if method == "freeze":
            return score - 0.3 * (config.number("fraction") - 0.6) ** 2
        if method == "lora":
            score += bonus[config.text("schedule")]
            return score - 0.02 * (math.log2(config.number("rank")) - 4) ** 2
        return score - 0.01 * (math.log10(config.number("decay")) + 3) ** 2

    return Problem(space, value, best=0.80)


def backbones() -> Problem:
    """Return many backbones whose descriptors tell most of their worth, with noise."""
    generator = np.random.default_rng(7)
    size, rank, other = generator.random((3, 24))
    quirk = generator.normal(scale=0.02, size=24)
    worth = 0.5 + 0.3 * np.exp(-(((size - 0.7) / 0.3) ** 2)) + 0.15 * rank + quirk
    space = Space(
        (
            Choice(
                name="backbone",
                options=tuple(f"b{i:02d}" for i in range(24)),
                descriptors=tuple(
                    (6 + 3 * s, 1 - r, o)
                    for s, r, o in zip(size, rank, other, strict=True)
                ),
            ),
            Choice(name="method", options=("probe", "lora")),
            Float(name="rate", low=1e-5, high=1e-2, log=True,
                  when=(When("method", ("lora",)),)),
        )
    )  # fmt: skip

    def value(config: Config) -> float:
        score = float(worth[int(config.text("backbone")[1:])])
        if config.text("method") == "lora":
            gap = math.log10(config.number("rate")) + 3 + 0.5 * score
            score += 0.08 - 0.06 * gap**2
        return score

    return Problem(space, value, best=float(worth.max()) + 0.08, noise=0.02)


PROBLEMS = {"branin": branin, "methods": methods, "backbones": backbones}


def regret(
    oracle: Oracle, problem: Problem, seed: int, evaluations: int = EVALUATIONS
) -> float:
    """Return how far the best Config's true value stays below the best there is."""
    history: list[tuple[Config, Outcome]] = []
    while len(history) < evaluations:
        source = oracle_named("sobol") if len(history) < FIRST else oracle
        (config,) = source.suggest(problem.space, history, 1, seed)
        noise = np.random.default_rng(zlib.crc32(f"{config.key}{seed}".encode()))
        history.append(
            (
                config,
                Outcome(
                    status="done",
                    mean=problem.value(config) + problem.noise * noise.normal(),
                    standard_error=problem.noise,
                ),
            )
        )
    return problem.best - max(problem.value(config) for config, _ in history)


QUICK = ("methods", pytest.param("branin", marks=pytest.mark.slow),
         pytest.param("backbones", marks=pytest.mark.slow))  # fmt: skip


@pytest.fixture(params=list(ORACLES))
def oracle(request):
    return oracle_named(request.param)


@pytest.mark.parametrize("problem", list(PROBLEMS))
def test_suggestions_are_new_distinct_inside_the_space_and_repeatable(oracle, problem):
    space = PROBLEMS[problem]().space
    configs = oracle_named("random").suggest(space, [], 12, 0)
    history = [
        (config, Outcome(status="done", mean=float(space.encode(config).sum())))
        for config in configs
    ]
    for seen in ([], history):
        found = oracle.suggest(space, seen, 3, seed=11)
        assert len(set(found)) == 3
        assert all(space.contains(config) for config in found)
        assert not {config for config, _ in seen} & set(found)
        np.random.default_rng().random()  # nothing global may matter
        assert oracle.suggest(space, seen, 3, seed=11) == found


def test_another_seed_gives_another_answer(oracle):
    space = branin().space
    answers = [oracle.suggest(space, [], 2, seed=seed) for seed in range(3)]
    assert len({tuple(answer) for answer in answers}) == 3


@pytest.mark.parametrize("problem", QUICK)
def test_the_surrogate_beats_random_search(problem):
    """Mean regret over 3 seeds is at most 0.6 of random search's over 16.

    With 18 evaluations and smaller settings than the default ones, to take seconds.
    """
    made = PROBLEMS[problem]()
    quick = GpOracle(candidates=96, samples=32, fit_steps=15)
    ours = [regret(quick, made, seed, 18) for seed in range(3)]
    random = [regret(oracle_named("random"), made, seed, 18) for seed in range(16)]
    assert np.mean(ours) <= 0.6 * np.mean(random), (ours, np.mean(random))


def test_what_was_seen_elsewhere_counts_where_it_is_allowed():
    """Only trials of one method are seen; the rate they share leads in another."""
    space = methods().space
    history = [
        (
            Config.of({"method": "freeze", "rate": float(rate), "fraction": 0.6}),
            Outcome(
                status="done",
                mean=-((math.log10(rate) + 2.0) ** 2),
                standard_error=0.01,
            ),
        )
        for rate in 10 ** np.linspace(-5, -1, 12)
    ]
    oracle = oracle_named("gp")
    found = oracle.suggest(space, history, 4, 0, lambda c: c["method"] == "lora")
    blind = oracle.suggest(space.narrow("method", ["lora"]), history, 4, 0)
    distance = [
        np.mean([abs(math.log10(c.number("rate")) + 2.0) for c in configs])
        for configs in (found, blind)
    ]
    assert distance[0] < distance[1]

"""Numbers that behave like a model wing: three backbones, all methods, no models."""

import math
from dataclasses import dataclass, field

from fewshot_automl.outcome import Outcome
from fewshot_automl.policy import (
    Allowed,
    CostModel,
    Leader,
    Opening,
    Situation,
    draw_plan,
)
from fewshot_automl.space import Choice, Config, Float, Int, Space, When

FLOPS = {"small": 1.5e8, "middle": 3e8, "large": 2.5e9}
PRIORS = {"small": 0.2, "middle": 1.0, "large": 2.0}


@dataclass(frozen=True)
class Row:
    """A method's row."""

    name: str
    trains: bool = False
    needs_backbone: bool = True
    rung_zero: tuple = ({},)
    rung_zero_best: tuple = ()


METHODS = (
    Row("majority", needs_backbone=False),
    Row("prototype"),
    Row(
        "probe",
        rung_zero=({"head": "logistic"}, {"head": "lda"}),
        rung_zero_best=({"head": "rbf"},),
    ),
    Row("contrastive", trains=True),
    Row("partial_freeze", trains=True),
    Row("lora", trains=True),
    Row("full", trains=True),
)
TRAINED = tuple(row.name for row in METHODS if row.trains)


@dataclass(frozen=True)
class Counted:
    """Arithmetic of a machine of so many operations a second."""

    rate: float = 9e10
    backbones: tuple = ("middle", "large", "small")
    examples: int = 48
    trained: frozenset = field(default=frozenset(TRAINED))

    def prior(self, backbone):
        return PRIORS[backbone]

    def trains(self, config):
        return config.text("method") in self.trained

    def shared(self, config):
        if "backbone" not in config:
            return ()
        share = config.get("frozen_fraction", 0.0) if self.trains(config) else 1.0
        return config["backbone"], (config["backbone"], round(3 * share))

    def parts(self, config, fits, have):
        if "backbone" not in config:
            return 0.0, 0.0, 0.0, 0.01 * fits
        each = self.pass_seconds(config.text("backbone"))
        loaded, encoded = self.shared(config)
        train = 0.0
        if self.trains(config):
            share = 1 - config.get("frozen_fraction", 0.0)
            rows = 3 * config["steps"] * config["batch_size"] + self.examples
            train = fits * (0.005 * config["steps"] + rows * share * each)
        return (
            0.0 if loaded in have else 0.5,
            0.0 if encoded in have else self.examples * each,
            train,
            0.01 * fits,
        )

    def windows(self, config):
        return 1.0

    def pass_seconds(self, backbone):
        return FLOPS[backbone] / self.rate


def space_of(methods=None):
    """Return the space of some methods on three backbones."""
    names = tuple(methods or (row.name for row in METHODS))
    with_backbone = tuple(n for n in names if n != "majority")
    heads = tuple(n for n in ("probe", "contrastive") if n in names)
    trained = tuple(n for n in TRAINED if n in names)
    frozen = tuple(n for n in trained if n != "full")
    dimensions = [Choice(name="method", options=names)]

    def add(kind, users, **values):
        if users:
            dimensions.append(kind(when=(When("method", users),), **values))

    add(Choice, with_backbone, name="backbone", options=tuple(FLOPS), default="middle")
    add(Choice, heads, name="head", options=("logistic", "lda", "rbf"))
    add(Int, trained, name="steps", low=10, high=160, log=True, default=40)
    add(Int, trained, name="batch_size", low=8, high=64, log=True, default=32)
    add(Float, frozen, name="frozen_fraction", low=0.0, high=0.9, default=0.5)
    add(Int, tuple({"lora"} & set(names)), name="rank", low=1, high=64, default=8)
    return Space(tuple(dimensions))


def situation(seconds=60.0, rate=9e10, examples=48, methods=None, **more):
    return Situation(
        costs=CostModel(arithmetic=Counted(rate=rate, examples=examples)),
        space=space_of(methods),
        methods=METHODS,
        budget_seconds=seconds,
        spent_seconds=more.pop("spent_seconds", 4.0),
        **more,
    )


def allowed_for(costs, plan, left=math.inf, members=3, tested=0, **leader):
    leader = Leader(**{"space": space_of(), **leader})
    return Allowed(
        leader=leader,
        costs=costs,
        plan=plan,
        remaining=lambda: left,
        members=members,
        tested=tested,
    )


def opening_for(seconds, rate=9e10, methods=None, **leader):
    now = situation(seconds, rate, methods=methods)
    plan = draw_plan(now)
    costs = CostModel(
        arithmetic=now.costs.arithmetic,
        cheap_folds=12,
        training_folds=plan.splits.folds,
    )
    allowed = allowed_for(costs, plan, space=now.space, **leader)
    return Opening(methods=METHODS, allowed=allowed)


def lived(opening, slower=1.0, most=200, score=lambda config: 0.5):
    """Return the trials of an opening, each `slower` times as long as arithmetic."""
    history = []
    while len(history) < most:
        tried = {config for config, _ in history}
        left = [config for config in opening(history) if config not in tried]
        if not left:
            break
        plain = opening.allowed.costs.after(
            [(config, Outcome(status="running")) for config in tried]
        )
        seconds, folds = slower * plain.seconds(left[0]), plain.folds(left[0])
        history.append((left[0], done(seconds, score(left[0]), folds)))
    return history


def done(seconds=1.0, mean=0.5, folds=4, **measures):
    return Outcome(
        status="done",
        mean=mean,
        scores=(mean,) * folds,
        standard_error=0.05,
        cost_seconds=seconds,
        measures=measures,
    )


def trains(config):
    return config.text("method") in TRAINED


def config_of(method="contrastive", backbone="middle", **values):
    plain = {"frozen_fraction": 0.5, "steps": 40, "batch_size": 16}
    more = {**plain, **values} if method in TRAINED else values
    return Config.of({"method": method, "backbone": backbone, **more})

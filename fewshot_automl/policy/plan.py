"""How a study means to spend its budget, decided before its first trial."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from typing import Any, Final, NamedTuple

from fewshot_automl.policy.costs import CostModel
from fewshot_automl.policy.defaults import (
    Method,
    ladder,
    options,
    rung_zero,
    training_methods,
    whole,
)
from fewshot_automl.space import Config, Space

SAVING_SECONDS: Final = 6.0
"""Of scoring, writing, checking and reading the model, besides its fits."""
MOST_MEMBERS: Final = 5
"""Models in a committee, if nobody says how many: more won nothing (decision 0027)."""
SCORING_SHARE: Final = 0.25
"""Of the budget, that scoring test data may claim; beyond it the result is late."""
RUNG_ZERO_SHARE: Final = 0.3
"""Of the time for trials, at most, for cheap methods on the planned backbones."""
SLACK: Final = 1.3
"""Of an estimate, where being wrong would cost more than time."""
SEVERAL: Final = 4
"""Training trials with all folds that are to be compared where there is time."""
MORE_SECONDS: Final = 200.0
"""For each of which one more is."""
ONE_SHARE: Final = 0.6
"""Of the time for training trials, for the first of them where several do not fit."""
FEW_FOLDS: Final = 2
"""Folds that the first should be scored on before it is made longer."""
TRIALS_A_BACKBONE: Final = 9
"""Where only their number is limited: trials for each backbone of rung 0, a third of
them in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """How examples are split: never changed within a study, so that scores compare."""

    folds: int = 4
    """Most folds; classes with fewer examples have fewer."""
    repeats: int = 5
    """Most repeats of the folds, for cheap trials."""
    training_repeats: int = 1
    """Most repeats of the folds, for trials that train by steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a study decides once, from its size, its machine and its budget.

    >>> print(Plan(budget_seconds=None))
    cheap trials, then training trials of any length with 4 folds, at most 5 models
    """

    budget_seconds: float | None
    """Of the whole command; None without limit."""
    trials: int | None = None
    """Most trials of a study without a limit of time, where it has a limit of them."""
    splits: Splits = Splits()
    """How examples are split."""
    backbones: tuple[str, ...] = ()
    """Those that rung 0 tries, in this order."""
    rung_zero_seconds: float | None = None
    """Most for cheap methods on them, before the next is left out; None without
    limit."""
    trial_seconds: float | None = None
    """Most that one trial that trains should take; None without limit. It is scored on
    as many folds as fit in it."""
    training_folds: int | None = None
    """How many folds that should be at least; None for all. Where they do not fit, one
    fold of the strongest backbone is better than none."""
    first_trained: str = ""
    """Method of the first of those trials."""
    training_trials: int | None = None
    """How many of those are expected; None where nobody can tell, 0 with no limit of
    seconds where the space has none."""
    training_backbones: int = 2
    """Backbones on which each training method is tried with default values."""
    space_filling: int = 4
    """Training trials between the defaults and the oracle."""
    final_seconds: float | None = None
    """Expected for fitting, scoring and saving the model; None without limit."""
    members: int = MOST_MEMBERS
    """Most models averaged in the result."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Plan":
        """Return the plan that `to_json` wrote; what another version noted is lost."""
        known = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        splits = values.get("splits", {})
        names = [f.name for f in fields(Splits) if f.name in splits]
        known["splits"] = Splits(**{name: splits[name] for name in names})
        known["backbones"] = tuple(values.get("backbones", ()))
        return cls(**{"budget_seconds": None, **known})

    def __str__(self) -> str:
        """Return the plan in one line."""
        most, count = self.trial_seconds, self.training_trials
        words = ["cheap trials"]
        if known := len(self.backbones):
            words[0] += f" on {known} backbone" + "s" * (known > 1)
        if self.rung_zero_seconds is not None:
            words[0] += f" (at most {self.rung_zero_seconds:.0f} s)"
        folds = f"{self.splits.folds} folds"
        if self.training_folds is not None and self.training_folds < self.splits.folds:
            folds = f"{self.training_folds} of {folds} or more"
        if self.splits.training_repeats > 1:
            folds += " twice"
        if count:
            words.append(
                f"then about {count} training trial{'s' * (count > 1)}, "
                f"{self.first_trained or 'any method'} first, on the strongest "
                f"backbone that fits, with {folds} in at most {most:.0f} s"
            )
        elif most is not None:
            words.append("hardly time for training trials")
        elif count is None:
            words.append(f"then training trials of any length with {folds}")
        else:
            words.append(folds)
        model = f"at most {self.members} models" if self.members > 1 else "one model"
        final = self.final_seconds
        is_long = final is not None and final >= 1.0
        words.append(
            f"{final:.0f} s for the final fit of {model}" if is_long else model
        )
        return ", ".join(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a plan follows from; no clock and no model is asked."""

    costs: CostModel
    """What one fit takes, by arithmetic."""
    space: Space
    """The study's."""
    methods: tuple[Method, ...]
    """Every method's row."""
    budget_seconds: float | None
    """Of the whole command; None without limit."""
    trials: int | None = None
    """Of the whole study; None without limit."""
    spent_seconds: float = 0.0
    """Of the budget, before the first trial of this run."""
    tested: int = 0
    """Test examples to be scored at the end."""
    members: int | None = None
    """Most models averaged; None leaves it to the plan."""
    splits: Splits | None = None
    """Of a study that has begun; None for a new one."""
    most_folds: int = 5
    """Folds that the smallest classes allow."""

    @property
    def scoring_seconds(self) -> float:
        """Return what scoring the test examples takes on the best known backbone."""
        arithmetic, known = self.costs.arithmetic, options(self.space, "backbone")
        names = [name for name in arithmetic.backbones if name in known]
        return self.tested * sum(map(arithmetic.pass_seconds, names[:1]), 0.0)

    def forms(self, backbone: str) -> list[Config]:
        """Return the forms of the first training default on a backbone, best first.

        None if the space has no method that trains.
        """
        names = training_methods(self.space, self.methods)
        examples = self.costs.arithmetic.examples
        return whole(ladder(self.space, names[0], backbone, examples)) if names else []


def draw_plan(situation: Situation) -> Plan:
    """Return how to spend a budget.

    Time to save and score the model is set aside first. Of the rest, rung 0 gets what
    its backbones need, up to `RUNG_ZERO_SHARE`: the cheapest, for something must be
    there at the end, then the most promising that fit. What is left is for trials that
    train, the strongest backbone first, and for the final fit of one of them.
    """
    budget, costs = situation.budget_seconds, situation.costs
    setups, ranked = _setups(situation), costs.arithmetic.backbones
    methods = training_methods(situation.space, situation.methods)
    if budget is None:
        if situation.trials is not None:
            ranked = ranked[: max(situation.trials // TRIALS_A_BACKBONE, 1)]
        return Plan(
            budget_seconds=None,
            trials=situation.trials,
            splits=situation.splits or Splits(),
            backbones=tuple(name for name in setups if name in ranked),
            training_trials=None if methods else 0,
            members=situation.members or MOST_MEMBERS,
        )
    left = max(budget - situation.spent_seconds, 0.0)
    saving = saving_seconds(costs, left)
    most = RUNG_ZERO_SHARE * max(left - saving, 0.0)
    chosen = _affordable(setups, ranked, most)
    rung_zero_seconds = sum(setups[name] for name in chosen)
    passes = sum(costs.arithmetic.pass_seconds(name) for name in chosen[:2])
    final = saving + min(situation.tested * passes, SCORING_SHARE * left)
    time = max(left - rung_zero_seconds - final, 0.0)
    splits = situation.splits or _splits(situation, time)
    training = _training(situation, chosen, splits, time)
    count = training.trials
    return Plan(
        budget_seconds=budget,
        splits=splits,
        backbones=tuple(chosen),
        rung_zero_seconds=max(most, rung_zero_seconds),
        trial_seconds=training.seconds if methods else None,
        training_folds=training.folds,
        first_trained=methods[0] if methods else "",
        training_trials=count,
        training_backbones=1 + (count >= SEVERAL) + (count >= 60),
        space_filling=min(count // 6, 8),
        final_seconds=final + training.final_seconds,
        members=situation.members or MOST_MEMBERS,
    )


def saving_seconds(costs: CostModel, budget_seconds: float) -> float:
    """Return what writing, checking and reading the model will take.

    Where others use the machine too, everything takes longer, saving as well. But it
    claims no more than a share: a late model is worth more than none in time.
    """
    slowness = math.exp(costs.effects.get(("train",), 0.0))  # of training
    return min(SAVING_SECONDS * min(max(slowness, 1.0), 2.5), 0.3 * budget_seconds)


def _setups(situation: Situation) -> dict[str, float]:
    """Return what each backbone costs in rung 0, the cheapest first.

    None is there if the space has no cheap method that reads one.
    """
    space, seconds = situation.space, {}
    readers = [row for row in situation.methods if row.needs_backbone]
    for name in options(space, "backbone"):
        if configs := rung_zero(space, readers, [name]):
            heads = 0.5  # of all that rung 0 fits
            seconds[name] = situation.costs.setup_seconds(configs[0]) + heads
    return dict(sorted(seconds.items(), key=lambda pair: pair[1]))


def _affordable(
    setups: Mapping[str, float], ranked: Sequence[str], seconds: float
) -> list[str]:
    chosen = set(list(setups)[:1])
    for name in (name for name in ranked if name in setups):
        if sum(setups[other] for other in {*chosen, name}) <= seconds:
            chosen.add(name)
    return [name for name in setups if name in chosen]


def _splits(situation: Situation, time: float) -> Splits:
    """Return folds and repeats such that trials on the default backbone compare.

    Four folds train on three quarters of the examples; three are enough where no two
    trials could be compared; five need time to spare. Few examples are scored again in
    other folds.
    """
    space, costs = situation.space, situation.costs
    dearest = rung_zero(space, situation.methods, ())
    if names := training_methods(space, situation.methods):
        backbone = space.default(method=names[0]).text("backbone")
        dearest = situation.forms(backbone)[:1]
    fit_seconds = max(map(costs.refit_seconds, dearest), default=0.0)
    room = time / (SLACK * fit_seconds) if fit_seconds else math.inf
    folds = 3 if room < 4 * 2 else 4 if room < 5 * 60 else 5
    folds = min(folds, situation.most_folds)
    is_small = costs.arithmetic.examples < 128 and names
    is_repeated = bool(is_small) and room >= 2 * folds * 150
    return Splits(folds=folds, training_repeats=2 if is_repeated else 1)


class _Training(NamedTuple):
    """What trials that train may spend."""

    seconds: float
    """Most of one."""
    folds: int
    """On which each should be scored at least."""
    trials: int
    """How many of them fit."""
    final_seconds: float
    """Of the final fit of one."""


def _training(
    situation: Situation, names: Sequence[str], splits: Splits, time: float
) -> _Training:
    """Return what to spend on training the strongest backbone that can be trained.

    Tuning it wins more than anything else does, so it comes before more folds, and
    those come before longer training: enough for several trials with all folds; else
    for one with `FEW_FOLDS`, and what is left for another; else for one fold in the
    quickest form. There must be time for its final fit, too.
    """
    costs, arithmetic = situation.costs, situation.costs.arithmetic
    every = splits.folds * splits.training_repeats
    for name in sorted(names, key=arithmetic.prior, reverse=True):
        fits = [SLACK * costs.refit_seconds(form) for form in situation.forms(name)]
        for several, fit in product((SEVERAL + time / MORE_SECONDS, SEVERAL), fits):
            if (several * every + 1) * fit <= time:
                count = int((time - fit) / (every * fit))
                return _Training((time - fit) / several, every, count, fit)
        for fit in fits:
            most = ONE_SHARE * (time - fit)
            if FEW_FOLDS * fit <= most:
                folds = min(int(most / fit), every)
                return _Training(most, folds, int((time - fit) / (folds * fit)), fit)
        if fits and 2 * fits[-1] <= time:
            return _Training(time - fits[-1], 1, 1, fits[-1])
    return _Training(ONE_SHARE * time, 1, 0, 0.0)

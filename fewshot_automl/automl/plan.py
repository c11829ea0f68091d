"""How a study means to spend its budget, decided before its first trial."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

from fewshot_automl.backbones.card import Card
from fewshot_automl.errors import LedgerError
from fewshot_automl.evaluation.folds import PREDICTIONS_WANTED
from fewshot_automl.space import Config
from fewshot_automl.trial.design import is_shorter
from fewshot_automl.trial.forecast import Forecast, Prices
from fewshot_automl.trial.workload import Workload

PLAN_NOTE: Final = "plan"
"""The ledger's note that holds the plan."""
SAVING_SECONDS: Final = 6.0
"""Of scoring, writing, checking and reading the model, besides its fits."""
SAVING_SHARE: Final = 0.3
"""Of the budget, at most: a late model is worth more than none in time."""
MOST_SLOWNESS: Final = 2.5
"""Times that saving is expected to take at most, compared with a quiet machine."""
SCORING_SHARE: Final = 0.25
"""Of the budget, that scoring test data may claim; beyond it the result is late."""
RUNG_ZERO_SHARE: Final = 0.3
"""Of the time for trials, at most, for quick methods on the planned backbones."""
SLACK: Final = 1.3
"""Of a forecast, where being wrong would cost more than time."""
MODEST_TRIALS: Final = 5
"""Dear trials that fit their time if each takes the most it may; this many, and
one more for every `MORE_SECONDS` of it."""
MORE_SECONDS: Final = 200.0
SEVERAL_SHARE: Final = 1 / 4
"""The same for a reference trial of which several are to be compared."""
BOLD_SHARE: Final = 0.6
"""The same where several do not fit in any form, and for one trial of the best
backbone."""
HEADS_SECONDS: Final = 0.5
"""Of all heads that rung 0 fits on one backbone."""
LEAST_SECONDS: Final = 0.5
"""Of a dear trial, for counting how many to expect."""
REPEATS: Final = 5
"""Of the folds of quick trials, at most."""
HASTY_SECONDS: Final = 45.0
"""A study with less time for trials repeats its quick trials less often."""
QUICK_TRIALS: Final = 3
"""Of each backbone in rung 0."""
QUICK_PART: Final = 3
"""One of so many trials, where their number is limited, is for them at most."""
LONG_SECONDS: Final = 600.0
"""From this time for trials on, more models are averaged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """How examples are split: never changed within a study, so that scores compare."""

    folds: int = 4
    """Most folds; classes with fewer examples have fewer."""
    repeats: int = REPEATS
    """Most repeats of the folds, for quick trials."""
    dear_repeats: int = 1
    """Most repeats of the folds, for trials that train by steps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a study decides once, from its size, its machine and its budget.

    >>> print(Plan(budget_seconds=None, backbones=("minilm-l6",)))
    1 backbone in rung 0, 4 folds, dear trials of any length on the best 2, a blend of 3
    """

    budget_seconds: float | None
    """Of the whole command; None without limit."""
    splits: Splits = Splits()
    """How examples are split."""
    backbones: tuple[str, ...] = ()
    """Those that are probed first, in this order."""
    rung_zero_seconds: float | None = None
    """Most for quick methods on them, before the next is left out; None without
    limit."""
    dear_seconds: float | None = None
    """Most that one trial that trains by steps may be forecast to take; None without
    limit."""
    bold_seconds: float | None = None
    """Most for the first of them on the best backbone; None without limit."""
    dear_trials: int | None = None
    """How many of those are expected; None where nobody can tell, 0 with no limit of
    seconds where the space has none."""
    dear_backbones: int = 2
    """Backbones on which each dear method is tried with default values."""
    space_filling: int = 4
    """Dear trials between the defaults and the oracle."""
    final_seconds: float | None = None
    """Expected for fitting, scoring and saving the model; None without limit."""
    members: int = 3
    """Most models averaged in the result."""
    rate: float = 0.0
    """Floating-point operations per second of a matrix product, as measured."""
    trials: int | None = None
    """Most trials of a study without a limit of time, where it has a limit of them."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {**asdict(self), "backbones": list(self.backbones)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Plan":
        """Return the plan that `to_json` wrote.

        Raises:
            LedgerError: If it was written by a version that knows other fields.
        """
        names = {field.name for field in fields(cls)} - {"trials"}
        try:
            return cls(
                **{
                    **{name: values[name] for name in names},
                    "trials": values.get("trials"),  # plans did not always have it
                    "splits": Splits(**values["splits"]),
                    "backbones": tuple(values["backbones"]),
                }
            )
        except (KeyError, TypeError) as error:
            raise LedgerError(
                f"The plan of a study must be one that this version wrote, got "
                f"{dict(values)!r}. Resume it with the version that began it."
            ) from error

    def __str__(self) -> str:
        """Return the plan in one line."""
        known = len(self.backbones)
        parts = [f"{known} backbone{'' if known == 1 else 's'} in rung 0"]
        if self.rung_zero_seconds is not None:
            parts[0] += f" (at most {self.rung_zero_seconds:.0f} s)"
        folds = f"{self.splits.folds} folds"
        if self.splits.dear_repeats > 1:
            folds += ", twice for dear trials"
        parts.append(folds)
        if self.dear_seconds is None and self.dear_trials is None:
            parts.append(f"dear trials of any length on the best {self.dear_backbones}")
        elif self.dear_seconds is not None and self.dear_trials == 0:
            most = round(self.dear_seconds)
            room = f"hardly time for dear trials (at most {most} s)"
            parts.append(room if most else "no time for dear trials")
        elif self.dear_seconds is not None:
            parts.append(
                f"about {self.dear_trials} dear trials of at most "
                f"{self.dear_seconds:.0f} s"
            )
        blend = f"a blend of {self.members}" if self.members > 1 else "one model"
        if self.final_seconds is not None:
            blend = f"{self.final_seconds:.0f} s for {blend}"
        return ", ".join([*parts, blend])


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """The numbers that a plan follows from; no clock and no model is asked."""

    workload: Workload
    """Examples, backbones and machine."""
    reference: tuple[Config, ...]
    """The dear Config that a plan makes room for, the best form of it first; room is
    made for those that are only shorter. Empty if the space has none."""
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


def draw_plan(situation: Situation) -> Plan:
    """Return how to spend a budget.

    Time for the final fit is set aside first. Of the rest, rung 0 gets what its
    backbones need, up to `RUNG_ZERO_SHARE`: the cheapest, for something must be there
    at the end, then the most promising that fit. What is left is for dear trials; one
    of them may take no more than lets several be compared. Folds are as many as leave
    room for that with the reference Config.
    """
    budget = situation.budget_seconds
    if budget is None:
        return _unlimited(situation)
    left = max(budget - situation.spent_seconds, 0.0)
    plain = replace(situation.workload, quick_fits=1, dear_fits=1)
    prices = Forecast(workload=plain).after(())
    saving = saving_seconds(prices, left)
    most = RUNG_ZERO_SHARE * max(left - saving, 0.0)
    names, rung_zero = _backbones(prices, most)
    fit_seconds = _fit_seconds(prices, situation.reference)
    scoring = sum(situation.tested * plain.pass_seconds(name) for name in names[:2])
    final = saving + min(scoring, SCORING_SHARE * left)
    dear_time = max(left - rung_zero - final, 0.0)
    # The model is one more fit of what the trials were, so it shares their time.
    splits = situation.splits or _splits(situation, fit_seconds, dear_time)
    fits = splits.folds * splits.dear_repeats
    reference = situation.reference
    forms = [config for config in reference if is_shorter(config, reference)]
    costs = [fits * prices.refit_seconds(config) for config in forms]
    limit = _dear_seconds(costs, dear_time)
    fitting = [cost for cost in costs if cost <= limit]
    dear_trials = int(dear_time / max(fitting[0], LEAST_SECONDS)) if fitting else 0
    final += min(fit_seconds, limit / fits)
    return Plan(
        budget_seconds=budget,
        splits=splits,
        backbones=names,
        rung_zero_seconds=max(most, rung_zero),
        dear_seconds=limit if situation.reference else None,
        bold_seconds=BOLD_SHARE * dear_time,
        dear_trials=dear_trials,
        dear_backbones=1 + (dear_trials >= 4) + (dear_trials >= 60),
        space_filling=min(dear_trials // 6, 8),
        final_seconds=final,
        members=situation.members or (3 if left < LONG_SECONDS else 5),
        rate=plain.rate,
    )


def saving_seconds(prices: Prices, budget_seconds: float) -> float:
    """Return what writing, checking and reading the model will take.

    Where others use the machine too, everything takes longer, saving as well.
    """
    slowness = min(max(prices.slowness, 1.0), MOST_SLOWNESS)
    return min(SAVING_SECONDS * slowness, SAVING_SHARE * budget_seconds)


def _unlimited(situation: Situation) -> Plan:
    """Return the plan of a study that only a number of trials ends.

    Few trials are not all spent on a first look at every backbone.
    """
    costs = _by_cost(Forecast(workload=situation.workload).after(()))
    most = len(costs)
    if situation.trials is not None:
        most = max(situation.trials // (QUICK_PART * QUICK_TRIALS), 1)
    chosen = _ranked(situation.workload.cards)[:most]
    return Plan(
        budget_seconds=None,
        splits=situation.splits or Splits(),
        backbones=tuple(name for name in costs if name in chosen),
        dear_trials=None if situation.reference else 0,
        members=situation.members or 3,
        rate=situation.workload.rate,
        trials=situation.trials,
    )


def _ranked(cards: Sequence[Card]) -> list[str]:
    """Return the names of backbones, the default and those of good repute first."""
    ranked = sorted(cards, key=lambda card: (not card.is_default, card.prior_rank))
    return [card.id for card in ranked]


def _by_cost(prices: Prices) -> dict[str, float]:
    """Return what each backbone costs to try, the cheapest first."""
    costs = {
        card.id: prices.embedding_seconds(card.id) + HEADS_SECONDS
        for card in prices.workload.cards
    }
    return dict(sorted(costs.items(), key=lambda pair: pair[1]))


def _backbones(prices: Prices, seconds: float) -> tuple[tuple[str, ...], float]:
    """Return the backbones to probe, the cheapest first, and what they cost."""
    costs = _by_cost(prices)
    order = [*list(costs)[:1], *_ranked(prices.workload.cards)]
    chosen: dict[str, float] = {}
    for name in order:
        fits = sum(chosen.values()) + costs[name] <= seconds
        if name not in chosen and (fits or not chosen):
            chosen[name] = costs[name]
    return tuple(name for name in costs if name in chosen), sum(chosen.values(), 0.0)


def _fit_seconds(prices: Prices, reference: Sequence[Config]) -> float:
    """Return what one fit of the best form of the reference takes; 0 if none is."""
    if not reference:
        return 0.0
    return prices.refit_seconds(reference[0])


def _splits(situation: Situation, fit_seconds: float, dear_time: float) -> Splits:
    """Return folds and repeats such that several references could be compared.

    Four folds train on three quarters of the examples; three are enough where the
    choice is between a few coarse things; five need time to spare.
    """
    room = dear_time / (SLACK * fit_seconds) if fit_seconds else math.inf
    folds = 3 if room < 4 * 3 else 4 if room < 5 * 60 else 5
    folds = min(folds, situation.most_folds)
    is_repeated = situation.workload.examples < PREDICTIONS_WANTED  # `choose_folds`
    is_repeated &= fit_seconds > 0 and room >= 2 * folds * 150
    return Splits(
        folds=folds,
        repeats=3 if dear_time < HASTY_SECONDS else REPEATS,
        dear_repeats=2 if is_repeated else 1,
    )


def _dear_seconds(costs: Sequence[float], dear_time: float) -> float:
    """Return the most that one dear trial may take.

    Enough for the best form of the reference of which several fit; else of which one
    does; else as much anyway, for a forecast may be wrong. More if there is much time.

    Args:
        costs: Of the forms of the reference, the best first.
        dear_time: For all dear trials.
    """
    modest = dear_time / (MODEST_TRIALS + dear_time / MORE_SECONDS)
    for share in (SEVERAL_SHARE, BOLD_SHARE):
        fitting = [SLACK * cost for cost in costs if SLACK * cost <= share * dear_time]
        if fitting:
            return max(modest, fitting[0])
    return BOLD_SHARE * dear_time

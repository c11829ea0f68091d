"""A study, made ready: all its parts, checked before the first trial."""

import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, Final

from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.automl import ahead
from fewshot_automl.automl.audited import Audited
from fewshot_automl.automl.available import available_backbones
from fewshot_automl.automl.listener import Listener
from fewshot_automl.automl.past import note_space, prior_in_words, settled_prior
from fewshot_automl.automl.settings import Settings
from fewshot_automl.errors import UserError
from fewshot_automl.evaluation.folds import Folds, choose_folds
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.ledger import Ledger
from fewshot_automl.oracle import Aims
from fewshot_automl.places import cache_folder
from fewshot_automl.policy import (
    CostModel,
    Leader,
    Plan,
    Situation,
    Splits,
    draw_plan,
    options,
)
from fewshot_automl.policy.plan import SCORING_SHARE
from fewshot_automl.space import Space
from fewshot_automl.study import SECONDS_USED, Budget
from fewshot_automl.training.placement import Placement, choose_placement
from fewshot_automl.trial import (
    Problem,
    TrialContext,
    Workload,
    build_bare,
    exact_measures,
    space_for,
)

PLAN_NOTE: Final = "plan"
"""The ledger's note that holds the plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything that a study needs."""

    audited: Audited
    settings: Settings
    folder: Path
    space: Space
    plan: Plan
    context: TrialContext
    costs: CostModel
    leader: Leader
    """Who leads; knows aims and prior too."""
    ledger: Ledger
    budget: Budget
    listener: Listener
    libraries: Thread
    """Imports those of the first trials."""
    facts: dict[str, Any]
    """What the summary says before anything was tried."""

    @property
    def members(self) -> int:
        """Return most models averaged, as asked now: the plan may be an older one."""
        return self.settings.members or self.plan.members

    @property
    def tested(self) -> int:
        """Return how many test examples there are."""
        return 0 if self.audited.test is None else len(self.audited.test)


def prepare(
    audited: Audited,
    settings: Settings,
    folder: Path,
    study: str,
    listener: Listener,
    began: float,
) -> Prepared:
    """Return a study that is ready to go.

    Args:
        audited: What is to be learnt.
        settings: What was asked for.
        folder: The study's.
        study: Its name in the ledger's storage.
        listener: Told of backbones, placement and plan.
        began: `time.monotonic()` from which the budget counts.

    Raises:
        UserError: If something asked for cannot be had.
    """
    seconds, task = settings.budget_seconds, audited.dataset.task
    available = available_backbones(
        task.modality,
        settings.backbones,
        listener,
        None if seconds is None else began + seconds,
        settings.search_limits,
        is_needed=any(METHODS[m].needs_backbone for m in settings.methods or METHODS),
    )
    libraries = ahead.start(
        *(partial(build_bare, card) for card in available.at_hand[:1]),
        ahead.importing(ahead.TERMS),
    )
    placement = _one_place(settings.device)
    listener.say(str(placement))
    space = space_for(audited.profile, available.at_hand, settings.methods)
    for dimension, values in settings.narrow.items():
        space = space.narrow(dimension, values)
    ledger = Ledger.open(
        settings.storage or folder, study=study, space=space, folder=folder
    )
    note_space(ledger, task.modality, space)
    interrupted = ledger.interrupt_running()
    if known := len(ledger.history()):
        listener.say(
            f"Resuming: {known} trials in the ledger, {interrupted} of them broken off."
        )
    used = ledger.notes().get(SECONDS_USED, 0.0)
    budget = Budget(
        started=began,
        seconds=seconds,
        trials=settings.trials,
        used_before=float(used) if isinstance(used, int | float) else 0.0,
    )
    searched = options(space, "backbone")
    workload = Workload.measured(
        tuple(card for card in available.at_hand if card.id in searched),
        audited.labelled.inputs,
        placement.device,
    )
    tested = 0 if audited.test is None else len(audited.test)
    situation = Situation(
        costs=CostModel(arithmetic=workload),
        space=space,
        methods=tuple(METHODS.values()),
        budget_seconds=seconds,
        trials=settings.trials,
        spent_seconds=budget.used(time.monotonic()),
        tested=tested,
        members=settings.members,
        most_folds=len(
            _folds(audited, Splits(folds=5, repeats=1), settings.seed).first
        ),
    )
    plan = settled_plan(ledger, situation)
    listener.say(f"Plan: {plan}.")
    if seconds is not None and situation.scoring_seconds > SCORING_SHARE * seconds:
        listener.say(
            f"Scoring the {tested} test examples is expected to take "
            f"{situation.scoring_seconds:.0f} s, more than {SCORING_SHARE:.0%} of the "
            "budget. The search keeps the rest, so the result may be late."
        )
    prior = settled_prior(settings.prior, folder).about(task.modality)
    prior_words = prior_in_words(settings.prior, prior)
    listener.say(f"Prior: {prior_words}.")
    folds = _folds(audited, plan.splits, settings.seed)
    problem = Problem(
        task=task,
        inputs=audited.labelled.inputs,
        targets=audited.labelled.targets,
        folds=folds,
        keys=audited.keys,
        training_repeats=min(plan.splits.training_repeats, len(folds.repeats)),
    )
    context = TrialContext(
        problem=problem,
        cards=available.at_hand,
        store=FeatureStore(cache_folder() / "features"),
        placement=placement,
        seed=settings.seed,
    )
    aims = Aims(objectives=settings.search_objectives, limits=settings.search_limits)
    exact = exact_measures(
        available.at_hand, problem, frozenset(aims.names), has_lora="rank" in space
    )
    return Prepared(
        audited=audited,
        settings=settings,
        folder=folder,
        space=space,
        plan=plan,
        context=context,
        costs=CostModel(
            # The cards are also those of trials before the space was narrowed.
            arithmetic=replace(workload, cards=available.at_hand),
            cheap_folds=len(folds),
            training_folds=problem.training_repeats * len(folds.first),
        ),
        leader=Leader(
            space=space,
            seed=settings.seed,
            aims=replace(aims, exact=exact),
            prior=prior,
            is_at_hand=context.is_at_hand,
        ),
        ledger=ledger,
        budget=budget,
        listener=listener,
        libraries=libraries,
        facts={
            **audited.facts,
            "placement": str(placement),
            "plan": str(plan),
            "prior": prior_words,
            "skipped": [card.id for card in available.missing],
        },
    )


def settled_plan(ledger: Ledger, situation: Situation) -> Plan:
    """Return the plan a study has, or draw one and note it in the ledger.

    A study keeps its plan. It is drawn anew, with the same splits, when the budget is
    another or a planned backbone is no longer at hand; new backbones do not change it.
    """
    noted = ledger.notes().get(PLAN_NOTE)
    if isinstance(noted, dict):
        plan = Plan.from_json(noted)
        at_hand = set(situation.costs.arithmetic.backbones)
        trials = situation.trials if situation.budget_seconds is None else None
        is_same = (situation.budget_seconds, trials) == (
            plan.budget_seconds,
            plan.trials,
        )
        if is_same and at_hand.issuperset(plan.backbones):
            return plan
        situation = replace(situation, splits=plan.splits)
    plan = draw_plan(situation)
    ledger.note(PLAN_NOTE, plan.to_json())
    return plan


def _one_place(device: str | None) -> Placement:
    placement = choose_placement(device)
    if placement.processes > 1:
        raise UserError(
            f"A study must run in one process, got {placement.processes} by "
            "accelerate launch. Start it without; give it --executor loky "
            "--workers N for trials side by side."
        )
    return placement


def _folds(audited: Audited, splits: Splits, seed: int) -> Folds:
    return choose_folds(
        audited.dataset.task.rules.strata(audited.labelled.targets),
        groups=audited.keys,
        seed=seed,
        max_folds=splits.folds,
        max_repeats=splits.repeats,
    )

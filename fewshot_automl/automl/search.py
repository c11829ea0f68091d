"""A study, made ready and run: the plan, its parts, and the loop they go into."""

import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Any, Final

from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.automl import ahead
from fewshot_automl.automl.audited import Audited
from fewshot_automl.automl.available import Available, available_backbones
from fewshot_automl.automl.finish import Finish
from fewshot_automl.automl.listener import Listener
from fewshot_automl.automl.past import note_space, prior_in_words, settled_prior
from fewshot_automl.automl.result import Result
from fewshot_automl.automl.settings import Settings
from fewshot_automl.backbones.card import Card
from fewshot_automl.errors import UserError
from fewshot_automl.evaluation.folds import Folds, choose_folds
from fewshot_automl.executors import executor_named
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.ledger import Ledger
from fewshot_automl.oracle import Aims, Prior, oracle_named
from fewshot_automl.outcome import History
from fewshot_automl.places import cache_folder
from fewshot_automl.policy import (
    Allowed,
    CostModel,
    Leader,
    Opening,
    Plan,
    Reserve,
    Situation,
    Splits,
    draw_plan,
)
from fewshot_automl.policy.plan import SCORING_SHARE
from fewshot_automl.space import Choice, Config, Space
from fewshot_automl.study import SECONDS_USED, Budget, run
from fewshot_automl.training.placement import Placement, choose_placement, shared_gpus
from fewshot_automl.trial import (
    Problem,
    TrialContext,
    Workload,
    build_bare,
    evaluate,
    exact_measures,
    space_for,
)

PLAN_NOTE: Final = "plan"
"""The ledger's note that holds the plan."""
HOPEFUL_SHARE: Final = 0.8
"""Of what is expected; a trial with less time than that is not started."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Everything that a study needs, made and checked before its first trial."""

    audited: Audited
    settings: Settings
    folder: Path
    available: Available
    space: Space
    plan: Plan
    context: TrialContext
    costs: CostModel
    prior: Prior
    ledger: Ledger
    budget: Budget
    listener: Listener
    libraries: Thread
    """Imports those of the first trials."""
    _said: set[str] = field(default_factory=set, repr=False, compare=False)

    def go(self) -> Result:
        """Search, then finish with what was found."""
        settings, aims = self.settings, self._aims()
        members = settings.members or self.plan.members  # the plan may be an older one
        leader = Leader(
            space=self.space,
            seed=settings.seed,
            aims=aims,
            prior=self.prior,
            is_at_hand=self.context.is_at_hand,
        )
        test = self.audited.test
        reserve = Reserve(
            costs=self.costs,
            leader=leader,
            budget_seconds=settings.budget_seconds,
            members=members,
            tested=0 if test is None else len(test),
        )

        def reserved(history: History) -> float:
            self._say_late(reserve.late_seconds(history))
            return reserve(history)

        def seconds_left(history: History) -> float:
            return self.budget.remaining(time.monotonic()) - reserved(history)

        allowed = Allowed(
            space=self.space,
            costs=self.costs,
            aims=aims,
            trial_seconds=self.plan.trial_seconds,
            seconds_left=seconds_left,
        )
        executor = executor_named(
            settings.executor, settings.workers, gpus=shared_gpus(settings.device)
        )
        self.libraries.join()  # lest the first trials be timed with it
        ahead.start(ahead.importing(ahead.ORACLE))
        try:
            end = run(
                self.space,
                partial(evaluate, self.context),
                oracle=oracle_named(settings.oracle, prior=self.prior, aims=aims),
                ledger=self.ledger,
                executor=executor,
                budget=self.budget,
                opening=Opening(
                    space=self.space,
                    methods=tuple(METHODS.values()),
                    costs=self.costs,
                    plan=self.plan,
                    keeps=allowed.within_limits,
                    prior=self.prior,
                    seed=settings.seed,
                ),
                allows=allowed,
                reserve=reserved,
                expected_seconds=self._least_seconds,
                thinks_ahead=self._thinks_ahead,
                seed=settings.seed,
                on_event=self.listener.trial,
            )
        finally:
            executor.shutdown()
        if end.ending == "exhausted" and self._has_more(end.history, allowed):
            end = replace(end, ending="seconds")
        finish = Finish(
            audited=self.audited,
            context=self.context,
            ledger=self.ledger,
            costs=self.costs,
            leader=leader,
            aims=aims,
            budget=self.budget,
            members=members,
            folder=self.folder,
            listener=self.listener,
            facts=self._facts(),
        )
        return finish(end)

    def _aims(self) -> Aims:
        """Return what the oracle is after; what Configs fix it need not learn."""
        settings = self.settings
        aims = Aims(
            objectives=settings.search_objectives, limits=settings.search_limits
        )
        exact = exact_measures(
            self.available.at_hand,
            self.context.problem,
            frozenset(aims.names),
            has_lora="rank" in self.space,
        )
        return replace(aims, exact=exact)

    @property
    def _thinks_ahead(self) -> bool:
        """Return whether trials leave this process free for the oracle."""
        return self.settings.executor != "in_process"

    def _least_seconds(self, config: Config, history: History) -> float:
        """Return the seconds without which a trial is not worth starting.

        Less than what is expected: a trial that runs out of time costs only time that
        nothing else could have used.
        """
        return HOPEFUL_SHARE * self.costs.after(history).seconds(config)

    def _has_more(self, history: History, allowed: Allowed) -> bool:
        """Return whether there is something left to try that takes too long now."""
        counting = [pair for pair in history if pair[1].status != "stopped"]
        keeps = allowed.within_limits(counting)
        left = oracle_named("sobol").suggest(self.space, counting, 1, 0, keeps)
        return bool(left)

    def _say_late(self, seconds: float) -> None:
        if seconds and "late" not in self._said:
            self._said.add("late")
            assert self.audited.test is not None
            self.listener.say(
                f"Scoring the {len(self.audited.test)} test examples is expected to "
                f"take {seconds:.0f} s, more than {SCORING_SHARE:.0%} of the budget. "
                "The search keeps the rest, so the result may be late."
            )

    def _facts(self) -> dict[str, Any]:
        return {
            **self.audited.facts,
            "placement": str(self.context.placement),
            "plan": str(self.plan),
            "prior": prior_in_words(self.settings.prior, self.prior),
            "skipped": [card.id for card in self.available.missing],
        }


def prepare(
    audited: Audited,
    settings: Settings,
    folder: Path,
    study: str,
    listener: Listener,
    began: float,
) -> Search:
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
    budget_seconds = settings.budget_seconds
    task = audited.dataset.task
    available = available_backbones(
        task.modality,
        settings.backbones,
        listener,
        None if budget_seconds is None else began + budget_seconds,
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
        seconds=budget_seconds,
        trials=settings.trials,
        used_before=float(used) if isinstance(used, int | float) else 0.0,
    )
    workload = Workload.measured(
        _searched(space, available), audited.labelled.inputs, placement.device
    )
    plan = settled_plan(
        ledger,
        Situation(
            costs=CostModel(arithmetic=workload),
            space=space,
            methods=tuple(METHODS.values()),
            budget_seconds=budget_seconds,
            trials=settings.trials,
            spent_seconds=budget.used(time.monotonic()),
            tested=0 if audited.test is None else len(audited.test),
            members=settings.members,
            most_folds=len(_folds(audited, Splits(folds=5), settings.seed, 1).first),
        ),
    )
    listener.say(f"Plan: {plan}.")
    prior = settled_prior(settings.prior, folder).about(task.modality)
    listener.say(f"Prior: {prior_in_words(settings.prior, prior)}.")
    folds = _folds(audited, plan.splits, settings.seed)
    problem = Problem(
        task=task,
        inputs=audited.labelled.inputs,
        targets=audited.labelled.targets,
        folds=folds,
        keys=audited.keys,
        training_repeats=min(plan.splits.training_repeats, len(folds.repeats)),
    )
    return Search(
        audited=audited,
        settings=settings,
        folder=folder,
        available=available,
        space=space,
        plan=plan,
        context=TrialContext(
            problem=problem,
            cards=available.at_hand,
            store=FeatureStore(cache_folder() / "features"),
            placement=placement,
            seed=settings.seed,
        ),
        costs=CostModel(
            # The cards are also those of trials before the space was narrowed.
            arithmetic=replace(workload, cards=available.at_hand),
            cheap_folds=len(folds),
            training_folds=problem.training_repeats * len(folds.first),
        ),
        prior=prior,
        ledger=ledger,
        budget=budget,
        listener=listener,
        libraries=libraries,
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
        asked = situation.budget_seconds, trials
        is_same = asked == (plan.budget_seconds, plan.trials)
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


def _searched(space: Space, available: Available) -> tuple[Card, ...]:
    """Return the cards of the backbones that the space still has."""
    if "backbone" not in space:
        return ()
    dimension = space["backbone"]
    assert isinstance(dimension, Choice)
    return tuple(card for card in available.at_hand if card.id in dimension.options)


def _folds(
    audited: Audited, splits: Splits, seed: int, repeats: int | None = None
) -> Folds:
    return choose_folds(
        audited.dataset.task.rules.strata(audited.labelled.targets),
        groups=audited.keys,
        seed=seed,
        max_folds=splits.folds,
        max_repeats=repeats or splits.repeats,
    )

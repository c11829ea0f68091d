"""A study, made ready and run: the plan, its parts, and the loop they go into."""

import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.automl.finish import finish
from fewshot_automl.automl.fitting import is_at_hand
from fewshot_automl.automl.leaders import foremost, unstopped
from fewshot_automl.automl.limits import broken_by
from fewshot_automl.automl.listener import Listener
from fewshot_automl.automl.opening import Opening
from fewshot_automl.automl.pantry import Pantry, stock
from fewshot_automl.automl.past import note_space, settled_prior, told
from fewshot_automl.automl.plan import (
    PLAN_NOTE,
    SCORING_SHARE,
    SLACK,
    Plan,
    Situation,
    Splits,
    draw_plan,
    saving_seconds,
)
from fewshot_automl.automl.posed import Posed
from fewshot_automl.automl.result import Result
from fewshot_automl.automl.settings import Settings
from fewshot_automl.automl.thrift import Thrifty
from fewshot_automl.backbones.card import Card
from fewshot_automl.errors import UserError
from fewshot_automl.evaluation.folds import Folds, choose_folds
from fewshot_automl.executors import executor_named
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.ledger import Ledger
from fewshot_automl.oracle.advice import Adviser
from fewshot_automl.oracle.goals import Aims
from fewshot_automl.oracle.prior import Prior
from fewshot_automl.oracle.table import oracle_named
from fewshot_automl.oracle.transfer import TransferAdviser
from fewshot_automl.outcome import History, Outcome
from fewshot_automl.places import cache_folder
from fewshot_automl.space import Choice, Config, Space
from fewshot_automl.study import SECONDS_USED, Budget, run
from fewshot_automl.training.placement import Placement, choose_placement, shared_gpus
from fewshot_automl.trial.design import reference_ladder, space_for
from fewshot_automl.trial.evaluate import Evaluate
from fewshot_automl.trial.forecast import Forecast, matrix_product_rate
from fewshot_automl.trial.foretold import foretold
from fewshot_automl.trial.workbench import Problem, Workbench
from fewshot_automl.trial.workload import Workload, mean_characters

HOPEFUL_SHARE: Final = 0.8
"""Of a forecast; a trial with less time than that is not started."""
MOST_FINAL_SHARE: Final = 0.2
"""Of the budget, that fits of more members than one may take."""
BATCH: Final = 32
"""Examples in a batch whose products are measured."""
LONG: Final = 64
"""Tokens beyond which a product of more rows is no faster, only longer."""
PATCHES: Final = 196
"""Tokens of an image in such a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Everything that a study needs, made and checked before its first trial."""

    posed: Posed
    settings: Settings
    folder: Path
    pantry: Pantry
    space: Space
    plan: Plan
    workbench: Workbench
    forecast: Forecast
    prior: Prior
    ledger: Ledger
    budget: Budget
    listener: Listener
    _said: set[str] = field(default_factory=set, repr=False, compare=False)

    def go(self) -> Result:
        """Search, then finish with what was found."""
        executor = executor_named(
            self.settings.executor,
            self.settings.workers,
            gpus=shared_gpus(self.settings.device),
        )
        aims = self._aims()
        thrifty = Thrifty(
            oracle=oracle_named(self.settings.oracle, self._advisers, aims),
            forecast=self.forecast,
            dear_seconds=self.plan.dear_seconds,
            seconds_left=self._seconds_left,
            limits=self.settings.search_limits,
        )
        try:
            end = run(
                self.space,
                Evaluate(workbench=self.workbench),
                oracle=thrifty,
                ledger=self.ledger,
                executor=executor,
                budget=self.budget,
                opening=Opening(
                    space=self.space,
                    forecast=self.forecast,
                    plan=self.plan,
                    seed=self.settings.seed,
                    limits=self.settings.search_limits,
                    keeps=aims.keeps,
                    prior=self.prior,
                ),
                reserve=self._final_seconds,
                forecast=self._least_seconds,
                seed=self.settings.seed,
                on_event=self.listener.trial,
            )
            if end.ending == "exhausted" and thrifty.leaves_out(
                self.space, unstopped(end.history)
            ):
                end = replace(end, ending="seconds")
        finally:
            executor.shutdown()
        return finish(
            end=end,
            workbench=self.workbench,
            space=self.space,
            forecast=self.forecast,
            columns=self.posed.dataset.columns,
            test=self.posed.test,
            origins=self.posed.labelled.origins,
            folder=self.folder,
            listener=self.listener,
            budget=self.budget,
            most_members=self._most_members,
            goals=self.settings.search_objectives,
            limits=self.settings.search_limits,
            advisers=self._advisers,
            facts=self._facts(),
        )

    def _is_allowed(self, outcome: Outcome) -> bool:
        return not broken_by(self.settings.search_limits, outcome)

    @property
    def _advisers(self) -> tuple[Adviser, ...]:
        """Return whom the oracle listens to."""
        past = (self.prior,) if self.prior.studies else ()
        return (TransferAdviser(), *past)

    def _aims(self) -> Aims:
        """Return what the oracle is after; what Configs fix it need not learn."""
        aims = Aims(goals=self.settings.search_objectives, limits=self.settings.search_limits)
        exact = foretold(
            self.pantry.at_hand,
            self.workbench.problem,
            frozenset(aims.names),
            has_lora="rank" in self.space,
        )
        return replace(aims, exact=exact)

    @property
    def _most_members(self) -> int:
        """Return what this run asks for; the plan may be that of an earlier one."""
        return self.settings.members or self.plan.members

    def _seconds_left(self, history: History) -> float:
        return self.budget.remaining(time.monotonic()) - self._final_seconds(history)

    def _least_seconds(self, config: Config, history: History) -> float:
        """Return the seconds without which a trial is not worth starting.

        Less than what is forecast: a trial that runs out of time costs only time
        that nothing else could have used.
        """
        return HOPEFUL_SHARE * self.forecast.after(history).trial_seconds(config)

    def _final_seconds(self, history: History) -> float:
        """Return the seconds that fitting, scoring and saving the model will take.

        Scoring claims no more than its share: rather a late result than no search.
        """
        budget = self.settings.budget_seconds
        if budget is None:
            return 0.0
        prices = self.forecast.after(history)
        leaders = foremost(
            [pair for pair in history if is_at_hand(self.workbench, pair[0])],
            self._is_allowed,
        )[: self._most_members]
        tested = 0 if self.posed.test is None else len(self.posed.test)
        scoring = [prices.scoring_seconds(config, tested) for config in leaders]
        most = SCORING_SHARE * budget
        if scoring and scoring[0] > most and "late" not in self._said:
            self._said.add("late")
            self.listener.say(
                f"Scoring the {tested} test examples is forecast to take "
                f"{scoring[0]:.0f} s, more than {SCORING_SHARE:.0%} of the budget. The "
                "search keeps the rest, so the result may be late."
            )
        costs = [
            prices.refit_seconds(config) + min(seconds, most / SLACK)
            for config, seconds in zip(leaders, scoring, strict=True)
        ]
        fitting = max([*costs, 0.0])
        fitting = max(fitting, min(sum(costs), MOST_FINAL_SHARE * budget))
        return saving_seconds(prices, budget) + SLACK * fitting

    def _facts(self) -> dict[str, Any]:
        return {
            **self.posed.facts,
            "placement": str(self.workbench.placement),
            "plan": str(self.plan),
            "prior": told(self.settings.prior, self.prior),
            "skipped": [card.id for card in self.pantry.missing],
        }


def prepare(
    posed: Posed,
    settings: Settings,
    folder: Path,
    study: str,
    listener: Listener,
    began: float,
) -> Search:
    """Return a study that is ready to go.

    Args:
        posed: What is to be learnt.
        settings: What was asked for.
        folder: The study's.
        study: Its name in the ledger's storage.
        listener: Told of backbones, placement and plan.
        began: `time.monotonic()` from which the budget counts.

    Raises:
        UserError: If something asked for cannot be had.
    """
    budget_seconds = settings.budget_seconds
    deadline = None if budget_seconds is None else began + budget_seconds
    modality = posed.dataset.task.modality
    pantry = stock(
        modality,
        settings.backbones,
        listener,
        deadline,
        settings.search_limits,
        is_needed=any(METHODS[m].needs_backbone for m in settings.methods or METHODS),
    )
    placement = _one_place(settings.device)
    listener.say(str(placement))
    space = space_for(posed.profile, pantry.at_hand, settings.methods)
    for dimension, values in settings.narrow.items():
        space = space.narrow(dimension, values)
    ledger = Ledger.open(settings.storage or folder, study=study, space=space)
    note_space(ledger, modality, space)
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
    workload = _measured(posed, _searched(space, pantry), placement)
    plan = settled_plan(
        ledger,
        Situation(
            workload=workload,
            reference=tuple(reference_ladder(space, len(posed.labelled))),
            budget_seconds=budget_seconds,
            trials=settings.trials,
            spent_seconds=budget.used(time.monotonic()),
            tested=0 if posed.test is None else len(posed.test),
            members=settings.members,
            most_folds=len(_folds(posed, Splits(folds=5), settings.seed, 1).first),
        ),
    )
    listener.say(f"Plan: {plan}.")
    prior = settled_prior(settings.prior, folder).about(modality)
    listener.say(f"Prior: {told(settings.prior, prior)}.")
    folds = _folds(posed, plan.splits, settings.seed)
    problem = Problem(
        task=posed.dataset.task,
        inputs=posed.labelled.inputs,
        labels=posed.labelled.labels,
        folds=folds,
        keys=posed.keys,
        dear_repeats=min(plan.splits.dear_repeats, len(folds.repeats)),
    )
    dear_fits = problem.dear_repeats * len(folds.first)
    return Search(
        posed=posed,
        settings=settings,
        folder=folder,
        pantry=pantry,
        space=space,
        plan=plan,
        workbench=Workbench(
            problem=problem,
            cards=pantry.at_hand,
            store=FeatureStore(cache_folder() / "features"),
            placement=placement,
            folder=folder,
            seed=settings.seed,
        ),
        forecast=Forecast(
            workload=replace(
                workload,
                cards=pantry.at_hand,  # also those of trials before it was narrowed
                quick_fits=len(folds),
                dear_fits=dear_fits,
            )
        ),
        prior=prior,
        ledger=ledger,
        budget=budget,
        listener=listener,
    )


def settled_plan(ledger: Ledger, situation: Situation) -> Plan:
    """Return the plan a study has, or draw one and note it in the ledger.

    A study keeps its plan. It is drawn anew, with the same splits, when the budget is
    another or a planned backbone is no longer at hand; new backbones do not change it.
    """
    noted = ledger.notes().get(PLAN_NOTE)
    if isinstance(noted, dict):
        plan = Plan.from_json(noted)
        at_hand = {card.id for card in situation.workload.cards}
        trials = situation.trials if situation.budget_seconds is None else None
        asked = situation.budget_seconds, trials
        if asked == (plan.budget_seconds, plan.trials) and at_hand.issuperset(
            plan.backbones
        ):
            return plan
        situation = replace(situation, splits=plan.splits)
    elif ledger.history():  # of a version that made no plans
        situation = replace(situation, splits=Splits())
    plan = draw_plan(situation)
    ledger.note(PLAN_NOTE, plan.to_json())
    return plan


def _one_place(device: str | None) -> Placement:
    placement = choose_placement(device)
    if placement.processes > 1:
        raise UserError(
            f"A study must run in one process, got {placement.processes} by "
            "accelerate launch. Start it without; give it --executor processes "
            "--workers N for trials side by side."
        )
    return placement


def _searched(space: Space, pantry: Pantry) -> tuple[Card, ...]:
    """Return the cards of the backbones that the space still has."""
    if "backbone" not in space:
        return ()
    dimension = space["backbone"]
    assert isinstance(dimension, Choice)
    return tuple(card for card in pantry.at_hand if card.id in dimension.options)


def _measured(posed: Posed, cards: tuple[Card, ...], placement: Placement) -> Workload:
    """Return the workload, after measuring this machine for some milliseconds."""
    characters = mean_characters(posed.labelled.inputs)
    workload = Workload(
        cards=cards, examples=len(posed.labelled), characters=characters, rate=1.0
    )
    width = min((card.width for card in cards), default=384)
    rows = BATCH * min(round(workload.tokens) or PATCHES, LONG)
    rate = matrix_product_rate(placement.device, rows=rows, width=width)
    return replace(workload, rate=rate)


def _folds(
    posed: Posed, splits: Splits, seed: int, repeats: int | None = None
) -> Folds:
    return choose_folds(
        posed.labelled.labels,
        groups=posed.keys,
        seed=seed,
        max_folds=splits.folds,
        max_repeats=repeats or splits.repeats,
    )

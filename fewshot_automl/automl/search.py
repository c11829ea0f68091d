"""A study: made ready, with all its parts checked before the first trial, and run."""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.frozen import FEWEST_UNLABELLED
from fewshot_automl.adaptation.method import Method, Profile
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.automl.available import available_backbones, texts_cut
from fewshot_automl.automl.placing import executor_of, place, placement_of
from fewshot_automl.automl.record import (
    PRIOR_FILE,
    chosen_prior,
    fingerprint,
    ledger_of,
    note_space,
    prior_in_words,
    settings_of,
    write_record,
)
from fewshot_automl.automl.result import Listener
from fewshot_automl.automl.settings import NONE, Settings
from fewshot_automl.automl.timeline import Timeline
from fewshot_automl.data import Columns, Dataset, Examples, Source, read_like
from fewshot_automl.data.audit import audit
from fewshot_automl.errors import UserError
from fewshot_automl.evaluation.folds import Folds, choose_folds
from fewshot_automl.executors import Executor, InProcess, Ranks
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.group import is_one_of_several
from fewshot_automl.hardware import Device
from fewshot_automl.ledger import Ledger
from fewshot_automl.modalities import Input, content_hashes, modality_named
from fewshot_automl.oracle import oracle_named
from fewshot_automl.outcome import History
from fewshot_automl.places import cache_folder
from fewshot_automl.policy import (
    Allowed,
    CostModel,
    Leader,
    Opening,
    PlacementPlan,
    Plan,
    Situation,
    Splits,
    draw_plan,
    options,
)
from fewshot_automl.policy.plan import SCORING_SHARE
from fewshot_automl.space import Config, Space
from fewshot_automl.study import SECONDS_USED, Budget, Event, Study, StudyEnd, run
from fewshot_automl.tasks.costs import place_of
from fewshot_automl.training.placement import Placement, choose_placement
from fewshot_automl.trial import (
    Problem,
    TrialContext,
    Workload,
    build_bare,
    evaluate,
    exact_measures,
    scored,
    space_for,
    together,
)

MOST_UNLABELLED: Final = 1_000
"""Examples without a label that are read, drawn at random."""
UNLABELLED_SHARE: Final = 0.1
"""Of the budget, that the slowest backbone may take to encode them."""
MARK_NOTE: Final = "fingerprint"
"""The ledger's note that names the data; drivers of one study must have the same."""
PLAN_NOTE: Final = "plan"
"""The ledger's note that holds the plan."""
LATE_SHARE, LATE_SECONDS = 0.1, 15.0
"""How late a fit may end, whichever is more, to have learnt anything at all."""
STARTS: Final = 2.5
"""Times what a fit has taken until it plans, from which budget on a first network is
imported before the plan, so that no trial pays for it. That takes as long again; where
other programs slow down both, a model without a network comes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What the study of an older state of the labels hands on, besides its Configs."""

    outputs: Mapping[Config, Mapping[str, np.ndarray]]
    """Of trials that are not made again: predictions of models that had not learnt from
    the example, for each repeat, by the example's content hash."""
    fitted: frozenset[Config] = frozenset()
    """Members that stay as they are, fitted to the older labels."""
    luck: float = 0.0
    """By how much the score of the best is too good, for they were chosen by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """Everything that a study needs."""

    columns: Columns
    origins: tuple[str, ...]
    """Where each labelled example stands."""
    test: Examples | None
    """Labelled examples that the model is scored on at the end."""
    settings: Settings
    folder: Path
    space: Space
    plan: Plan
    where: PlacementPlan
    placed_on: Callable[[Sequence[Device]], PlacementPlan]
    """Where it would run on other devices."""
    context: TrialContext
    costs: CostModel
    leader: Leader
    """Who leads; knows aims and prior too."""
    ledger: Ledger
    budget: Budget
    listener: Listener
    timeline: Timeline
    facts: dict[str, Any]
    """What the summary says before anything was tried."""
    follows: Path | None = None
    """The finished study whose fitted members may be members of this one's model."""
    begins_with: tuple[Config, ...] = ()
    """What is tried first."""
    carried: Carried | None = None
    """Of an update: what is not made again."""
    ranks: Ranks | None = None
    """The processes that share trainings, of all trials or the final fit, if any do."""

    @property
    def members(self) -> int:
        """Return most models averaged, as asked now: the plan may be an older one."""
        return self.settings.members or self.plan.members

    @property
    def tested(self) -> int:
        """Return how many test examples there are."""
        return 0 if self.test is None else len(self.test)


def prepare(
    dataset: Dataset,
    data: Source,
    test: Source | None,
    settings: Settings,
    folder: Path,
    listener: Listener,
    timeline: Timeline,
    follows: Path | None = None,
    begins_with: tuple[Config, ...] = (),
    *,
    searches: bool = True,
    carried: Carried | None = None,
) -> Prepared:
    """Return a study that is ready to go, its folder begun or found to be the same.

    The budget counts from the start of the time line. A new study that `follows` one of
    the same examples has its plan and its trials, scored by the new task; of
    other examples, only the plan, and it `begins_with` some Configs.
    """
    began = timeline.started
    placement = _checked_place(settings)
    prior = chosen_prior(settings.prior, folder)
    seconds, task, aims = settings.budget_seconds, dataset.task, settings.aims
    labelled, more, tested, facts = _audited(dataset, data, test, settings, listener)
    timeline.mark("audit")
    for name in settings.min_recall:
        place_of(name, task.names)  # a typo is told before anything is tried
    inputs, targets = labelled.inputs, labelled.targets
    keys, more_keys = content_hashes(inputs), content_hashes(more)
    mark = fingerprint((*keys, *more_keys), targets, task, settings.seed)
    driver = write_record(folder, settings, data, test, mark)
    rows = [METHODS[name] for name in settings.methods or METHODS]
    others = [row for row in rows if row.suits(task) and not row.needs_backbone]
    at_hand, missing = available_backbones(
        task.modality,
        settings.backbones,
        listener.say,
        None if seconds is None else began + seconds,
        aims.limits if searches else (),
        is_needed=any(row.needs_backbone for row in rows),
        others=[row.name for row in others if any(each.learns for each in others)],
    )
    timeline.mark("weights")
    background = ThreadPoolExecutor(1)
    if searches and (seconds is None or STARTS * timeline.seconds <= seconds):
        background.map(build_bare, at_hand[:1])
    background.submit(import_module, "sklearn.feature_extraction.text")
    listener.say(f"{placement} Planning the search." if searches else str(placement))
    cut, cut_by = texts_cut(at_hand, labelled)
    profile = Profile.of(task, targets)
    profile = replace(profile, cut_by=cut_by, unlabelled=len(more))
    space = space_for(profile, at_hand, settings.methods)
    for line in [finding.line() for finding in cut if "backbone" in space]:
        listener.say(line)
        facts["findings"].append(line)
    if settings.describe and "class_names" not in space:
        listener.say("Described classes are not used: texts need words for all.")
    for dimension, values in settings.narrow.items():
        space = space.narrow(dimension, values)
    ledger = Ledger.open(
        settings.storage or folder,
        study=settings.study or driver,
        space=space,
        folder=folder,
        metric=task.metric,
        is_maximised=task.measured.direction == "maximize",
        driver=driver,
    )
    if ledger.settle(MARK_NOTE, mark) != mark:
        raise UserError(
            f"Study {settings.study!r} must be of the same data, got one of other "
            "examples, labels, metric or seed. Choose another --study."
        )
    note_space(ledger, task.modality, space)
    old = None
    if follows is not None and not ledger.history():
        old = ledger_of(follows, space)
        ledger.note(PLAN_NOTE, old.notes()[PLAN_NOTE])
        if not begins_with and carried is None:
            seconds_used = settings_of(follows).budget_seconds or 0.0
            ledger.note(SECONDS_USED, seconds_used, is_own=True)
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
    timeline.resumed(budget.used_before)

    def folds_of(splits: Splits) -> Folds:
        return choose_folds(
            task.rules.strata(targets),
            groups=keys,
            seed=settings.seed,
            max_folds=splits.folds,
            max_repeats=splits.repeats,
        )

    searched = options(space, "backbone")
    background.shutdown()  # it would slow down what is timed from here on
    workload = Workload.measured(
        tuple(card for card in at_hand if card.id in searched),
        inputs,
        placement,
        task.width,
    )
    if seconds is not None:  # those left out are no loss that others could pay for
        payable = workload.payable(UNLABELLED_SHARE * seconds)
        more = more[: max(payable, FEWEST_UNLABELLED)]
    workload = replace(workload, unlabelled=len(more))
    situation = Situation(
        costs=CostModel(arithmetic=workload),
        space=space,
        methods=_in_order(task.modality),
        budget_seconds=seconds,
        trials=settings.trials,
        spent_seconds=budget.used(time.monotonic()),
        tested=0 if tested is None else len(tested),
        members=settings.members,
        most_folds=len(folds_of(Splits(folds=5, repeats=1)).first),
    )
    plan = settled_plan(ledger, situation)
    if searches:
        listener.say(f"Plan: {plan}.")
    if (
        searches
        and seconds is not None
        and situation.scoring_seconds > SCORING_SHARE * seconds
    ):
        listener.say(
            f"Scoring the {situation.tested} test examples is expected to take "
            f"{situation.scoring_seconds:.0f} s, more than {SCORING_SHARE:.0%} of the "
            "budget. The search keeps the rest, so the result may be late."
        )
    if settings.prior not in (None, NONE):
        prior.write(folder / PRIOR_FILE)
    prior = prior.about(task.modality)
    prior_words = prior_in_words(settings.prior, prior)
    listener.say(f"Prior: {prior_words}.")
    folds = folds_of(plan.splits)
    problem = Problem(
        task=task,
        inputs=inputs,
        targets=targets,
        folds=folds,
        keys=keys,
        unlabelled=Encodings(inputs=more, encoder=None, keys=more_keys[: len(more)]),
        training_repeats=min(plan.splits.training_repeats, len(folds.repeats)),
    )
    if old is not None and not begins_with and carried is None:
        take_over(old, ledger, problem)
    if carried is not None:
        fitted = frozenset(_fitted_into(space, config) for config in carried.fitted)
        carried = replace(carried, fitted=fitted)
        if old is not None:
            carry_over(old, ledger, problem, carried)
    context = TrialContext(
        problem=problem,
        cards=at_hand,
        store=FeatureStore(cache_folder() / "features"),
        placement=placement,
        seed=settings.seed,
    )
    imports = timeline.of("start", "imports")
    placing = partial(place, settings, situation, plan, context, workload, imports)
    where = placing()
    if searches:
        listener.say(f"Placement: {where}")
    context.placement = placement = placement_of(where, placement)
    exact = exact_measures(
        at_hand,
        problem,
        frozenset(aims.names if searches else ()),  # counting them builds networks
        has_lora="rank" in space,
    )
    return Prepared(
        columns=dataset.columns,
        origins=labelled.origins,
        test=tested,
        settings=settings,
        folder=folder,
        space=space,
        plan=plan,
        where=where,
        placed_on=placing,
        context=context,
        costs=CostModel(
            # The cards are also those of trials before the space was narrowed.
            arithmetic=replace(workload, cards=at_hand),
            cheap_folds=len(folds),
            training_folds=problem.training_repeats * len(folds.first),
        ),
        leader=Leader(
            space=space,
            seed=settings.seed,
            aims=replace(aims, exact=exact),
            prior=prior,
            is_at_hand=context.is_at_hand,
            learns=lambda config: METHODS[config.text("method")].learns,
        ),
        ledger=ledger,
        budget=budget,
        listener=listener,
        timeline=timeline,
        follows=None if begins_with and not carried else follows,
        carried=carried,
        begins_with=tuple(dict.fromkeys(_fitted_into(space, c) for c in begins_with)),
        facts={
            **facts,
            "placement": f"{placement} {where}",
            "plan": str(plan),
            "prior": prior_words,
            # Bytes of weights in 32-bit floats; a few hubs hold them in half of that.
            "skipped": {card.id: 4 * card.parameters for card in missing},
            "asked": settings.command,
        },
    )


def _fitted_into(space: Space, config: Config) -> Config:
    """Return a Config of another study, with defaults for what only this one has."""
    known = {n: config[n] for n in config if n in space}
    return space.default(**{n: v for n, v in known.items() if space[n].contains(v)})


def take_over(old: Ledger, new: Ledger, problem: Problem) -> None:
    """Record trials of another study of the same folds, scored for this problem."""
    for config, outcome in old.history():
        if not new.space.contains(config):  # as a backbone over a new limit
            continue
        if outcome.is_done:
            outputs, seconds = old.outputs(config), outcome.cost_seconds
            new.add(config, scored(problem, outputs, outcome.measures, seconds))
        elif outcome.status == "failed":
            new.add(config, outcome)


def carry_over(old: Ledger, new: Ledger, problem: Problem, carried: Carried) -> None:
    """Record trials of a study of other labels, scored on what their models predict."""
    measures = {config: outcome.measures for config, outcome in old.history()}
    for config, known in carried.outputs.items():
        nothing = np.full_like(next(iter(known.values())), np.nan)
        rows = [known.get(key, nothing) for key in problem.keys]
        outputs = np.stack(rows, axis=1).astype(np.float32)
        outcome = scored(problem, outputs, measures[config], 0.0)
        new.add(_fitted_into(new.space, config), outcome)


def settled_plan(ledger: Ledger, situation: Situation) -> Plan:
    """Return the plan a study has, or draw one and note it in the ledger.

    A study keeps its plan. It is drawn again, with the same splits, when the budget is
    another or a planned backbone is no longer at hand; new backbones do not change it.
    """
    noted = ledger.notes().get(PLAN_NOTE)
    if noted is None:
        plan = draw_plan(situation)
        # Another driver that starts at the same time may have been faster.
        noted = ledger.settle(PLAN_NOTE, plan.to_json())
    if isinstance(noted, dict):
        plan = Plan.from_json(noted)
        at_hand = set(situation.costs.arithmetic.backbones)
        seconds = situation.budget_seconds
        budget = (seconds, situation.trials if seconds is None else None)
        is_same = budget == (plan.budget_seconds, plan.trials)
        if is_same and at_hand.issuperset(plan.backbones):
            return plan
        situation = replace(situation, splits=plan.splits)
    plan = draw_plan(situation)
    ledger.note(PLAN_NOTE, plan.to_json())
    return plan


def _in_order(modality: str) -> tuple[Method, ...]:
    """Return every method's row, those first that a modality is tuned by first."""
    first = modality_named(modality).first_trained
    rows = [METHODS[name] for name in first]
    return (*rows, *(row for row in METHODS.values() if row not in rows))


def _checked_place(settings: Settings) -> Placement:
    placement = choose_placement(settings.device)
    launched = placement.processes
    processes = launched if settings.processes is None else settings.processes
    is_apart = settings.runs_in in ("loky", "ray")
    if launched > 1 and (processes != launched or is_apart):
        raise UserError(
            f"A launcher's {launched} processes must run a study together. Leave out "
            "--executor, --processes and --workers, or start it without torchrun."
        )
    if settings.processes is None and launched == 1 and is_one_of_several():
        raise UserError(
            "accelerate launch was asked for several processes and started one, as it "
            "does with --cpu. Use torchrun --nproc_per_node N, or no launcher and "
            "--processes N."
        )
    return replace(placement, processes=processes)


def _audited(
    dataset: Dataset,
    data: Source,
    test: Source | None,
    settings: Settings,
    listener: Listener,
) -> tuple[Examples, tuple[Input, ...], Examples | None, dict[str, Any]]:
    for sentence in dataset.inferred:
        listener.say(sentence)
    task, columns, tested = dataset.task, dataset.columns, None
    if test is not None:
        tested = read_like(test, task, columns, columns.target)
    findings = audit(dataset, test=tested, strict=settings.is_strict)
    fatal = findings.fatal()
    for finding in findings.findings:
        if finding not in fatal:  # else the error says it
            listener.say(finding.line())
    findings.raise_if_fatal()
    labelled = findings.examples.labelled(task)
    others = findings.examples.unlabelled(task)
    chosen = np.random.default_rng(settings.seed).permutation(len(others))
    more = others.take(chosen[:MOST_UNLABELLED]).inputs
    if len(more) < FEWEST_UNLABELLED:
        more = ()
        if settings.unlabelled is not None:
            least = f"at least {FEWEST_UNLABELLED}, got {len(others)}"
            listener.say(f"Unlabelled examples are learnt from if there are {least}.")
    facts = {
        "data": str(data) if isinstance(data, str | Path) else type(data).__name__,
        "labelled": len(labelled),
        "unlabelled": len(others),
        **task.rules.facts(labelled.targets),
        "inferred": list(dataset.inferred),
        "findings": findings.lines(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return labelled, more, tested.labelled(task) if tested else None, facts


def chosen_from(ready: Prepared) -> StudyEnd:
    """Return the end of a study that chooses from another's trials and tries none."""
    ready.timeline.mark("planning")
    return StudyEnd(history=ready.ledger.history(), ending="chosen")


def search(ready: Prepared) -> StudyEnd:
    """Try Configs until the budget is spent, or nothing is left to try."""
    settings, costs, leader = ready.settings, ready.costs, ready.leader
    timeline, trains = ready.timeline, costs.arithmetic.trains
    allowed = Allowed(
        leader=leader,
        costs=costs,
        plan=ready.plan,
        remaining=lambda: ready.budget.remaining(time.monotonic()),
        members=ready.members,
        tested=ready.tested,
        late_seconds=max(LATE_SHARE * (settings.budget_seconds or 0.0), LATE_SECONDS),
    )
    modality = ready.context.problem.task.modality
    opening = Opening(methods=_in_order(modality), allowed=allowed)

    def first(history: History) -> Sequence[Config]:
        tried = {config for config, _ in history}
        left = [each for each in ready.begins_with if each not in tried]
        return left or opening(history)

    context, where = ready.context, ready.where
    sharing = ready.ranks if where.executor == "ranks" else None
    executor: Executor = sharing or executor_of(where, settings)
    if where.executor == "ray":
        context = context.portable()
        ready.listener.say(str(executor))
    # What the oracle needs is imported while rung 0 is tried; GPyTorch meets a
    # deprecation of torch there.
    warnings.filterwarnings("ignore", ".*torch.jit", FutureWarning)
    warnings.filterwarnings("ignore", ".*torch.jit", DeprecationWarning)
    if ready.plan.training_trials != 0:
        ThreadPoolExecutor(1).submit(import_module, "fewshot_automl.oracle.model")

    def on_event(event: Event) -> None:
        kind = "training" if trains(event.config) else "cheap"
        timeline.trial(event, f"{kind} trials")
        ready.listener.trial(event)

    timeline.mark("planning")
    work: Any = partial(evaluate, enough_seconds=ready.plan.trial_seconds)
    work = partial(together, work) if sharing else work
    study = Study(
        space=ready.space,
        evaluate=partial(work, context),
        oracle=oracle_named(settings.oracle, prior=leader.prior, aims=leader.aims),
        ledger=ready.ledger,
        executor=executor,
        budget=ready.budget,
        opening=first,
        sure=opening.sure,
        allows=allowed,
        reserve=allowed.reserve,
        expected_seconds=allowed.needed,
        thinks_ahead=not isinstance(executor, InProcess),
        seed=settings.seed,
        on_event=on_event,
    )
    try:
        end = run(study)
    finally:
        if not sharing:  # which also make the final fit
            executor.shutdown()
    if end.ending == "exhausted":
        # Is there something left that only takes too long now, or does not pay?
        counting = [pair for pair in end.history if pair[1].status != "stopped"]
        keeps = allowed.within_limits(counting)
        left = oracle_named("sobol").suggest(ready.space, counting, 1, 0, keeps)
        end = replace(end, ending="seconds") if left else end
    return end

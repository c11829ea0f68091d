"""Data and a budget in, a Result out: the two wings joined."""

import math
import shutil
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np

from fewshot_automl.adaptation.table import method
from fewshot_automl.automl.finish import SAVING_SECONDS, finish
from fewshot_automl.automl.listener import Listener, Silence
from fewshot_automl.automl.opening import Opening
from fewshot_automl.automl.pantry import Pantry, stock
from fewshot_automl.automl.record import fingerprint, read_record, write_record
from fewshot_automl.automl.result import Result
from fewshot_automl.automl.settings import Settings
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.data import Dataset, Examples, Source, read, read_like
from fewshot_automl.data.audit import audit
from fewshot_automl.errors import DataError, UserError, unknown_name
from fewshot_automl.evaluation.folds import choose_folds
from fewshot_automl.evaluation.objectives import objective
from fewshot_automl.executors import executor_named
from fewshot_automl.executors.table import EXECUTORS
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.inputs import content_hashes
from fewshot_automl.ledger import Ledger
from fewshot_automl.oracle.table import oracle_named
from fewshot_automl.places import cache_folder
from fewshot_automl.space import Config, Space
from fewshot_automl.study import SECONDS_USED, Budget, StudyEnd, parse_budget, run
from fewshot_automl.training.placement import choose_placement
from fewshot_automl.trial.design import space_for
from fewshot_automl.trial.evaluate import Evaluate
from fewshot_automl.trial.forecast import Forecast
from fewshot_automl.trial.workbench import Problem, Workbench

NO_LIMIT: Final = "none"
"""The budget of a study that only a number of trials ends."""
KEPT_STUDIES: Final = 20
"""Studies kept in the cache, where fits without `out` put theirs."""
KEPT_SECONDS: Final = 86_400
"""None is deleted before this age."""
HOPEFUL_SHARE: Final = 0.6
"""Of a forecast; a trial with less time than that is not started."""
MAX_FOLDS: Final = 4
"""Each fold of a dear Config is a training; from 4 to 5 adds a quarter to the price."""


def fit(
    data: Source,
    *,
    target: str | None = None,
    labels: object = None,
    test: Source | None = None,
    budget: str | float | None = None,
    trials: int | None = None,
    metric: str | None = None,
    backbones: tuple[str, ...] | list[str] | None = None,
    methods: tuple[str, ...] | list[str] | None = None,
    seed: int = 0,
    out: Path | str | None = None,
    settings: Settings | None = None,
    listener: Listener | None = None,
    started: float | None = None,
) -> Result:
    """Find, fit and honestly score the best model that a few labels can buy.

    Args:
        data: A file (CSV, TSV, JSONL, Parquet), a folder of class folders, a
            DataFrame, a list of texts or images, a `datasets` object or hub name.
        target: Column of the labels, for tables.
        labels: Labels beside `data`, for lists; None or NaN where there is none.
        test: Labelled data to score the finished model on; never looked at before.
        budget: Wall time of everything, as ``"5min"`` or seconds; ``"none"`` for no
            limit. None takes that of `settings`, which is 5 minutes.
        trials: Most trials; None for no limit.
        metric: Objective to maximise; the target kind's default if None.
        backbones: Backbones to search; all at hand if None.
        methods: Methods to search; all that fit if None.
        seed: Of folds, suggestions and trainings.
        out: Folder for study, model and report. A study already there is resumed
            if it is of the same data, metric and seed. If None, a new folder in the
            cache.
        settings: What the arguments above do not name (column names, storage,
            executor, ...). A field that is also an argument is taken from here only
            where the argument was left at its default.
        listener: Told what happens; nobody if None.
        started: `time.monotonic()` from which the budget counts; now if None.

    Raises:
        UserError: If an argument, the data or the task is not usable; the message
            says what to do.
        RunError: If no trial could be finished, or weights could not be had.
    """
    began = time.monotonic() if started is None else started
    asked = _settings(
        settings or Settings(),
        target=target,
        budget=budget,
        trials=trials,
        metric=metric,
        backbones=backbones,
        methods=methods,
        seed=seed,
    )
    teller = listener or Silence()
    _check_names(asked)
    dataset = read(
        data,
        target=asked.target,
        text=asked.text,
        image=asked.image,
        modality=asked.modality,
        target_kind=asked.target_kind,
        metric=asked.metric,
        labels=labels,  # type: ignore[arg-type]
    )
    objective(dataset.task.metric)
    folder = _new_folder() if out is None else Path(out)
    study = _prepare(dataset, data, test, asked, folder, teller, began)
    return study.go()


def resume(
    folder: Path | str,
    *,
    data: Source | None = None,
    labels: object = None,
    test: Source | None = None,
    budget: str | float | None = None,
    trials: int | None = None,
    listener: Listener | None = None,
    started: float | None = None,
) -> Result:
    """Go on with a study that was killed or broken off, with every finished trial.

    Args:
        folder: The `out` folder of the fit.
        data: The same data again, if they were not read from a file or folder.
        labels: The same labels again, if they were given beside the data.
        test: The same test data again, if they were not read from a file or folder.
        budget: Seconds to add to what is left of the study's budget; None for what
            is left.
        trials: Trials to add to the study's limit of trials; None for none.
        listener: Told what happens; nobody if None.
        started: `time.monotonic()` from which the budget counts; now if None.

    Raises:
        UserError: If there is no study, its data changed or must be given again, or
            it has no limit that could be raised.
    """
    began = time.monotonic() if started is None else started
    folder = Path(folder)
    record = read_record(folder)
    settings = Settings.from_json(record["settings"])
    if budget is not None:
        if settings.budget_seconds is None:
            raise UserError(
                f"budget must be left out for a study without a limit of time, got "
                f"{budget!r}. Only its {settings.trials} trials end it."
            )
        more = budget if isinstance(budget, int | float) else parse_budget(budget)
        settings = replace(settings, budget_seconds=settings.budget_seconds + more)
    if trials is not None:
        if settings.trials is None:
            raise UserError(
                f"trials must be left out for a study without a limit of trials, got "
                f"{trials}. Only its time ends it."
            )
        settings = replace(settings, trials=settings.trials + trials)
    sources = {"data": data, "test": test}
    for name, given in sources.items():
        if given is None and name in record["in_memory"]:
            raise DataError(
                f"{name} of the study in {folder} must be given again, for they were "
                f"in memory. Call fewshot_automl.resume(folder, {name}=...)."
            )
        sources[name] = record[name] if given is None else given
    assert sources["data"] is not None
    return fit(
        sources["data"],
        target=settings.target,
        labels=labels,
        test=sources["test"],
        out=folder,
        settings=settings,
        listener=listener,
        started=began,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Study:
    """Everything a study needs, made and checked before its first trial."""

    dataset: Dataset
    examples: Examples
    test: Examples | None
    settings: Settings
    folder: Path
    pantry: Pantry
    space: Space
    workbench: Workbench
    forecast: Forecast
    ledger: Ledger
    budget: Budget
    listener: Listener
    facts: dict[str, Any]

    def go(self) -> Result:
        """Search, then finish with what was found."""
        executor = executor_named(self.settings.executor, self.settings.workers)
        opening = Opening(
            space=self.space,
            forecast=self.forecast,
            budget_seconds=self.settings.budget_seconds,
            seed=self.settings.seed,
        )
        try:
            end = run(
                self.space,
                Evaluate(workbench=self.workbench),
                oracle=oracle_named(self.settings.oracle),
                ledger=self.ledger,
                executor=executor,
                budget=self.budget,
                opening=opening,
                reserve=self._reserve,
                forecast=self._least_seconds,
                seed=self.settings.seed,
                on_event=self.listener.trial,
            )
        finally:
            executor.shutdown()
        return self._finish(end)

    def _least_seconds(self, config: Config, history: Any) -> float:
        """Return the seconds without which a trial is not worth starting.

        Less than what is forecast: a trial that runs out of time costs only time
        that nothing else could have used.
        """
        return HOPEFUL_SHARE * self.forecast.trial_seconds(config, history)

    def _reserve(self, history: Any) -> float:
        """Return the seconds that fitting the leader and saving it will take."""
        done = [(c, o) for c, o in history if o.is_done]
        leaders = sorted(done, key=lambda pair: -pair[1].mean)[:3]
        longest = max(
            (self.forecast.refit_seconds(config, history) for config, _ in leaders),
            default=0.0,
        )
        tested = 0 if self.test is None else len(self.test)
        scoring = max(
            (
                self.forecast.scoring_seconds(config, history, tested)
                for config, _ in leaders
            ),
            default=0.0,
        )
        # On a budget of seconds a late model is worth more than none in time.
        saving = min(SAVING_SECONDS, 0.3 * (self.settings.budget_seconds or math.inf))
        return saving + 1.3 * (longest + scoring)

    def _finish(self, end: StudyEnd) -> Result:
        return finish(
            end=end,
            workbench=self.workbench,
            space=self.space,
            forecast=self.forecast,
            columns=self.dataset.columns,
            test=self.test,
            origins=self.examples.labelled().origins,
            folder=self.folder,
            listener=self.listener,
            budget=self.budget,
            most_members=self.settings.members,
            facts={**self.facts, "skipped": [c.id for c in self.pantry.missing]},
        )


def _prepare(
    dataset: Dataset,
    data: Source,
    test: Source | None,
    settings: Settings,
    folder: Path,
    listener: Listener,
    began: float,
) -> _Study:
    for sentence in dataset.inferred:
        listener.say(sentence)
    tested = None if test is None else _read_test(test, dataset)
    audited = audit(dataset, test=tested, strict=settings.is_strict)
    for line in audited.lines():
        listener.say(line)
    audited.raise_if_fatal()
    labelled = audited.examples.labelled()
    keys = content_hashes(labelled.inputs)
    mark = fingerprint(keys, labelled.labels, dataset.task, settings.seed)
    name = write_record(folder, settings, data, test, mark)
    seconds = settings.budget_seconds
    deadline = None if seconds is None else began + seconds
    pantry = stock(dataset.task.modality, settings.backbones, listener, deadline)
    placement = choose_placement(settings.device)
    if placement.processes > 1:
        raise UserError(
            f"A study must run in one process, got {placement.processes} by "
            "accelerate launch. Start it without; give it --executor processes "
            "--workers N for trials side by side."
        )
    listener.say(str(placement))
    problem = Problem(
        task=dataset.task,
        inputs=labelled.inputs,
        labels=labelled.labels,
        folds=choose_folds(
            labelled.labels, groups=keys, seed=settings.seed, max_folds=MAX_FOLDS
        ),
        keys=keys,
    )
    workbench = Workbench(
        problem=problem,
        cards=pantry.at_hand,
        store=FeatureStore(cache_folder() / "features"),
        placement=placement,
        folder=folder,
        seed=settings.seed,
    )
    space = space_for(problem.profile, pantry.at_hand, settings.methods)
    for dimension, values in settings.narrow.items():
        space = space.narrow(dimension, values)
    ledger = Ledger.open(
        settings.storage or folder,
        study=name,
        space=space,
    )
    interrupted = ledger.interrupt_running()
    known = len(ledger.history())
    if known:
        listener.say(
            f"Resuming: {known} trials in the ledger, {interrupted} of them broken off."
        )
    used = ledger.notes().get(SECONDS_USED, 0.0)
    return _Study(
        dataset=dataset,
        examples=audited.examples,
        test=tested,
        settings=settings,
        folder=folder,
        pantry=pantry,
        space=space,
        workbench=workbench,
        forecast=Forecast.measured(workbench),
        ledger=ledger,
        budget=Budget(
            started=began,
            seconds=settings.budget_seconds,
            trials=settings.trials,
            used_before=float(used) if isinstance(used, int | float) else 0.0,
        ),
        listener=listener,
        facts=_facts(dataset, audited.lines(), audited.examples, data, str(placement)),
    )


def _read_test(test: Source, dataset: Dataset) -> Examples:
    return read_like(test, dataset.task, dataset.columns, dataset.columns.target)


def _facts(
    dataset: Dataset, findings: list[str], examples: Examples, data: Source, where: str
) -> dict[str, Any]:
    """Return what the report says about the data."""
    labelled = examples.labelled()
    counts = np.bincount(labelled.labels, minlength=dataset.task.classes)
    return {
        "data": str(data) if isinstance(data, str | Path) else type(data).__name__,
        "labelled": len(labelled),
        "unlabelled": len(examples) - len(labelled),
        "class_counts": dict(
            zip(dataset.task.class_names, counts.tolist(), strict=True)
        ),
        "inferred": list(dataset.inferred),
        "findings": findings,
        "placement": where,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _settings(
    base: Settings,
    *,
    target: str | None,
    budget: str | float | None,
    trials: int | None,
    metric: str | None,
    backbones: tuple[str, ...] | list[str] | None,
    methods: tuple[str, ...] | list[str] | None,
    seed: int,
) -> Settings:
    """Return the settings with the arguments of `fit` put in."""
    changes: dict[str, Any] = {
        "target": target,
        "trials": trials,
        "metric": metric,
        "backbones": None if backbones is None else tuple(backbones),
        "methods": None if methods is None else tuple(methods),
        "seed": seed or None,
    }
    changes = {name: value for name, value in changes.items() if value is not None}
    if budget == NO_LIMIT:
        changes["budget_seconds"] = None
    elif isinstance(budget, str):
        changes["budget_seconds"] = parse_budget(budget)
    elif budget is not None:
        changes["budget_seconds"] = float(budget)
    return replace(base, **changes)


def _check_names(settings: Settings) -> None:
    """Refuse names that no table has, before any work is done or folder made.

    Raises:
        UnknownNameError: Names the nearest known ones.
        UserError: If the device is not there.
    """
    zoo = Zoo.known()
    for name in settings.backbones or ():
        zoo[name]
    for name in settings.methods or ():
        method(name)
    oracle_named(settings.oracle)
    if settings.executor not in EXECUTORS:
        raise unknown_name(
            "executor", settings.executor, EXECUTORS, "fewshot fit --help"
        )
    choose_placement(settings.device)


def _new_folder() -> Path:
    """Return a new folder in the cache, and make room: old studies there go."""
    home = cache_folder() / "studies"
    kept = sorted(home.glob("*"), reverse=True)[: KEPT_STUDIES - 1]
    for old in home.glob("*"):
        if old not in kept and time.time() - old.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    return home / stamp

"""Data and a budget in, a Result out: the two wings joined."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fewshot_automl.automl import ahead
from fewshot_automl.automl.listener import Listener, Silence
from fewshot_automl.automl.record import fingerprint, read_record, write_record
from fewshot_automl.automl.result import Result
from fewshot_automl.automl.settings import Settings
from fewshot_automl.data import Source, read
from fewshot_automl.errors import DataError, UserError, unknown_name
from fewshot_automl.places import cache_folder
from fewshot_automl.study import parse_budget

NO_LIMIT: Final = "none"
"""The budget of a study that only a number of trials ends."""
KEPT_STUDIES: Final = 20
"""Studies kept in the cache, where fits without `out` put theirs."""
KEPT_SECONDS: Final = 86_400
"""None is deleted before this age."""


def fit(
    data: Source,
    *,
    target: str | None = None,
    labels: object = None,
    test: Source | None = None,
    budget: str | float | None = None,
    trials: int | None = None,
    metric: str | None = None,
    backbones: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    objectives: Sequence[str] | None = None,
    limits: Mapping[str, float] | None = None,
    prior: Path | str | None = None,
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
        metric: What to maximise; the target kind's default if None.
        backbones: Backbones to search; all at hand if None.
        methods: Methods to search; all that fit if None.
        objectives: What to improve beside ``"score"``: ``"parameters"``, ``"flops"``,
            ``"latency_ms"``, ``"memory_mb"``, ``"worst_recall"``. The report then
            shows the front of trade-offs; the model is the best by score.
        limits: What the model must keep, by name: ``max_parameters``, ``max_flops``,
            ``max_latency_ms`` and ``max_memory_mb`` for one example on this machine,
            ``min_worst_recall`` of the class found least, cross-validated.
        prior: File of past studies that advise the search, ``"none"`` for no advice;
            those that come with the package if None.
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
    models = ahead.start(ahead.importing(ahead.MODELS))
    asked = _settings(
        settings or Settings(),
        {
            "target": target,
            "trials": trials,
            "metric": metric,
            "backbones": None if backbones is None else tuple(backbones),
            "methods": None if methods is None else tuple(methods),
            "objectives": None if objectives is None else tuple(objectives),
            "limits": limits,
            "prior": None if prior is None else str(prior),
            "seed": seed or None,
        },
        budget,
    )
    dataset = read(
        data,
        target=asked.target,
        inputs=asked.inputs,
        modality=asked.modality,
        target_kind=asked.target_kind,
        metric=asked.metric,
        labels=labels,  # type: ignore[arg-type]
    )
    models.join()
    from fewshot_automl.automl.audited import audited
    from fewshot_automl.automl.finish import finish
    from fewshot_automl.automl.past import chosen_prior
    from fewshot_automl.automl.prepare import prepare
    from fewshot_automl.automl.search import search

    _check_names(asked)
    chosen_prior(asked.prior, None if out is None else Path(out))
    teller = listener or Silence()
    examples = audited(dataset, data, test, asked, teller)
    folder = _new_folder() if out is None else Path(out)
    targets, task = examples.labelled.targets, dataset.task
    mark = fingerprint(examples.keys, targets, task, asked.seed)
    name = write_record(folder, asked, data, test, mark)
    ready = prepare(examples, asked, folder, name, teller, began)
    return finish(ready, search(ready))


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


def _settings(
    base: Settings, given: Mapping[str, Any], budget: str | float | None
) -> Settings:
    """Return the settings with the arguments of `fit` put in."""
    changes = {name: value for name, value in given.items() if value is not None}
    if budget == NO_LIMIT:
        changes["budget_seconds"] = None
    elif isinstance(budget, str):
        changes["budget_seconds"] = parse_budget(budget)
    elif budget is not None:
        changes["budget_seconds"] = float(budget)
    made = replace(base, **changes)
    if made.prior in (None, NO_LIMIT):
        return made
    return replace(made, prior=str(Path(made.prior).absolute()))


def _check_names(settings: Settings) -> None:
    """Refuse names that no table has, before any work is done or folder made.

    Raises:
        UnknownNameError: Names the nearest known ones.
        UserError: If the device is not there.
    """
    from fewshot_automl.adaptation.table import method
    from fewshot_automl.backbones.zoo import Zoo
    from fewshot_automl.executors import EXECUTORS
    from fewshot_automl.oracle import oracle_named
    from fewshot_automl.training.placement import choose_placement

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

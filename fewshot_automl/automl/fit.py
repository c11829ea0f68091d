"""Data and a budget in, a Result out: the two wings joined."""

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fewshot_automl.automl.result import Listener, Result
from fewshot_automl.automl.settings import NONE, Settings, tuples
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.data import Source, read
from fewshot_automl.errors import DataError, UserError
from fewshot_automl.places import cache_folder
from fewshot_automl.study import parse_budget

KEPT_STUDIES: Final = 20
"""Studies kept in the cache, where fits without `out` put theirs."""
KEPT_SECONDS: Final = 86_400
"""None is deleted before this age."""


class _Silence(Listener):
    """Is the listener where nobody listens."""


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
        objectives: Measures to improve beside ``"score"``, such as ``"latency_ms"``.
            The report shows the front of trade-offs; the model is the best by score.
        limits: What the model must keep, as in ``{"max_latency_ms": 20}``: measured
            for one example on this machine, or cross-validated.
        prior: File of past studies that advise the search, ``"none"`` for no advice;
            those that come with the package if None.
        seed: Of folds, suggestions and trainings.
        out: Folder for study, model and report, a new one in the cache if None. A
            study there is resumed if it is of the same data, metric and seed.
        settings: What the arguments above do not name (column names, storage, ...),
            and their defaults.
        listener: Hears what happens; nobody if None.
        started: `time.monotonic()` from which the budget counts; now if None.

    Raises:
        UserError: If an argument, the data or the task is not usable; the message
            says what to do.
        RunError: If no trial could be finished, or weights could not be had.
    """
    began = time.monotonic() if started is None else started
    asked = _settings(
        settings or Settings(),
        budget,
        target=target,
        trials=trials,
        metric=metric,
        backbones=backbones,
        methods=methods,
        objectives=objectives,
        limits=limits,
        prior=prior,
        seed=seed or None,
    )
    for name in asked.backbones or ():
        Zoo.known()[name]  # a typo is told before anything is read or imported
    dataset = read(
        data,
        target=asked.target,
        inputs=asked.inputs,
        modality=asked.modality,
        target_kind=asked.target_kind,
        metric=asked.metric,
        labels=labels,  # type: ignore[arg-type]
    )
    from fewshot_automl.automl.finish import finish
    from fewshot_automl.automl.record import kept_if_tried
    from fewshot_automl.automl.search import prepare, search

    folder, hears = _new_folder() if out is None else Path(out), listener or _Silence()
    with kept_if_tried(folder):
        ready = prepare(dataset, data, test, asked, folder, hears, began)
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
        listener: Hears what happens; nobody if None.
        started: `time.monotonic()` from which the budget counts; now if None.

    Raises:
        UserError: If there is no study, its data changed or must be given again, or
            it has no limit that could be raised.
    """
    from fewshot_automl.automl.record import read_record

    began = time.monotonic() if started is None else started
    folder = Path(folder)
    record = read_record(folder)
    settings = Settings.from_json(record["settings"])
    seconds = parse_budget(budget) if isinstance(budget, str) else budget
    for name, field, more in (
        ("budget", "budget_seconds", seconds),
        ("trials", "trials", trials),
    ):
        had = getattr(settings, field)
        if more is not None and had is None:
            raise UserError(
                f"{name} must be left out for a study that has no such limit, got "
                f"{more}. Raise the one that ends it."
            )
        if more is not None:
            settings = replace(settings, **{field: had + more})
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
        labels=labels,
        test=sources["test"],
        out=folder,
        settings=settings,
        listener=listener,
        started=began,
    )


def _settings(base: Settings, budget: str | float | None, **given: Any) -> Settings:
    """Return the settings with those arguments of `fit` put in that are not None."""
    changes = tuples({name: x for name, x in given.items() if x is not None})
    if budget == NONE:
        changes["budget_seconds"] = None
    elif budget is not None:
        seconds = parse_budget(budget) if isinstance(budget, str) else float(budget)
        changes["budget_seconds"] = seconds
    made = replace(base, **changes)
    if made.prior in (None, NONE):
        return made
    return replace(made, prior=str(Path(made.prior).absolute()))


def _new_folder() -> Path:
    """Return a new folder in the cache, and make room: old studies there go."""
    home = cache_folder() / "studies"
    kept = sorted(home.glob("*"), reverse=True)[: KEPT_STUDIES - 1]
    for old in home.glob("*"):
        if old not in kept and time.time() - old.stat().st_mtime > KEPT_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    return home / stamp

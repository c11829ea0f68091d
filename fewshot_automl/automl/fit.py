"""Data and a budget in, a Result out: the two wings joined."""

import contextlib
import logging
import shutil
import sys
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, SupportsFloat, SupportsIndex

from fewshot_automl.automl.result import (
    RESULT_FILE,
    VERSIONS_FILE,
    Listener,
    Result,
)
from fewshot_automl.automl.settings import NONE, Settings, plain
from fewshot_automl.automl.timeline import Timeline
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.data import Dataset, Source, read
from fewshot_automl.errors import DataError, UserError
from fewshot_automl.executors import serve_if_launched
from fewshot_automl.places import cache_folder, size_bytes
from fewshot_automl.space import Config
from fewshot_automl.study import parse_budget

if TYPE_CHECKING:
    from fewshot_automl.automl.search import Carried

KEPT_BYTES: Final = 2_000_000_000
"""Of studies kept in the cache, where fits without `out` put theirs; the last ones."""
KEPT_SECONDS: Final = 86_400
"""None that is not finished is deleted before this age."""

_log = logging.getLogger(__name__)


class _Alone(Listener):
    """Is the listener where nobody listens."""

    def say(self, sentence: str) -> None:
        """Make a warning one of Python's."""
        if sentence.startswith("warning: "):
            warnings.warn(sentence.removeprefix("warning: "), stacklevel=2)


def fit(
    data: Source,
    *,
    target: object = None,
    labels: object = None,
    test: Source | None = None,
    budget: str | SupportsFloat | None = None,
    trials: SupportsIndex | None = None,
    metric: str | None = None,
    backbones: Iterable[str] | None = None,
    methods: Iterable[str] | None = None,
    objectives: Iterable[str] | None = None,
    limits: Mapping[str, SupportsFloat] | None = None,
    prior: Path | str | None = None,
    seed: SupportsIndex = 0,
    out: Path | str | None = None,
    track: str | None = None,
    settings: Settings | None = None,
    progress: bool | None = None,
    listener: Listener | None = None,
    started: float | None = None,
    follows: Path | None = None,
    searches: bool = True,
    begins_with: Sequence[Config] = (),
    carried: "Carried | None" = None,
) -> Result:
    """Find, fit and honestly score the best model that a few labels can buy.

    Args:
        data: A file (CSV, TSV, Excel, JSON, Parquet), a folder of class folders, a
            DataFrame, a list of texts or images, a `datasets` object or hub name.
        target: Column of the labels, for tables; a name may be a number or a tuple.
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
        out: Folder for study, model and report. A study there is resumed if it is of
            the same data, metric and seed. If None, a new one in the cache, which
            keeps the last 2 GB of them (see ``fewshot cache``).
        track: Tracker to write settings, trials and scores into as well:
            ``"tensorboard"``, ``"mlflow"`` or ``"wandb"``.
        settings: What the arguments above do not name (column names, storage, ...),
            and their defaults.
        progress: Whether to show what happens: live in a terminal, else a line a
            trial. None shows it in a terminal and in a notebook.
        listener: Hears what happens, in place of `progress`.
        started: `time.monotonic()` from which the budget counts; now if None.
        follows: Folder of a finished study of the same examples; a new one begins with
            its trials (see `retarget`).
        searches: Whether it tries more than those.
        begins_with: Configs to try first; then `follows` may be of other examples, and
            its trials are not taken over (see `update`).
        carried: What else such a study hands on.

    Raises:
        UserError: If an argument, the data or the task is not usable; the message
            says what to do.
        RunError: If no trial could be finished, or weights could not be had.
    """
    serve_if_launched()
    timeline = Timeline(started=time.monotonic() if started is None else started)
    timeline.mark("start")
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
        seed=None if seed == 0 else seed,
        track=track,
    )
    for name in asked.backbones or ():
        Zoo.known()[name]  # a typo is told before anything is read or imported
    if asked.track is not None:
        from fewshot_automl.automl.tracking import check_tracker, tracked

        check_tracker(asked.track)  # before anything takes long
    dataset = read_as_asked(data, asked, labels)
    timeline.mark("reading")
    from fewshot_automl.automl.finish import finish
    from fewshot_automl.automl.placing import ranks_of
    from fewshot_automl.automl.record import kept_if_tried
    from fewshot_automl.automl.search import chosen_from, prepare, search

    timeline.mark("imports")
    folder = _new_folder() if out is None else Path(out)
    with contextlib.ExitStack() as live:
        if listener is None and (console := _screen(progress)):
            from fewshot_automl.automl.screen import Progress

            is_new = started is None  # the bar of a resumed study would be wrong
            listener = Progress(
                console, timeline.started, asked, folder, has_bar=is_new
            )
            live.enter_context(listener.live())
        live.enter_context(kept_if_tried(folder))
        ready = prepare(
            dataset,
            data,
            test,
            asked,
            folder,
            listener or _Alone(),
            timeline,
            follows,
            tuple(begins_with),
            searches=searches,
            carried=carried,
        )
        if (ranks := ranks_of(ready.where)) is not None:
            live.callback(ranks.shutdown)
            ready = replace(ready, ranks=ranks)
        if asked.track is not None:
            ready = replace(ready, listener=live.enter_context(tracked(ready)))
        return finish(ready, search(ready) if searches else chosen_from(ready))


def read_as_asked(data: Source, asked: Settings, labels: object = None) -> Dataset:
    """Return the examples and the task that settings make of data."""
    return read(
        data,
        target=asked.target,
        inputs=asked.inputs,
        modality=asked.modality,
        target_kind=asked.target_kind,
        tidy_labels=asked.tidy_labels,
        metric=asked.searched_for,
        describe=asked.describe,
        cost=asked.cost,
        abstain_cost=asked.abstain_cost,
        deploy_prevalence=asked.deploy_prevalence,
        unlabelled=asked.unlabelled,
        labels=labels,  # type: ignore[arg-type]
    )


def resume(
    folder: Path | str,
    *,
    data: Source | None = None,
    labels: object = None,
    test: Source | None = None,
    budget: str | SupportsFloat | None = None,
    trials: SupportsIndex | None = None,
    progress: bool | None = None,
    listener: Listener | None = None,
    started: float | None = None,
) -> Result:
    """Go on with a study that was killed or broken off, with every finished trial.

    Args:
        folder: The `out` folder of the fit.
        data: The same data again, if they were in memory or have moved.
        labels: The same labels again, if they were given beside the data.
        test: The same test data again, likewise.
        budget: Seconds to add to what is left of the study's budget; None for what
            is left.
        trials: Trials to add to the study's limit of trials; None for none.
        progress: Whether to show what happens; see `fit`.
        listener: Hears what happens, in place of `progress`.
        started: `time.monotonic()` from which the budget counts; now if None.

    Raises:
        UserError: If there is no study, its data changed or must be given again, or
            it has no limit that could be raised.
    """
    from fewshot_automl.automl.record import read_record

    began = time.monotonic() if started is None else started
    folder = Path(folder)
    record = read_record(folder)
    if (folder / VERSIONS_FILE).exists():
        raise UserError(
            f"A study must have no later versions to be resumed, got {folder}. Resume "
            f"one of {folder / 'versions'}, and take it with: "
            f"fewshot versions {folder} --to N"
        )
    settings = Settings.from_json(record["settings"])
    seconds = parse_budget(budget) if isinstance(budget, str) else budget
    for field, more in {"budget_seconds": seconds, "trials": trials}.items():
        had = getattr(settings, field)
        if more is not None and had is None:
            raise UserError(
                f"{field.removesuffix('_seconds')} must be left out for a study that "
                f"has no such limit, got {more}. Raise the one that ends it."
            )
        if more is not None:
            settings = replace(settings, **{field: had + more})
    source, tests = sources_of(folder, record, data, test)
    return fit(
        source,
        labels=labels,
        test=tests,
        out=folder,
        settings=settings,
        progress=progress,
        listener=listener,
        started=began,
    )


def sources_of(
    folder: Path, record: Mapping[str, Any], data: Source | None, test: Source | None
) -> tuple[Source, Source | None]:
    """Return data and test data of a study, as given again or where they were."""
    sources = {"data": data, "test": test}
    for name, given in sources.items():
        place = record[name] if given is None else None
        beside = folder.parent / Path(place or "").name
        if place and not Path(place).exists() and beside.is_file():
            place = str(beside)  # of a version, whose folder was moved with them
        is_in_memory = given is None and name in record["in_memory"]
        is_gone = place and Path(place).is_absolute() and not Path(place).exists()
        sources[name] = place if given is None else given
        if is_in_memory or is_gone:
            why = "were in memory" if is_in_memory else f"are no longer at '{place}'"
            raise DataError(
                f"{name} of the study in {folder} must be given again, for they {why}. "
                f"In Python add {name}=..., or if they have a place, --{name} PLACE."
            )
    assert sources["data"] is not None
    return sources["data"], sources["test"]


def _screen(progress: bool | None) -> Any:
    """Return the console to show a fit on, if that is wanted or somebody watches."""
    from rich.console import Console

    is_notebook = Console().is_jupyter
    place = sys.stdout if is_notebook else sys.stderr
    if not (is_notebook or place.isatty() if progress is None else progress):
        return None
    # Lines of text, also in a notebook: they need no widgets and stay in its file.
    return Console(file=place, force_jupyter=False, highlight=False)


def _settings(base: Settings, budget: Any, **given: Any) -> Settings:
    changes = {name: value for name, value in given.items() if value is not None}
    if budget == NONE:
        changes["budget_seconds"] = None
    elif budget is not None:
        seconds = parse_budget(budget) if isinstance(budget, str) else budget
        changes["budget_seconds"] = seconds
    made = replace(base, **plain(changes))
    if made.unlabelled is not None and Path(made.unlabelled).exists():
        made = replace(made, unlabelled=str(Path(made.unlabelled).absolute()))
    if made.prior in (None, NONE):
        return made
    return replace(made, prior=str(Path(made.prior).absolute()))


def _new_folder() -> Path:
    """Return a new folder in the cache, and make room: old studies there go."""
    home, size = cache_folder() / "studies", 0
    for number, old in enumerate(sorted(home.glob("*"), reverse=True)):
        with contextlib.suppress(FileNotFoundError):  # others make room, too
            size += size_bytes(old)
            is_old = time.time() - old.stat().st_mtime > KEPT_SECONDS
            is_over = is_old or (old / RESULT_FILE).exists()
            if number and size > KEPT_BYTES and is_over:
                shutil.rmtree(old, ignore_errors=True)
                _log.warning("Deleted %s: 2 GB of fits without `out` are kept.", old)
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S-%f")
    return home / stamp

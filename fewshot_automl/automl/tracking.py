"""A study written down in TensorBoard, MLflow or W&B, by Accelerate's trackers."""

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from accelerate import PartialState
from accelerate import tracking as trackers
from accelerate.utils import clear_environment

from fewshot_automl.automl.record import read_record, read_summary
from fewshot_automl.automl.result import Listener
from fewshot_automl.automl.search import Prepared
from fewshot_automl.errors import UserError
from fewshot_automl.outcome import ADVICE_PREFIX
from fewshot_automl.study import Event

PROJECT: Final = "fewshot_automl"
"""The experiment of MLflow, or the project of W&B, unless the environment names one."""
EMPTY: Final[tuple[Any, ...]] = (None, "", (), [], {})
"""What a tracker is not told."""


def check_tracker(name: str) -> None:
    """Raise a `UserError` if the library of a tracker is not installed."""
    if name not in {row.value for row in trackers.get_available_trackers()}:
        raise UserError(
            f"Tracking by {name} needs its library, which is not installed. Install it "
            f"with: pip install 'fewshot-automl[{name}]'"
        )


@contextmanager
def tracked(ready: Prepared) -> Iterator[Listener]:
    """Give a listener that tracks a study; at the end comes the score to expect.

    Raises:
        UserError: If the tracker cannot be reached.
    """
    with ExitStack() as ends:
        # Trackers ask for Accelerate's state. A launched process that leads a study
        # must not meet the others by making one; the user's program finds none of ours.
        if not PartialState._shared_state:
            with clear_environment():
                PartialState(cpu=True)
            ends.callback(PartialState._reset_state)
        listener = _Tracked(ready)
        ends.callback(listener.attempt, listener.study.finish)
        yield listener
        listener.result(read_summary(ready.folder))


class _Tracked(Listener):
    """Writes each finished trial into a run of its own, below that of the study.

    It passes on all that it hears. A tracker that fails ends no study: that is said.
    """

    def __init__(self, ready: Prepared) -> None:
        self._then, self._folder = ready.listener, ready.folder
        self._kind = str(ready.settings.track)
        self._name = read_record(ready.folder)["name"]
        self._metric = ready.context.problem.task.measured
        told = {name: ready.facts[name] for name in ("labelled", "placement", "plan")}
        told |= {**ready.settings.to_json(), "metric": self._metric.name}
        try:
            self.study = self._started("", told)
        except Exception as error:
            raise UserError(
                f"Tracking by {self._kind} could not begin ({type(error).__name__}: "
                f"{error}). Check its address and rights, or leave out --track."
            ) from error

    def say(self, sentence: str) -> None:
        self._then.say(sentence)

    def trial(self, event: Event) -> None:
        self._then.trial(event)
        if event.kind == "finished":
            self.attempt(self._record, event)

    def result(self, summary: Mapping[str, Any]) -> None:
        values = {**summary["score"], **summary["measures"]}
        values |= {f"test_{name}": x for name, x in (summary["test"] or {}).items()}
        values["seconds"] = summary["seconds"]
        self.attempt(self.study.log, _numbers(values))

    def attempt(self, write: Callable[..., None], *of: Any) -> None:
        try:
            write(*of)
        except Exception as error:  # noqa: BLE001  of any server, disk or library
            self.say(f"warning: Not tracked ({type(error).__name__}: {error}).")

    def _record(self, event: Event) -> None:
        name, outcome = self._metric.name, event.outcome
        about = {"status": outcome.status, "reason": outcome.reason}
        run = self._started(f"trial-{event.number:03}", event.config.to_json() | about)
        mean = {name: self._metric.orient(outcome.mean)}
        costs = {"cost_seconds": outcome.cost_seconds, **outcome.measures}
        try:
            for fold, score in enumerate(outcome.scores):
                own = {f"fold_{name}": self._metric.orient(score)}
                run.log(_numbers(own), step=fold)
            run.log(_numbers(mean | {"standard_error": outcome.standard_error} | costs))
        finally:
            run.finish()
        ended = sum(outcome.status != "running" for _, outcome in event.history)
        self.study.log(_numbers(mean), step=ended)

    def _started(self, trial: str, config: Mapping[str, Any]) -> Any:
        run = _run(self._kind, self._name, trial, self._folder)
        run.start()
        told = {name: x for name, x in config.items() if x not in EMPTY}
        plain = {
            n: x if isinstance(x, str | int | float) else json.dumps(x)
            for n, x in told.items()
        }
        run.store_init_configuration(plain)
        return run


class _TensorBoard(trackers.TensorBoardTracker):
    """Shows Configs beside scores (HPARAMS); Accelerate's way would add a run each."""

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        from torch.utils.tensorboard import summary

        # The first of three lists the names of one run; without it all are listed.
        for part in summary.hparams(values, {})[1:]:  # type: ignore[no-untyped-call]
            self.writer.file_writer.add_summary(part)


class _MLflow(trackers.MLflowTracker):
    """Keeps what a run was asked for first: MLflow lets nobody change it."""

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        if not self.active_run.data.params:
            super().store_init_configuration(values)


class _WandB(trackers.WandBTracker):
    """Knows its own run where several are open; W&B's module knows one."""

    def store_init_configuration(self, values: dict[str, Any]) -> None:
        self.run.config.update(values, allow_val_change=True)


def _run(kind: str, study: str, trial: str, folder: Path) -> Any:
    """Return the run of a study, or of a trial of it; one that is there goes on."""
    name = f"{study}-{trial}" if trial else study
    if kind == "tensorboard":
        return _TensorBoard(trial or "study", folder / "tensorboard")
    if kind == "mlflow":
        import mlflow

        run = _MLflow(PROJECT, nested_run=True, run_name=name)
        found = mlflow.search_runs(
            experiment_names=[run.experiment_name],
            filter_string=f"attributes.run_name = '{name}'",
            output_format="list",
        )
        run.run_id = found[0].info.run_id if found else None
        return run
    return _WandB(
        os.environ.get("WANDB_PROJECT", PROJECT),
        id=name,
        name=name,
        group=study,
        job_type="trial" if trial else "study",
        dir=folder,
        mode=os.environ.get("WANDB_MODE", "offline"),
        resume="allow",
        reinit="create_new",  # beside the run of the study, which stays open
        settings={"silent": True, "console": "off"},
    )


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: value
        for name, value in values.items()
        if isinstance(value, int | float) and math.isfinite(value)
        if not name.startswith(ADVICE_PREFIX)  # which people would not want to know
    }

"""The record of a study: which Configs were tried and what became of them."""

import base64
import os
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
from jaxtyping import Float32

from fewshot_automl.errors import LedgerError, UserError
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Config, Dimension, Int, Space

JSON = str | int | float | bool | None | list[Any] | dict[str, Any]

INTERRUPTED: Final = "interrupted"
"""Reason of a trial whose process ended before the trial did."""

OUTPUTS_FOLDER: Final = "predictions"
"""Holds out-of-fold outputs, in a study's folder."""
_CONFIG: Final = "config"
_OUTCOME: Final = "outcome"
_DRIVER: Final = "driver"
_OUTPUTS: Final = "outputs"
"""Of a trial in a shared storage: who runs it, and its outputs for the others."""


class Ledger:
    """Records trials in an Optuna storage, where Optuna's own tools can see them.

    A done trial is COMPLETE with its mean as value, in the metric's own direction, a
    failed one FAIL, a stopped one PRUNED. The whole Outcome stands beside it as an
    attribute, and that is what `history` returns; its outputs lie in a file of their
    own, which `outputs` reads. Every call has reached the disk when it returns.

    Several drivers may work on one study in PostgreSQL: a Config is only started once,
    outputs are there for all, and what a driver that died left running is given up.

    >>> import tempfile
    >>> space = Space((Choice(name="method", options=("probe", "lora")),))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ledger = Ledger.open(folder, study="toy", space=space)
    ...     number = ledger.start(Config.of({"method": "lora"}))
    ...     ledger.finish(number, Outcome(status="done", mean=0.75))
    ...     [(str(config), outcome.mean) for config, outcome in ledger.history()]
    [('method=lora', 0.75)]
    """

    def __init__(
        self,
        storage: Any,
        study_id: int,
        *,
        space: Space,
        address: str,
        folder: Path | None,
        driver: str | None = None,
    ) -> None:
        from fewshot_automl.ledger.storage import Heart, alone, is_shared

        self._storage = storage
        self._study_id = study_id
        self.space = space
        self._address = address
        self._folder = folder
        (direction,) = storage.get_study_directions(study_id)
        self._is_maximised = direction.name == "MAXIMIZE"
        self._ended: dict[int, tuple[Config, Outcome]] = {}  # these never change
        self._driver = driver
        self._is_shared = is_shared(storage)
        self._alone = partial(alone, storage, study_id)
        self._heart = Heart(storage)

    @classmethod
    def open(
        cls,
        location: str | Path,
        *,
        study: str,
        space: Space,
        folder: Path | None = None,
        metric: str = "score",
        is_maximised: bool = True,
        driver: str | None = None,
    ) -> "Ledger":
        """Open the record of a study; it is created where there is none.

        Args:
            location: A folder, which then holds `study.journal`; or any Optuna
                storage URL, for example `postgresql://user@host/studies`.
            study: The study's name, unique within the storage.
            space: What `Configs` may be recorded.
            folder: Where out-of-fold outputs go, into `predictions/` in it; `location`
                if None and that is a folder.
            metric: What a new study's values are called.
            is_maximised: Whether greater values of it are better.
            driver: Names who works on a study that others may work on, too; the same
                name again after a crash.

        Raises:
            UserError: If the location is a file, or a URL that cannot be opened.
            LedgerError: If the record is damaged, or not one of ours.
        """
        from fewshot_automl.ledger.storage import open_journal, open_url, study_id

        if isinstance(location, str) and "://" in location:
            storage, address = open_url(location), location
        else:
            place = Path(location)
            if place.exists() and not place.is_dir():
                raise UserError(
                    "A ledger's location must be a folder or a storage URL, got "
                    f"{place}. Give the folder in which the file lies."
                )
            place.mkdir(parents=True, exist_ok=True)
            journal, folder = place / "study.journal", folder or place
            storage, address = open_journal(journal), str(journal)
        number = study_id(storage, study, address, metric, is_maximised)
        return cls(
            storage, number, space=space, address=address, folder=folder, driver=driver
        )

    def start(self, config: Config) -> int | None:
        """Record a trial as running, and return its number; None if others have it.

        Others are drivers that work on the same study.

        Raises:
            SpaceError: If the Config is not in the space.
            LedgerError: If the storage refuses it.
        """
        trial = self._trial(config, Outcome(status="running"))
        try:
            with self._alone():
                if self._is_shared:
                    self._interrupt(self._silent())
                    known = {c for c, o in self.history() if o.status != "stopped"}
                    if config in known:
                        return None
                trial_id = self._storage.create_new_trial(self._study_id, trial)
                if self._is_shared:
                    self._heart.add(trial_id)
        except ValueError as error:  # a database holds a study to its first space
            raise LedgerError(
                f"{self._address} holds this study with another search space: {error}. "
                "Start a study of another name."
            ) from error
        return int(self._storage.get_trial_number_from_id(trial_id))

    def finish(self, number: int, outcome: Outcome) -> None:
        """Record what became of a running trial, its outputs first.

        Raises:
            LedgerError: If the trial is not running any more, or its outputs cannot be
                written.
        """
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(
            self._study_id, number
        )
        trial = self._storage.get_trial(trial_id)
        if trial.state.is_finished():  # by another process
            raise LedgerError(
                f"Trial {number} must be running, got one that has ended. Let one "
                "process at a time work on a study in a file, and no driver sleep for "
                "minutes; then go on with: fewshot resume"
            )
        if outcome.outputs is not None:
            file = self._outputs_file(_config_of(trial))
            write_outputs(file, outcome.outputs)
            if self._is_shared:
                text = base64.b64encode(file.read_bytes()).decode()
                self._storage.set_trial_system_attr(trial_id, _OUTPUTS, text)
        self._storage.set_trial_user_attr(trial_id, _OUTCOME, outcome.to_json())
        self._end(trial_id, outcome)

    def add(self, config: Config, outcome: Outcome) -> None:
        """Record a trial that another study has made, unless another driver did."""
        if not self._is_shared:  # one write to the journal in the place of several
            if outcome.outputs is not None:
                write_outputs(self._outputs_file(config), outcome.outputs)
            trial = self._trial(config, outcome)
            self._storage.create_new_trial(self._study_id, trial)
        elif (number := self.start(config)) is not None:
            self.finish(number, outcome)

    def history(self) -> list[tuple[Config, Outcome]]:
        """Return every trial in order of start; its number is its place in the list.

        Raises:
            LedgerError: If some trial was not recorded by a `Ledger`.
        """
        return [self._ended.get(t.number) or self._row(t) for t in self._trials()]

    def outputs(self, config: Config) -> Float32[np.ndarray, "repeats examples width"]:
        """Return the out-of-fold outputs of a Config's finished trial.

        Raises:
            LedgerError: If their file is missing or damaged.
        """
        file = self._outputs_file(config)
        if self._is_shared and not file.exists():  # it is another driver's trial
            for trial in self._trials():
                text = trial.system_attrs.get(_OUTPUTS)
                if text and _config_of(trial) == config:
                    _write_whole(file, base64.b64decode(text))
                    break
        return read_outputs(file)

    def interrupt_running(self) -> int:
        """Mark the trials that a dead process left running, and return how many.

        They become `stopped`, with the reason `INTERRUPTED`. One whose Outcome had
        already reached the disk keeps it. Trials of other drivers that are alive go on
        where a storage is shared. Call it elsewhere only where no other process works
        on the same study.
        """
        with self._alone():
            running = [t for t in self._trials() if not t.state.is_finished()]
            silent = self._silent()
            return self._interrupt(
                trial._trial_id
                for trial in running
                if not self._is_shared
                or trial._trial_id in silent
                or trial.user_attrs.get(_DRIVER) == self._driver
            )

    def _interrupt(self, trial_ids: Iterable[int]) -> int:
        interrupted = 0
        for trial in map(self._storage.get_trial, trial_ids):
            if _OUTCOME in trial.user_attrs:
                recorded = Outcome.from_json(trial.user_attrs[_OUTCOME])
                self._end(trial._trial_id, recorded)
            else:
                self.finish(trial.number, Outcome(status="stopped", reason=INTERRUPTED))
                interrupted += 1
        return interrupted

    def note(self, key: str, value: JSON, *, is_own: bool = False) -> None:
        """Record a fact about the study, or about its driver's own part in it.

        It takes the place of an earlier one.
        """
        key = f"{self._own}{key}" if is_own else key
        self._storage.set_study_user_attr(self._study_id, key, value)

    def settle(self, key: str, value: JSON) -> JSON:
        """Record a fact unless another driver has; return the one that stands."""
        with self._alone():
            known = self.notes()
            if key not in known:
                self.note(key, value)
            return known.get(key, value)

    def notes(self) -> dict[str, JSON]:
        """Return the facts about the study, and about this driver's part in it."""
        found = self._storage.get_study_user_attrs(self._study_id).items()
        own = self._own
        return {
            key.removeprefix(own): value
            for key, value in found
            if "/" not in key or key.startswith(own)
        }

    @property
    def _own(self) -> str:
        return f"{self._driver}/" if self._is_shared else ""

    def _silent(self) -> set[int]:
        """Return the trials whose drivers were not heard of for long."""
        if not self._is_shared:
            return set()
        return {*self._storage._get_stale_trial_ids(self._study_id)}

    def _outputs_file(self, config: Config) -> Path:
        if self._folder is None:
            raise LedgerError(
                f"A ledger at {self._address} must have a folder for out-of-fold "
                "outputs, got none. Open it with folder=..."
            )
        return self._folder / OUTPUTS_FOLDER / f"{config.key}.safetensors"

    def _row(self, trial: Any) -> tuple[Config, Outcome]:
        row = (_config_of(trial), _outcome_of(trial))
        if trial.state.is_finished():
            self._ended[trial.number] = row
        return row

    def _trials(self) -> list[Any]:
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        return sorted(trials, key=lambda trial: cast(int, trial.number))

    def _trial(self, config: Config, outcome: Outcome) -> Any:
        """Return a trial as Optuna has it."""
        from optuna.trial import create_trial

        self.space.validate(config)
        active = [d for d in self.space.dimensions if d.name in config]
        state, values = self._ending(outcome)
        attributes: dict[str, Any] = {_CONFIG: config.to_json()}
        if self._driver:
            attributes[_DRIVER] = self._driver
        if outcome.status != "running":
            attributes[_OUTCOME] = outcome.to_json()
        return create_trial(
            state=state,
            values=values,
            params={d.name: config[d.name] for d in active},
            distributions={d.name: _distribution(d) for d in active},
            user_attrs=attributes,
        )

    def _ending(self, outcome: Outcome) -> tuple[Any, list[float] | None]:
        """Return Optuna's state of a trial, and its value if it is done."""
        from optuna.trial import TrialState

        states = {
            "running": TrialState.RUNNING,
            "done": TrialState.COMPLETE,
            "failed": TrialState.FAIL,
            "stopped": TrialState.PRUNED,
        }
        value = outcome.mean if self._is_maximised else 0.0 - outcome.mean
        return states[outcome.status], [value] if outcome.is_done else None

    def _end(self, trial_id: int, outcome: Outcome) -> None:
        self._storage.set_trial_state_values(trial_id, *self._ending(outcome))
        self._heart.remove(trial_id)


def write_outputs(
    path: Path, outputs: Float32[np.ndarray, "repeats examples width"]
) -> None:
    """Write out-of-fold outputs whole or not at all, and make missing folders.

    Raises:
        LedgerError: If the file cannot be written.
    """
    from safetensors.numpy import save

    whole = np.ascontiguousarray(outputs, dtype=np.float32)
    _write_whole(path, save({"outputs": whole}))


def _write_whole(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        draft = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise LedgerError(
            f"Out-of-fold outputs must be writable at {path}, got {error}. "
            "Free space there, or choose another output folder."
        ) from error


def read_outputs(path: Path) -> Float32[np.ndarray, "repeats examples width"]:
    """Read what `write_outputs` wrote.

    Raises:
        LedgerError: If the file is missing, damaged or of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        outputs: np.ndarray = load(path.read_bytes())["outputs"]
    except (OSError, SafetensorError, KeyError) as error:
        raise LedgerError(
            f"{path} must be a whole safetensors file of out-of-fold outputs, got "
            f"{type(error).__name__}: {error}. Run that trial again in a new folder."
        ) from error
    return outputs


def _distribution(dimension: Dimension) -> Any:
    from optuna import distributions

    if isinstance(dimension, Choice):
        return distributions.CategoricalDistribution(dimension.options)
    low, high, log = dimension.low, dimension.high, dimension.log
    if isinstance(dimension, Int):
        return distributions.IntDistribution(int(low), int(high), log=log)
    return distributions.FloatDistribution(low, high, log=log)


def _config_of(trial: Any) -> Config:
    if _CONFIG not in trial.user_attrs:
        raise LedgerError(
            f"Trial {trial.number} was not recorded by fewshot_automl. "
            "Keep a study to one program."
        )
    return Config.from_json(trial.user_attrs[_CONFIG])


def _outcome_of(trial: Any) -> Outcome:
    if not trial.state.is_finished():
        return Outcome(status="running")
    if _OUTCOME not in trial.user_attrs:  # ended by Optuna's own tools
        return Outcome(status="stopped", reason=INTERRUPTED)
    return Outcome.from_json(trial.user_attrs[_OUTCOME])

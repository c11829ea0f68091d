"""A finished model: predictions, and a folder that needs no zoo and no network."""

import hashlib
import json
import math
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Float

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.adaptation.saved import (
    link_members,
    load_fitted,
    own_encoder,
    save_fitted,
)
from fewshot_automl.backbones.sources import file_sha256
from fewshot_automl.data import Columns, Examples, read_inputs, read_like
from fewshot_automl.data.sources import Source, names_source
from fewshot_automl.errors import DataError, ExportError, UserError
from fewshot_automl.evaluation.conformal import CONFORMAL, class_sets
from fewshot_automl.formats import FORMAT, newer_in_words, package_versions
from fewshot_automl.modalities import Input, modality_named
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task

if TYPE_CHECKING:
    from fewshot_automl.export.write import Export

MANIFEST: Final = "model.json"
AT_ONCE: Final = 256
"""Examples that are predicted in one go; one that cannot be read costs no more."""
SILENT_SECONDS: Final = 5.0
"""Most between two sentences of a long prediction, but for one go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """Predicts for new examples; it does not know that there was a search."""

    task: Task
    """What was learnt."""
    config: Config
    """How: method, backbone and all they were given; of an ensemble, the best one's."""
    fitted: Fitted
    """Encoder and head, or an ensemble of several."""
    columns: Columns = field(default_factory=Columns)
    """Where the examples stand in a table like the training data."""
    calibration: Mapping[str, float] = field(default_factory=dict)
    """What `Task.calibrate` needs, fitted to out-of-fold outputs; empty for none."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What is known about the model: scores, intervals, data, date."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Packages that wrote it; filled in by `save`."""

    def predict(self, data: Source) -> list[Any]:
        """Return what is predicted for each example: of classes, the most probable.

        It is None, with a warning, for an image that cannot be read.
        """
        proba = self.predict_proba(data)
        rows = zip(self.task.rules.decode(proba), np.isnan(proba).any(1), strict=True)
        return [None if is_missing else decoded for decoded, is_missing in rows]

    def predict_proba(self, data: Source) -> Float[np.ndarray, "examples width"]:
        """Return outputs: of classes, probabilities in the order of `task.names`.

        Args:
            data: What `fit` takes: a list of texts or images, a table, a file, a
                folder. A target column is not needed and not read. A string that
                names no file, folder or ``hf:`` dataset is one text.

        Returns:
            One row an example; NaN, with a warning, for an image that cannot be read.

        Raises:
            DataError: If the data cannot be read; says where.
        """
        if isinstance(data, str) and self.task.modality == "text":
            data = data if names_source(data) else [data]
        examples = read_inputs(data, self.task, self.columns)
        outputs, faults = self.answers(examples.inputs)
        for finding in examples.unreadable(faults):
            warnings.warn(finding.line(), stacklevel=2)
        return outputs

    def predict_set(
        self, data: Source, alpha: float = 0.1, *, by_class: bool = False
    ) -> list[tuple[str, ...]]:
        """Return, for each example, classes that hold the true one surely enough.

        It is missing in at most a share `alpha` of new examples that are drawn as the
        labelled ones were; with `by_class` of those of each class. An example that
        cannot be read has all classes.
        """
        return self.named_sets(self.predict_proba(data), alpha, by_class=by_class)

    def named_sets(
        self,
        outputs: Float[np.ndarray, "examples width"],
        alpha: float,
        *,
        by_class: bool = False,
    ) -> list[tuple[str, ...]]:
        """Return the set of classes for each row of outputs; see `predict_set`."""
        fitted = self.facts.get(CONFORMAL)
        if fitted is None:
            raise UserError(
                "A model must have been told its cross-validated scores to give sets, "
                "got one without. Fit it again with this version."
            )
        sets = class_sets(fitted, outputs, alpha, by_class=by_class)
        names = np.array(self.task.names, dtype=object)
        return [tuple(names[row]) for row in sets]

    def answers(
        self, inputs: tuple[Input, ...], say: Callable[[str], None] = lambda line: None
    ) -> tuple[Float[np.ndarray, "examples width"], dict[int, str]]:
        """Return outputs, and by row why an example cannot be read; its row is NaN.

        Where there are many, `say` hears how far it is.
        """
        modality = modality_named(self.task.modality)
        outputs = np.full((len(inputs), self.task.width), np.nan)
        faults: dict[int, str] = {}
        told = -math.inf
        for start in range(0, len(inputs), AT_ONCE):
            if len(inputs) > AT_ONCE and time.monotonic() - told >= SILENT_SECONDS:
                say(f"Predicting: {start:,} of {len(inputs):,} examples are done.")
                told = time.monotonic()
            rows = range(len(inputs))[start : start + AT_ONCE]
            try:
                outputs[rows] = self.outputs_of(inputs[start : start + AT_ONCE])
            except (DataError, OSError):
                looks = modality.look(inputs[start : start + AT_ONCE])
                bad = {start + i: x.fault for i, x in enumerate(looks) if x.fault}
                if not bad:
                    raise
                faults |= bad
                good = [row for row in rows if row not in bad]
                outputs[good] = self.outputs_of(tuple(inputs[row] for row in good))
        return outputs, faults

    def outputs_of(
        self, inputs: tuple[Input, ...]
    ) -> Float[np.ndarray, "examples width"]:
        """Return calibrated outputs for examples that were read already."""
        if not inputs:
            return np.zeros((0, self.task.width))
        encodings = Encodings(inputs=inputs, encoder=own_encoder(self.fitted))
        outputs = self.fitted.outputs(encodings).astype(np.float64)
        return self.task.rules.calibrate(outputs, self.calibration)

    def scores_on(
        self, labelled: Examples, say: Callable[[str], None] = lambda line: None
    ) -> dict[str, float]:
        """Return the task's metric, those its kind reports, and n.

        Where some examples are not answered, those of decisions are of the others, and
        `coverage` is their share.
        """
        rules, (outputs, faults) = self.task.rules, self.answers(labelled.inputs, say)
        for finding in labelled.unreadable(faults):
            raise DataError(f"Test data must be readable, got {finding.line()}")
        names = dict.fromkeys((self.task.metric, *rules.reported))
        scores = rules.scores(labelled.targets, outputs, list(names))
        return {**scores, "n": float(len(labelled))}

    def export(
        self,
        format: str,
        out: Path | str,
        data: Source,
        *,
        quantize: str | None = None,
        max_loss: float = 0.01,
    ) -> "Export":
        """Write the model for another runtime, and prove there that it is the same.

        Args:
            format: A row of `export.formats.FORMATS`, such as ``onnx``.
            out: A folder that is new, empty or an export, which is replaced.
            data: Examples that both are compared on; labelled as those of the fit for
                int8.
            quantize: ``int8``, or None for 32-bit floats.
            max_loss: Most that int8 may cost in the task's metric on `data`.

        Raises:
            UserError: If the format is not there, or `out` holds something else.
            ExportError: If it cannot express the model, or answers otherwise.
        """
        from fewshot_automl.export.write import Evidence, write_export

        if quantize is None:
            evidence = Evidence(
                inputs=read_inputs(data, self.task, self.columns).inputs
            )
        else:
            given = read_like(data, self.task, self.columns).labelled(self.task)
            evidence = Evidence(inputs=given.inputs, targets=given.targets)
        return write_export(
            self, format, out, evidence, quantize=quantize, max_loss=max_loss
        )

    def save(self, folder: Path | str) -> Path:
        """Write a self-contained folder: safetensors and JSON, with their hashes.

        An existing model in that place is replaced once the new one is whole.

        Raises:
            ExportError: If the folder holds something that is not a model.
        """
        about = {
            "task": self.task,
            "config": self.config,
            "columns": self.columns,
            "calibration": self.calibration,
            "facts": self.facts,
        }
        return _written(Path(folder), about, partial(save_fitted, self.fitted))

    def __getstate__(self) -> dict[str, bytes]:
        """Return the files that `save` writes: pickles hold them and no code."""
        with TemporaryDirectory() as home:
            folder = self.save(Path(home) / "model")
            files = [path for path in folder.rglob("*") if path.is_file()]
            return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}

    def __setstate__(self, files: Mapping[str, bytes]) -> None:
        """Become what `load` makes of the files, after checking each of them."""
        with TemporaryDirectory(ignore_cleanup_errors=True) as home:
            for name, content in files.items():
                path = Path(home) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            loaded = Predictor.load(home)
        for row in fields(self):
            object.__setattr__(self, row.name, getattr(loaded, row.name))

    @classmethod
    def load(cls, folder: Path | str) -> "Predictor":
        """Return a saved model, after checking every file against its hash.

        Args:
            folder: What `save` wrote, or the output folder of `fewshot fit`.

        Raises:
            ExportError: If it is no model, is damaged, or is from a newer version.
        """
        folder = Path(folder)
        if not (folder / MANIFEST).exists():
            folder = folder / "model"
        if not (folder / MANIFEST).exists():
            raise ExportError(
                f"Model folder must hold {MANIFEST}, got {folder.parent}. Give the "
                "--out folder of a finished `fewshot fit`."
            )
        manifest = _read_manifest(folder / MANIFEST)
        try:
            for name, expected in manifest["files"].items():
                if not (folder / name).exists():
                    raise ExportError(f"{folder / name} is missing. Copy it again.")
                if (got := file_sha256(folder / name)) != expected:
                    raise ExportError(
                        f"Model file {folder / name} must have sha256 {expected}, got "
                        f"{got}. It was damaged or changed; copy the model again."
                    )
            return cls(
                task=Task.from_json(manifest["task"]),
                config=Config.from_json(manifest["config"]),
                fitted=load_fitted(folder, manifest["fitted"]),
                columns=Columns.from_json(manifest["columns"]),
                calibration=manifest["calibration"],
                facts=manifest["facts"],
                versions=manifest["versions"],
            )
        except (KeyError, TypeError) as error:  # whole, by its hash, and yet not ours
            raise ExportError(
                f"Model in {folder} must be one that this version of fewshot_automl "
                "can read, got one that another version wrote. Predict with that "
                "version, or fit again."
            ) from error


def save_again(
    source: Path,
    picked: Sequence[tuple[int, Mapping[str, Any]]],
    folder: Path,
    **about: Any,
) -> Path:
    """Write a model of some members of a saved one, without loading them.

    Args:
        source: The folder of the saved model.
        picked: The place of each member in it, and what changes in its state.
        folder: Where to write.
        **about: All of `Predictor` but `fitted` and `versions`.

    Raises:
        ExportError: If the saved model is damaged.
    """
    old = _read_manifest(source / MANIFEST)
    link = partial(link_members, source, old["fitted"], picked)
    return _written(folder, about, link, frozenset(old["files"].values()))


def _written(
    folder: Path,
    about: Mapping[str, Any],
    put: Callable[[Path], dict[str, Any]],
    known: Set[str] = frozenset(),
) -> Path:
    """Write a model's folder, whole or not at all; `put` writes what is fitted.

    Files must have one of the `known` hashes, if there are some.
    """
    is_model = (folder / MANIFEST).exists()
    if folder.exists() and not is_model and any(folder.iterdir()):
        raise ExportError(
            f"Model folder must be new, empty or a model, got {folder}. "
            "Choose another folder."
        )
    draft = folder.with_name(folder.name + ".writing")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    state = put(draft)
    (draft / MANIFEST).unlink(missing_ok=True)  # of another model
    hashes = {
        path.relative_to(draft).as_posix(): file_sha256(path)
        for path in sorted(draft.rglob("*"))
        if path.is_file()
    }
    if known and (odd := [n for n, found in hashes.items() if found not in known]):
        raise ExportError(
            f"Files of a model must be as they were written, got {odd[0]} changed. It "
            "was damaged; copy the study again, or fit again."
        )
    manifest = {
        "format": FORMAT,
        **{
            n: dict(x.to_json() if hasattr(x, "to_json") else x)
            for n, x in about.items()
        },
        "versions": package_versions(),
        "fitted": state,
        "files": hashes,
    }
    sealed = {**manifest, "sha256": _seal(manifest)}
    (draft / MANIFEST).write_text(json.dumps(sealed, indent=2), "utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)
    return folder


def _seal(manifest: Mapping[str, Any]) -> str:
    """Return the hash that tells whether a manifest is as it was written."""
    rest = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _read_manifest(path: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads(path.read_text("utf-8"))
        number = int(manifest["format"])
    except (ValueError, KeyError, TypeError) as error:
        raise ExportError(
            f"Model file {path} must be the JSON that fewshot_automl wrote, got "
            f"{error}. It was damaged; copy the model again."
        ) from error
    if words := newer_in_words(path, number, manifest):
        raise ExportError(words)
    if manifest.get("sha256") != _seal(manifest):
        raise ExportError(
            f"Model file {path} must be as it was written, and its sha256 says that "
            "it was damaged or changed. Copy the model again."
        )
    return manifest

"""A finished model: predictions, and a folder that needs no zoo and no network."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.adaptation.saved import load_fitted, own_encoder, save_fitted
from fewshot_automl.backbones.sources import file_sha256
from fewshot_automl.data import Columns, Examples, read_inputs
from fewshot_automl.data.sources import Source
from fewshot_automl.errors import ExportError
from fewshot_automl.modalities import Input
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task

FORMAT: Final = 1
MANIFEST: Final = "model.json"
PACKAGES: Final = ("fewshot-automl", "torch", "transformers", "timm", "numpy")


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
        """Return what is predicted for each example: of classes, the most probable."""
        return self.task.rules.decode(self.predict_proba(data))

    def predict_proba(self, data: Source) -> Float[np.ndarray, "examples width"]:
        """Return outputs: of classes, probabilities in the order of `task.names`.

        Args:
            data: What `fit` takes: a list of texts or images, a table, a file, a
                folder. A target column is not needed and not read.

        Raises:
            DataError: If the data cannot be read; says where.
        """
        return self.outputs_of(read_inputs(data, self.task, self.columns).inputs)

    def outputs_of(
        self, inputs: tuple[Input, ...]
    ) -> Float[np.ndarray, "examples width"]:
        """Return calibrated outputs for examples that were read already."""
        if not inputs:
            return np.zeros((0, self.task.width))
        encodings = Encodings(inputs=inputs, encoder=own_encoder(self.fitted))
        outputs = self.fitted.outputs(encodings).astype(np.float64)
        return self.task.rules.calibrate(outputs, self.calibration)

    def scores_on(self, labelled: Examples) -> dict[str, float]:
        """Return the task's metric, those its kind reports, and n."""
        rules, outputs = self.task.rules, self.outputs_of(labelled.inputs)
        scores = {
            name: rules.metrics[name].value(labelled.targets, outputs)
            for name in dict.fromkeys((self.task.metric, *rules.reported))
        }
        return {**scores, "n": float(len(labelled))}

    def save(self, folder: Path | str) -> Path:
        """Write a self-contained folder: safetensors and JSON, with their hashes.

        An existing model in that place is replaced once the new one is whole.

        Raises:
            ExportError: If the folder holds something that is not a model.
        """
        folder = Path(folder)
        if (
            folder.exists()
            and not (folder / MANIFEST).exists()
            and any(folder.iterdir())
        ):
            raise ExportError(
                f"Model folder must be new, empty or a model, got {folder}. "
                "Choose another folder."
            )
        draft = folder.with_name(folder.name + ".writing")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        state = save_fitted(self.fitted, draft)
        manifest = {
            "format": FORMAT,
            "task": self.task.to_json(),
            "config": self.config.to_json(),
            "columns": self.columns.to_json(),
            "calibration": dict(self.calibration),
            "facts": dict(self.facts),
            "versions": {name: metadata.version(name) for name in PACKAGES},
            "fitted": state,
            "files": {
                path.relative_to(draft).as_posix(): file_sha256(path)
                for path in sorted(draft.rglob("*"))
                if path.is_file()
            },
        }
        sealed = {**manifest, "sha256": _seal(manifest)}
        (draft / MANIFEST).write_text(json.dumps(sealed, indent=2), "utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
        return folder

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
                _check(folder / name, expected)
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
    if number > FORMAT:
        raise ExportError(
            f"Model format must be at most {FORMAT}, got {number}. "
            "Update fewshot_automl."
        )
    if manifest.get("sha256") != _seal(manifest):
        raise ExportError(
            f"Model file {path} must be as it was written, and its sha256 says that "
            "it was damaged or changed. Copy the model again."
        )
    return manifest


def _check(path: Path, expected: str) -> None:
    if not path.exists():
        raise ExportError(f"Model is incomplete: {path} is missing. Copy it again.")
    got = file_sha256(path)
    if got != expected:
        raise ExportError(
            f"Model file {path} must have sha256 {expected}, got {got}. It was damaged "
            "or changed; copy the model again."
        )

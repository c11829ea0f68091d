"""Out-of-fold predictions on disk: one safetensors file a trial, never a pickle."""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from fewshot_automl.errors import LedgerError, ShapeError


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """Holds what one Config predicted for the examples it had not seen."""

    proba: Float[np.ndarray, "repeats examples classes"]
    """Class probabilities; a row of NaN where a fold was not run."""
    folds: Int[np.ndarray, "repeats examples"]
    """In which fold an example was predicted; see `Folds.assignment`."""


def save_predictions(path: Path, predictions: Predictions) -> None:
    """Write predictions whole or not at all, and make missing folders.

    Args:
        path: The file; an old one is replaced.
        predictions: What to write.

    Raises:
        LedgerError: If the file cannot be written.
    """
    from safetensors.numpy import save

    content = save(
        {
            "proba": np.ascontiguousarray(predictions.proba, dtype=np.float64),
            "folds": np.ascontiguousarray(predictions.folds, dtype=np.int64),
        }
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise LedgerError(
            f"Predictions must be writable at {path}, got {error}. "
            "Free space there, or choose another output folder."
        ) from error


def load_predictions(path: Path) -> Predictions:
    """Read what `save_predictions` wrote.

    Args:
        path: The file.

    Raises:
        LedgerError: If the file is missing, damaged or of another kind.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        arrays = load(path.read_bytes())
        proba, folds = arrays["proba"], arrays["folds"]
        if proba.ndim != 3 or folds.shape != proba.shape[:2]:
            raise ShapeError(f"proba {proba.shape} does not fit folds {folds.shape}")
    except (OSError, SafetensorError, KeyError, ShapeError) as error:
        raise LedgerError(
            f"Predictions must be a whole safetensors file with proba and folds, got "
            f"{type(error).__name__}: {error} in {path}. Run that trial again."
        ) from error
    return Predictions(proba=proba, folds=folds)

"""Out-of-fold outputs on disk: one safetensors file a trial, never a pickle."""

import os
import tempfile
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from fewshot_automl.errors import LedgerError, ShapeError


def write_outputs(
    path: Path, outputs: Float32[np.ndarray, "repeats examples width"]
) -> None:
    """Write outputs whole or not at all, and make missing folders.

    Args:
        path: The file; an old one is replaced.
        outputs: What to write.

    Raises:
        LedgerError: If the file cannot be written.
    """
    from safetensors.numpy import save

    content = save({"outputs": np.ascontiguousarray(outputs, dtype=np.float32)})
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
        if outputs.ndim != 3 or outputs.dtype != np.float32:
            raise ShapeError(f"{outputs.dtype} of shape {outputs.shape}")
    except (OSError, SafetensorError, KeyError, ShapeError) as error:
        raise LedgerError(
            f"{path} must be a whole safetensors file of out-of-fold outputs, got "
            f"{type(error).__name__}: {error}. Run that trial again in a new folder."
        ) from error
    return outputs

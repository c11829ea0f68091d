"""Run model.onnx by onnxruntime on the CPU."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def load(folder: Path) -> Callable[[dict[str, np.ndarray]], Any]:
    """Return what turns inputs by name into logits and probabilities."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    session = onnxruntime.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    return lambda inputs: session.run(["logits", "probabilities"], inputs)

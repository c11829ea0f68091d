"""Run model.tflite by LiteRT."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def load(folder: Path) -> Callable[[dict[str, np.ndarray]], Any]:
    """Return what turns inputs by name into logits and probabilities."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(folder / "model.tflite"))
    signatures = interpreter.get_signature_list()

    def run(inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, ...]:
        name = next(iter(signatures))
        if len(signatures) > 1:  # one a length of texts
            name = f"length_{next(iter(inputs.values())).shape[1]}"
        runner = interpreter.get_signature_runner(name)
        wanted = runner.get_input_details()
        given = {
            f"args_{at}": value.astype(wanted[f"args_{at}"]["dtype"])
            for at, value in enumerate(inputs.values())
        }
        made = runner(**given)
        return made["output_0"].copy(), made["output_1"].copy()

    return run

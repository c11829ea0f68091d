"""What MLflow loads: the model of this folder, as its predict.py reads it."""

import runpy
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from mlflow.models import set_model

HERE = Path(__file__).resolve().parent


@cache
def model() -> Any:
    """Return the model, read when it is first asked."""
    return runpy.run_path(str(HERE / "predict.py"))["Model"](HERE)


def answers(model_input: Any) -> Any:
    """Return a frame with `answer` and `probabilities` for a column of examples."""
    return pd.DataFrame(model().predict([*model_input.iloc[:, 0]]))


answers.__annotations__.clear()  # MLflow takes hints for rules about the data
set_model(answers)

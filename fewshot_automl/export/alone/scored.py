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


def answers(model_input):  # noqa: ANN001, ANN201  MLflow takes hints for rules
    """Return a frame with `answer` and `probabilities` for a column of examples."""
    return pd.DataFrame(model().predict([*model_input.iloc[:, 0]]))


set_model(answers)

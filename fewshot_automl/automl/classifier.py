"""A scikit-learn style classifier over the whole of `fit`."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, SupportsFloat, SupportsIndex

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from fewshot_automl.automl.fit import fit
from fewshot_automl.automl.result import Result
from fewshot_automl.automl.settings import Settings
from fewshot_automl.cells import is_missing
from fewshot_automl.data import Source
from fewshot_automl.errors import DataError


@dataclass(eq=False, repr=False)
class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """Searches, fits and predicts; works wherever a scikit-learn classifier does.

    Parameters are those of the function `fit`, where None is the default too.
    """

    budget: str | SupportsFloat = "5min"
    trials: SupportsIndex | None = None
    metric: str | None = None
    backbones: Sequence[str] | np.ndarray | None = None
    methods: Sequence[str] | np.ndarray | None = None
    seed: SupportsIndex = 0
    limits: Mapping[str, SupportsFloat] | None = None
    prior: Path | str | None = None
    device: str | None = None
    """Where to train and predict, as ``"cpu"``; the best if None."""
    out: Path | str | None = None
    """Folder for study, model and report, of one `fit` only. If None they lie in the
    cache, without the model: that is in memory, and `save` writes it."""
    progress: bool = False
    classes_: np.ndarray = field(init=False)
    """Labels as they were given, sorted."""
    result_: Result = field(init=False)
    """What the last `fit` found."""

    def fit(self, X: Source, y: object) -> "FewShotClassifier":
        """Search and fit.

        Args:
            X: Texts, image files or pixel arrays, or a table with a column of them.
            y: One label an example, or one-hot rows. Whatever stands there names a
                class, numbers too; in the saved model they are words. None, NaN, NA
                and blank text are no label.

        Raises:
            UserError: If labels or examples cannot be read or learnt.
        """
        labels, is_labelled = _labels_of(y)
        given = np.full(len(is_labelled), None, dtype=object)
        given[is_labelled] = _names(labels)
        asked = self.get_params(deep=False)
        settings = Settings(target_kind="classes", device=asked.pop("device"))
        self.result_ = fit(_examples(X), labels=given, settings=settings, **asked)
        self.classes_ = np.unique(labels)
        if self.out is None:
            shutil.rmtree(self.result_.folder / "model", ignore_errors=True)
        return self

    def predict_proba(self, X: Source) -> np.ndarray:
        """Return class probabilities in the order of `classes_`."""
        check_is_fitted(self)
        predictor = self.result_.predictor
        columns = [predictor.task.names.index(name) for name in _names(self.classes_)]
        proba: np.ndarray = predictor.predict_proba(_examples(X))[:, columns]
        return proba

    def predict(self, X: Source) -> np.ndarray:
        """Return the most probable label of each example; one text is one example.

        It is None, with a warning, for an image that cannot be read.
        """
        proba = self.predict_proba(X)
        labels: np.ndarray = self.classes_[proba.argmax(axis=1)]
        if (is_unread := np.isnan(proba).any(axis=1)).any():
            labels = labels.astype(object)
            labels[is_unread] = None
        return labels

    def score(
        self, X: Source, y: object, sample_weight: Sequence[float] | None = None
    ) -> float:
        """Return the accuracy on the examples that have a label."""
        labels, is_labelled = _labels_of(y)
        if not is_labelled.any():
            raise DataError("y must have a label to score, got none. Label some.")
        weights = np.ones(len(is_labelled)) if sample_weight is None else sample_weight
        is_right = self.predict(X)[is_labelled] == labels
        return float(np.average(is_right, weights=np.asarray(weights)[is_labelled]))

    def save(self, folder: Path | str) -> Path:
        """Write the fitted model; see `Predictor.save`."""
        check_is_fitted(self)
        return self.result_.predictor.save(folder)

    def __sklearn_tags__(self) -> Any:
        """Say that examples are texts or images, and no rows of numbers."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array, tags.input_tags.string = False, True
        return tags


def _examples(X: Source) -> Source:
    # One text alone is no name of a file.
    return [X] if isinstance(X, (str, bytes, Path)) else X


def _labels_of(y: Any) -> tuple[np.ndarray, np.ndarray]:
    try:
        table = pd.DataFrame(y.toarray() if hasattr(y, "toarray") else y)
        column = (pd.from_dummies(table) if table.shape[1] > 1 else table).iloc[:, 0]
        is_labelled = np.array([not is_missing(cell) for cell in column], np.bool_)
        labels = column[is_labelled].infer_objects().to_numpy()
        if (kind := pd.api.types.infer_dtype(labels)).startswith("mixed"):
            raise TypeError(f"they are {kind}")
    except (TypeError, ValueError, IndexError) as error:
        got = f"{type(y).__name__} {getattr(y, 'shape', '')}".strip()
        raise DataError(
            "y must hold one label an example, all numbers or all words, in a list, an "
            f"array, a column or one-hot rows, got {got} ({error}). Pass one column."
        ) from error
    return labels.astype(np.str_) if kind == "string" else labels, is_labelled


def _names(labels: np.ndarray) -> list[str]:
    return pd.Series(labels).astype(str).tolist()

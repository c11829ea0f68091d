"""A scikit-learn style classifier over the whole of `fit`."""

import shutil
import weakref
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from fewshot_automl.automl.fit import fit
from fewshot_automl.automl.result import Result
from fewshot_automl.automl.settings import Settings
from fewshot_automl.errors import UserError


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """Searches, fits and predicts; works wherever a scikit-learn classifier does.

    The study's folder goes with the classifier; `save` keeps the model.

    Args:
        budget: Wall time of one `fit`, as ``"2min"`` or seconds; ``"none"`` for no
            limit.
        trials: Most trials; None for no limit.
        metric: Objective to maximise; the target kind's default if None.
        backbones: Backbones to search; all at hand if None.
        methods: Methods to search; all that fit if None.
        seed: Of folds, suggestions and trainings.

    Attributes:
        classes_: Labels as they were given, sorted.
        result_: The `Result` of the last `fit`.
    """

    classes_: np.ndarray
    result_: Result

    def __init__(
        self,
        budget: str | float = "5min",
        trials: int | None = None,
        metric: str | None = None,
        backbones: Sequence[str] | None = None,
        methods: Sequence[str] | None = None,
        seed: int = 0,
    ) -> None:
        self.budget = budget
        self.trials = trials
        self.metric = metric
        self.backbones = backbones
        self.methods = methods
        self.seed = seed

    def fit(self, X: Collection[Any], y: Collection[Any]) -> "FewShotClassifier":
        """Search and fit.

        Args:
            X: Texts, image files or pixel arrays.
            y: One label an example. Whatever stands there names a class, numbers too;
                in the saved model they are words.

        Raises:
            UserError: If two labels read the same, or the examples cannot be learnt.
        """
        self.classes_, places = np.unique(np.asarray(y), return_inverse=True)
        names = [str(label) for label in self.classes_.tolist()]
        if len(set(names)) < len(names):
            raise UserError(f"Labels must read differently, got {names}. Rename some.")
        self.result_ = fit(
            list(X),
            labels=[names[place] for place in places],
            settings=Settings(target_kind="classes"),
            **self.get_params(),
        )
        # Cross-validation makes many, and each holds a whole model.
        weakref.finalize(self, shutil.rmtree, self.result_.folder, ignore_errors=True)
        return self

    def predict_proba(self, X: Collection[Any]) -> np.ndarray:
        """Return class probabilities in the order of `classes_`."""
        check_is_fitted(self)
        predictor = self.result_.predictor
        columns = list(map(predictor.task.names.index, map(str, self.classes_)))
        proba: np.ndarray = predictor.predict_proba(list(X))[:, columns]
        return proba

    def predict(self, X: Collection[Any]) -> np.ndarray:
        """Return the most probable label of each example."""
        best: np.ndarray = self.predict_proba(X).argmax(axis=1)
        labels: np.ndarray = self.classes_[best]
        return labels

    def save(self, folder: Path | str) -> Path:
        """Write the fitted model; see `Predictor.save`."""
        check_is_fitted(self)
        return self.result_.predictor.save(folder)

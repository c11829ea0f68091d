"""Baselines without a backbone: the majority class, and TF-IDF for texts."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Int
from safetensors.numpy import load_file, save_file

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.heads import LinearHead
from fewshot_automl.adaptation.method import Fitted, Job, Profile
from fewshot_automl.adaptation.probe import fit_head
from fewshot_automl.adaptation.terms import SPLITTERS, Terms
from fewshot_automl.modalities import MODALITIES
from fewshot_automl.space import Dimension

CHUNK: Final = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Frequencies:
    """Predicts the training frequencies, whatever the example."""

    proba: Float[np.ndarray, " classes"]

    @property
    def is_finite(self) -> bool:
        """Return whether every number in it is finite."""
        return bool(np.isfinite(self.proba).all())

    def predict_proba(
        self, encodings: Encodings
    ) -> Float[np.ndarray, "examples classes"]:
        """Return the same row for every example."""
        return np.tile(self.proba, (len(encodings), 1))

    def save(self, folder: Path) -> dict[str, Any]:
        """Return the frequencies; nothing is written."""
        return {"proba": self.proba.tolist()}

    @classmethod
    def load(cls, folder: Path, state: dict[str, Any]) -> "Frequencies":
        """Return what `save` wrote."""
        return cls(proba=np.array(state["proba"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Majority:
    """Predicts the most frequent class: the floor under every score."""

    name: str = "majority"
    needs_backbone: bool = False
    is_dear: bool = False
    modalities: tuple[str, ...] = field(default=tuple(MODALITIES))

    def dimensions(self, profile: Profile) -> tuple[Dimension, ...]:
        """Return nothing: there is nothing to choose."""
        return ()

    def fit(
        self, train: Encodings, labels: Int[np.ndarray, " examples"], job: Job
    ) -> Fitted:
        """Count the classes (with one pseudo-count, so that no loss is infinite)."""
        counts = np.bincount(labels, minlength=job.task.classes) + 1.0
        return Frequencies(proba=counts / counts.sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class TermHead:
    """Logistic regression on TF-IDF weights of words and character n-grams."""

    terms: tuple[Terms, Terms]
    """Words and pairs, and character n-grams."""
    head: LinearHead

    @property
    def is_finite(self) -> bool:
        """Return whether every number in it is finite."""
        return bool(np.isfinite(self.head.weight).all())

    def predict_proba(
        self, encodings: Encodings
    ) -> Float[np.ndarray, "examples classes"]:
        """Return class probabilities; each row sums to 1."""
        texts = [str(text) for text in encodings.inputs]
        return np.concatenate(
            [
                self.head.predict_proba(_weigh(self.terms, texts[i : i + CHUNK]))
                for i in range(0, len(texts), CHUNK)
            ]
        )

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the arrays; return the terms."""
        frequencies = {
            f"inverse_frequency_{index}": terms.inverse_frequency
            for index, terms in enumerate(self.terms)
        }
        save_file({**self.head.arrays(), **frequencies}, folder / "head.safetensors")
        return {"terms": [list(terms.terms) for terms in self.terms]}

    @classmethod
    def load(cls, folder: Path, state: dict[str, Any]) -> "TermHead":
        """Return what `save` wrote."""
        arrays = load_file(folder / "head.safetensors")
        words, characters = (
            Terms(
                kind=kind,
                terms=tuple(state["terms"][index]),
                inverse_frequency=arrays[f"inverse_frequency_{index}"],
            )
            for index, kind in enumerate(SPLITTERS)
        )
        return cls(terms=(words, characters), head=LinearHead.from_arrays(arrays))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tfidf:
    """Fits logistic regression to TF-IDF: what a good engineer tries first on texts."""

    name: str = "tfidf"
    needs_backbone: bool = False
    is_dear: bool = False
    modalities: tuple[str, ...] = ("text",)

    def dimensions(self, profile: Profile) -> tuple[Dimension, ...]:
        """Return nothing: the strength is cross-validated inside."""
        return ()

    def fit(
        self, train: Encodings, labels: Int[np.ndarray, " examples"], job: Job
    ) -> Fitted:
        """Count terms, weigh them, fit the head."""
        texts = [str(text) for text in train.inputs]
        terms = (Terms.counted(texts, "words"), Terms.counted(texts, "characters"))
        head = fit_head(
            _weigh(terms, texts),
            labels,
            job.task.classes,
            kind="logistic",
            scaling="unit",
            weighting="none",
            seed=job.seed,
        )
        assert isinstance(head, LinearHead)
        return TermHead(terms=terms, head=head)


def _weigh(
    terms: tuple[Terms, Terms], texts: list[str]
) -> Float[np.ndarray, "texts terms"]:
    """Return the weights side by side."""
    return np.hstack([each.weigh(texts) for each in terms])

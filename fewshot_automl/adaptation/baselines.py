"""Methods without a backbone: a constant answer, and TF-IDF under a linear head."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float
from safetensors.numpy import load_file, save_file
from scipy.sparse import hstack

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.heads import Head, LinearHead, Outputs, SparseRows
from fewshot_automl.adaptation.kinds import WIDE, Numbers, head_from_state, head_numbers
from fewshot_automl.adaptation.method import Fitted, Job, Method
from fewshot_automl.errors import TrialError
from fewshot_automl.modalities import Input
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task

MAX_TERMS: Final = 20_000
"""The most frequent ones are kept, of words and of character n-grams each."""
TERMS: Final[tuple[dict[str, Any], ...]] = (
    {"analyzer": "word", "ngram_range": (1, 2), "token_pattern": r"\b\w+\b"},
    {"analyzer": "char_wb", "ngram_range": (3, 4)},
)
"""What counts as a term, as scikit-learn's `TfidfVectorizer` has it."""

Vectorizer = Any
"""A fitted `TfidfVectorizer`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """Predicts the same for every example; of classes, the training frequencies."""

    output: Float[np.ndarray, " outputs"]

    @property
    def is_finite(self) -> bool:
        """Return whether every number in it is finite."""
        return bool(np.isfinite(self.output).all())

    def outputs(self, encodings: Encodings) -> Outputs:
        """Return the same row for every example."""
        return np.tile(self.output, (len(encodings), 1))

    def save(self, folder: Path) -> dict[str, Any]:
        """Return the output; nothing is written."""
        return {"output": self.output.tolist()}

    @classmethod
    def load(cls, folder: Path, state: dict[str, Any]) -> "Constant":
        """Return what `save` wrote."""
        return cls(output=np.array(state["output"]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Majority(Method):
    """Predicts what is best without looking: the floor under every score."""

    name: str = "majority"
    title: str = "Constant answer"
    meaning: str = (
        "always gives the same answer, such as the most common class; no model should "
        "be worse"
    )
    needs_backbone: bool = False
    learns: bool = False

    def numbers(
        self, config: Config, width: int, task: Task, inputs: Sequence[Input]
    ) -> Numbers:
        """Return the size of the output."""
        return [(task.width, WIDE)]

    def fit(self, train: Encodings, targets: np.ndarray, job: Job) -> Fitted:
        """Ask the task for its best answer without information."""
        return Constant(output=job.task.rules.no_information(targets))


@dataclass(frozen=True, slots=True, kw_only=True)
class TermHead:
    """A head on TF-IDF weights of words and character n-grams."""

    terms: tuple[Vectorizer, ...]
    """One for each of `TERMS`."""
    head: Head

    @property
    def is_finite(self) -> bool:
        """Return whether every number in it is finite."""
        return self.head.is_finite

    def outputs(self, encodings: Encodings) -> Outputs:
        """Return what the head predicts."""
        texts = [str(text) for text in encodings.inputs]
        rows = _unit([each.transform(texts) for each in self.terms])
        is_sparse = isinstance(self.head, LinearHead)
        return self.head.outputs(rows if is_sparse else rows.toarray())

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the numbers in it, by name."""
        frequencies = {f"idf_{i}": each.idf_ for i, each in enumerate(self.terms)}
        return {**self.head.arrays(), **frequencies}

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the arrays; return the terms in the order of their columns."""
        save_file(self.arrays(), folder / "head.safetensors")
        names = [each.get_feature_names_out().tolist() for each in self.terms]
        return {"head": self.head.kind, "terms": names}

    @classmethod
    def load(cls, folder: Path, state: dict[str, Any]) -> "TermHead":
        """Return what `save` wrote."""
        arrays = load_file(folder / "head.safetensors")
        terms = tuple(_vectorizers(state["terms"]))
        for place, each in enumerate(terms):
            each.idf_ = arrays.pop(f"idf_{place}")
        return cls(terms=terms, head=head_from_state(state["head"], arrays))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tfidf(Method):
    """Fits a linear head to TF-IDF: what a good engineer tries first on texts."""

    name: str = "tfidf"
    title: str = "Word counts (TF-IDF)"
    meaning: str = "looks only at which words occur, with no pretrained model"
    needs_backbone: bool = False
    modalities: tuple[str, ...] = ("text",)

    def numbers(
        self, config: Config, width: int, task: Task, inputs: Sequence[Input]
    ) -> Numbers:
        """Return the sizes of the terms' weights and of the head on them."""
        try:
            counted, _ = _counted([str(text) for text in inputs])
        except TrialError:  # it says so where it is recorded
            return []
        terms = sum(len(each.idf_) for each in counted)
        return [*head_numbers(config, terms, task, len(inputs)), (terms, WIDE)]

    def fit(self, train: Encodings, targets: np.ndarray, job: Job) -> Fitted:
        """Count terms, weigh them, fit the head."""
        terms, rows = _counted([str(text) for text in train.inputs])
        return TermHead(terms=terms, head=job.fit_head(rows, targets))


def _counted(texts: list[str]) -> tuple[tuple[Vectorizer, ...], SparseRows]:
    """Return vectorizers that know the terms of some texts, and their weights."""
    made = tuple(_vectorizers([None] * len(TERMS)))
    try:
        return made, _unit([each.fit_transform(texts) for each in made])
    except ValueError as error:
        raise TrialError(
            "TF-IDF found no term in the texts. Use a method with a backbone."
        ) from error


def _vectorizers(vocabularies: Sequence[list[str] | None]) -> Iterator[Vectorizer]:
    from sklearn.feature_extraction.text import TfidfVectorizer

    for options, vocabulary in zip(TERMS, vocabularies, strict=True):
        yield TfidfVectorizer(
            **options, sublinear_tf=True, max_features=MAX_TERMS, vocabulary=vocabulary
        )


def _unit(weights: list[SparseRows]) -> SparseRows:
    from sklearn.preprocessing import normalize

    rows: SparseRows = normalize(hstack(weights, "csr"), copy=False)
    return rows

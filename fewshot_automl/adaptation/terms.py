"""Texts as weights of the terms in them: TF-IDF, as scikit-learn computes it.

Written out here because importing scikit-learn brings in pandas, and costs more than
all folds of a TF-IDF trial; a test holds the numbers equal to scikit-learn's.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Float

from fewshot_automl.errors import TrialError

Kind = Literal["words", "characters"]

MAX_TERMS: Final = 20_000
"""The most frequent ones are kept."""
CHARACTERS: Final = (3, 4)
"""Lengths of character n-grams."""
_WORD: Final = re.compile(r"\b\w+\b")


def words(text: str) -> Iterator[str]:
    """Yield the words of a text and the pairs of neighbours.

    >>> list(words("A good film"))
    ['a', 'good', 'film', 'a good', 'good film']
    """
    found = _WORD.findall(text.lower())
    yield from found
    yield from (f"{left} {right}" for left, right in itertools.pairwise(found))


def characters(text: str) -> Iterator[str]:
    """Yield pieces of words and the blanks around them; of short words once.

    >>> list(characters("Ab c"))
    [' ab', 'ab ', ' ab ', ' c ']
    """
    for word in text.lower().split():
        padded = f" {word} "
        for length in CHARACTERS:
            yield padded[:length]
            for start in range(1, len(padded) - length + 1):
                yield padded[start : start + length]
            if len(padded) <= length:
                break


SPLITTERS: Final[Mapping[Kind, Callable[[str], Iterator[str]]]] = {
    "words": words,
    "characters": characters,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Knows terms and how rare each is, and weighs texts by them.

    Source:
        Salton and Buckley, Inf. Process. Manag. 1988 (log-scaled counts, smoothed
        inverse document frequency, unit length).
    """

    kind: Kind
    """What counts as a term."""
    terms: tuple[str, ...]
    """In the order of the columns."""
    inverse_frequency: Float[np.ndarray, " terms"]
    """Weight of one occurrence."""

    @classmethod
    def counted(cls, texts: Sequence[str], kind: Kind) -> "Terms":
        """Return the terms of some texts.

        Raises:
            TrialError: If there are none.
        """
        totals: Counter[str] = Counter()
        documents: Counter[str] = Counter()
        for text in texts:
            counts = Counter(SPLITTERS[kind](text))
            totals.update(counts)
            documents.update(counts.keys())
        if not totals:
            raise TrialError(
                "TF-IDF found no term in the texts. Use a method with a backbone."
            )
        terms = sorted(term for term, _ in totals.most_common(MAX_TERMS))
        seen = np.array([documents[term] for term in terms], dtype=np.float64)
        return cls(
            kind=kind,
            terms=tuple(terms),
            inverse_frequency=np.log((1 + len(texts)) / (1 + seen)) + 1,
        )

    def weigh(self, texts: Sequence[str]) -> Float[np.ndarray, "texts terms"]:
        """Return one row a text, of length 1; of zeros where no term is known."""
        column = {term: place for place, term in enumerate(self.terms)}
        rows = np.zeros((len(texts), len(self.terms)))
        for row, text in zip(rows, texts, strict=True):
            counts = Counter(
                place
                for term in SPLITTERS[self.kind](text)
                if (place := column.get(term)) is not None
            )
            if counts:
                places = np.fromiter(counts.keys(), np.int64, len(counts))
                found = np.fromiter(counts.values(), np.float64, len(counts))
                weights = (1 + np.log(found)) * self.inverse_frequency[places]
                row[places] = weights / np.sqrt(weights @ weights)
        return rows

"""What mistakes cost: answers of least expected cost, and none where that costs less.

A cost is in any unit that the user counts in. A right answer costs nothing and a
mistake 1, unless somebody says otherwise.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from jaxtyping import Float, Float64, Int

from fewshot_automl.errors import TaskError

ARROW: Final = "->"
"""Stands between the true class and the answer."""
MOST_TIMES, STEPS = 1e6, 241
"""How many times more a class's mistakes may cost to find enough of it, and in how many
steps that is tried."""
NO_ANSWER: Final = -1
"""The decision of an example that is better looked at by a person."""

Proba = Float[np.ndarray, "examples classes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """What an answer costs by what is true, and how frequent that will be.

    >>> costs = Costs.of(("ham", "spam"), {"ham->spam": 5.0}, no_answer=0.4)
    >>> costs.decide(np.array([[0.05, 0.95], [0.3, 0.7], [0.9, 0.1]])).tolist()
    [1, -1, 0]
    """

    matrix: tuple[tuple[float, ...], ...]
    """A row a true class, a column an answer."""
    no_answer: float | None = None
    """What it costs not to answer; None if there always is an answer."""
    ratios: tuple[float, ...] = ()
    """How much more frequent each class will be in use than among the labels."""
    factors: tuple[float, ...] = ()
    """How many times more mistakes of each class weigh when answers are chosen, so that
    enough of it is found; not in what they are said to cost."""
    bound: float | None = None
    """Expected cost above which there is no answer, where a share was asked for."""

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        costs: Mapping[str, float],
        *,
        no_answer: float | None = None,
        shares: Mapping[str, float] | None = None,
        counts: Sequence[int] = (),
    ) -> "Costs":
        """Return the costs of some mistakes; of the others each costs 1.

        Args:
            names: Of the classes.
            costs: By ``TRUE->ANSWER``.
            no_answer: What it costs not to answer.
            shares: How frequent classes will be in use, by name; the other classes
                share the rest as they share the labels.
            counts: Labelled examples of each class, where there are `shares`.

        Raises:
            TaskError: If a class is not there, or a number is none.
        """
        matrix = 1.0 - np.eye(len(names))
        for pair, cost in costs.items():
            true, _, answer = pair.partition(ARROW)
            places = [place_of(name.strip(), names) for name in (true, answer)]
            if places[0] == places[1] or not 0 <= cost < math.inf:
                raise TaskError(
                    "A cost must be of a mistake and 0 or more, as in "
                    f'"{names[0]}{ARROW}{names[1]}:5", got {pair!r} {cost:g}.'
                )
            matrix[*places] = cost
        if no_answer is not None and not 0 < no_answer < math.inf:
            raise TaskError(f"abstain_cost must be more than 0, got {no_answer:g}.")
        return cls(
            matrix=tuple(map(tuple, matrix.tolist())),
            no_answer=no_answer,
            ratios=_ratios(names, shares, counts) if shares else (),
        )

    def shifted(self, proba: Proba) -> Proba:
        """Return probabilities where classes are as frequent as they will be.

        Source:
            Saerens, Latinne and Decaestecker, Neural Computation 14, 2002, eq. 2.4.
        """
        if not self.ratios:
            return proba
        moved = proba * np.array(self.ratios)
        return np.asarray(moved / moved.sum(axis=1, keepdims=True))

    def expected(self, proba: Proba) -> Float64[np.ndarray, "examples answers"]:
        """Return what each answer is expected to cost, by probabilities in use."""
        weighed = proba.astype(np.float64) * np.array(self.factors or 1.0)
        return np.asarray(weighed @ np.array(self.matrix))

    @property
    def limit(self) -> float | None:
        """Return the expected cost above which there is no answer; None for none."""
        return self.no_answer if self.bound is None else self.bound

    @property
    def always(self) -> "Costs":
        """Return costs by which every example is answered."""
        return replace(self, no_answer=None, bound=None)

    def decide(self, proba: Proba) -> Int[np.ndarray, " examples"]:
        """Return the answer of least expected cost to each row, or `NO_ANSWER`.

        Source:
            Elkan, IJCAI 2001 (least expected cost); Chow, IEEE Trans. Information
            Theory 16, 1970 (no answer where that costs less).
        """
        known = np.where(np.isnan(proba), 0.0, proba)
        expected = self.expected(known)
        answers = expected.argmin(axis=1)
        if self.limit is not None:
            answers[expected.min(axis=1) > self.limit] = NO_ANSWER
        return np.asarray(answers)

    def of_decisions(
        self,
        labels: Int[np.ndarray, " examples"],
        answers: Int[np.ndarray, " examples"],
    ) -> Float64[np.ndarray, " examples"]:
        """Return what each decision cost; none costs nothing if it has no price."""
        column = np.full((len(self.matrix), 1), self.no_answer or 0.0)
        return np.asarray(np.hstack([self.matrix, column])[labels, answers])

    def finding(self, place: int, share: float, proba: Proba) -> "Costs":
        """Return costs by which this share is found of a class's examples like these.

        Missing the class weighs as many times more as that takes. If nothing takes so
        many, it stays as it was.
        """
        factors = np.array(self.factors or [1.0] * len(self.matrix))
        for factor in np.geomspace(1.0, MOST_TIMES, STEPS):
            more = np.where(np.arange(len(factors)) == place, factor, 1.0)
            costs = replace(self, factors=tuple((factors * more).tolist()))
            if (costs.decide(proba) == place).mean() >= share:
                return costs
        return self

    def answering(self, share: float, proba: Proba) -> "Costs":
        """Return costs by which this share of examples like these is answered."""
        if share == 1:
            return self.always
        least = self.expected(proba).min(axis=1)
        return replace(
            self, bound=float(np.quantile(least, share, method="inverted_cdf"))
        )

    @property
    def most(self) -> float:
        """Return what the worst answer costs."""
        return max(*map(max, self.matrix), self.no_answer or 0.0)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Costs":
        """Return the costs that `dataclasses.asdict` made plain."""
        rows = tuple(tuple(map(float, row)) for row in values["matrix"])
        lists = {n: tuple(values.get(n, ())) for n in ("ratios", "factors")}
        return cls(**{**values, "matrix": rows, **lists})


def place_of(name: str, names: Sequence[str]) -> int:
    """Return the index of a class; the error lists all."""
    if name not in names:
        raise TaskError(
            f"Class of a cost or a share must be one of {', '.join(names)}, got "
            f"{name!r}. Write it as in the data."
        )
    return list(names).index(name)


def _ratios(
    names: Sequence[str], shares: Mapping[str, float], counts: Sequence[int]
) -> tuple[float, ...]:
    labelled = np.array(counts, dtype=np.float64)
    labelled /= labelled.sum()
    given = {place_of(name, names): share for name, share in shares.items()}
    rest = 1.0 - sum(given.values())
    others = [place for place in range(len(names)) if place not in given]
    is_whole = abs(rest) < 1e-6 if not others else rest > 0
    if not is_whole or not all(0 < share < 1 for share in given.values()):
        raise TaskError(
            "Shares of classes in use must be above 0 and below 1 and leave something "
            f"for the classes not named, got {dict(shares)}."
        )
    wanted = labelled * (rest / labelled[others].sum() if others else 1.0)
    wanted[list(given)] = list(given.values())
    return tuple((wanted / labelled).tolist())

"""What of a history can be seen through a space."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64

from fewshot_automl.oracle.advice import Adviser
from fewshot_automl.oracle.encoding import Encoding, Layout
from fewshot_automl.oracle.steadied import comparable_scores
from fewshot_automl.outcome import History, Status
from fewshot_automl.space import Config, Space


@dataclass(frozen=True, slots=True)
class Evidence:
    """Holds the trials of a history that one space can encode, by status."""

    encoding: Encoding
    """Turns Configs of the space into rows."""
    history: History
    """The whole history, in order."""
    known: tuple[int, ...]
    """Indices of the trials whose Config can be encoded, each Config's latest."""
    advisers: tuple[Adviser, ...] = ()
    """Add columns to the rows."""

    @classmethod
    def of(
        cls, space: Space, history: History, advisers: tuple[Adviser, ...] = ()
    ) -> "Evidence":
        """Return what `space` can encode of `history`."""
        encoding = Encoding(space)
        known = (i for i, (config, _) in enumerate(history) if encoding.knows(config))
        return cls(encoding, history, tuple(known), advisers)

    @property
    def plain(self) -> "Evidence":
        """Return the same without advice, which is about scores and nothing else."""
        return replace(self, advisers=())

    @property
    def layout(self) -> Layout:
        """Return the meaning of the columns, advice included."""
        advice = tuple(pair for adviser in self.advisers for pair in adviser.weights)
        return replace(self.encoding.layout, advice=advice)

    def encode(
        self, configs: Sequence[Config]
    ) -> Float64[np.ndarray, "configs columns"]:
        """Return one row for each Config, advice included.

        Raises:
            SpaceError: If a Config cannot be encoded.
        """
        space = self.encoding.space
        said = [one.advise(space, self.history, configs) for one in self.advisers]
        return np.hstack([self.encoding.encode(configs), *said])

    def indices(self, status: Status) -> list[int]:
        """Return where in the history the trials of one status stand."""
        return [i for i in self.known if self.history[i][1].status == status]

    def rows(self, status: Status) -> Float64[np.ndarray, "trials columns"]:
        """Return the encoded Configs of one status."""
        return self.encode([self.history[i][0] for i in self.indices(status)])

    def scores(self) -> Float64[np.ndarray, "trials 2"]:
        """Return mean and standard error (NaN if unknown) of each done trial.

        See `comparable_scores`.
        """
        means, variances = comparable_scores(self.history, self.indices("done"))
        return np.stack([means, np.sqrt(variances)], axis=1)

    def teaches(self, least: int) -> bool:
        """Return whether at least so many trials are done and their scores differ."""
        means = self.scores()[:, 0]
        if len(means) < max(least, 2):
            return False
        return bool(np.ptp(means) > 1e-12 * np.abs(means).max())

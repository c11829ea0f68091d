"""What of a history can be seen through a space."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from fewshot_automl.oracle.encoding import Encoding
from fewshot_automl.oracle.oracle import History
from fewshot_automl.outcome import Status
from fewshot_automl.space import Space


@dataclass(frozen=True, slots=True)
class Evidence:
    """Holds the trials of a history that one space can encode, by status."""

    encoding: Encoding
    """Turns Configs of the space into rows."""
    history: History
    """The whole history, in order."""
    known: tuple[int, ...]
    """Indices of the trials whose Config can be encoded."""

    @classmethod
    def of(cls, space: Space, history: History) -> "Evidence":
        """Return what `space` can encode of `history`."""
        encoding = Encoding(space)
        known = (i for i, (config, _) in enumerate(history) if encoding.knows(config))
        return cls(encoding, history, tuple(known))

    def indices(self, status: Status) -> list[int]:
        """Return where in the history the trials of one status stand."""
        return [i for i in self.known if self.history[i][1].status == status]

    def rows(self, status: Status) -> Float64[np.ndarray, "trials columns"]:
        """Return the encoded Configs of one status."""
        return self.encoding.encode([self.history[i][0] for i in self.indices(status)])

    def scores(self) -> Float64[np.ndarray, "trials 2"]:
        """Return mean and standard error (NaN if unknown) of each done trial."""
        done = (self.history[i][1] for i in self.indices("done"))
        table = [(outcome.mean, outcome.standard_error) for outcome in done]
        return np.array(table, dtype=np.float64).reshape(-1, 2)

    def teaches(self, least: int) -> bool:
        """Return whether at least so many trials are done and their scores differ."""
        means = self.scores()[:, 0]
        if len(means) < max(least, 2):
            return False
        return bool(np.ptp(means) > 1e-12 * np.abs(means).max())

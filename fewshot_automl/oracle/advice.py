"""What an adviser tells the surrogate before and beside the trials."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from fewshot_automl.outcome import History
from fewshot_automl.space import Config, Space


@runtime_checkable
class Adviser(Protocol):
    """Says of Configs what should rise with their score, in columns of numbers.

    The surrogate adds a weighted sum of the columns to its mean. The weights have a
    normal prior and are learnt from the trials, so advice that disagrees with them
    loses its influence.
    """

    @property
    def weights(self) -> tuple[tuple[float, float], ...]:
        """Return mean and standard deviation of each column's weight beforehand.

        In standard deviations of the scores, for one unit of the column.
        """
        ...

    def advise(
        self, space: Space, history: History, configs: Sequence[Config]
    ) -> Float64[np.ndarray, "configs columns"]:
        """Return one row for each Config, around 0, and 0 where nothing is known.

        Args:
            space: Where the study searches.
            history: Trials so far.
            configs: What to judge.
        """
        ...

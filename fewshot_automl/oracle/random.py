"""The baseline every other oracle has to beat: independent random draws."""

from dataclasses import dataclass

from fewshot_automl.oracle.oracle import tried
from fewshot_automl.oracle.part import Part, fill
from fewshot_automl.outcome import History
from fewshot_automl.space import Config, Space


@dataclass(frozen=True, slots=True)
class RandomOracle:
    """Draws Configs uniformly from the unit cube, looking only for repeats.

    >>> from fewshot_automl.space import Choice
    >>> space = Space((Choice(name="method", options=("probe", "lora")),))
    >>> sorted(map(str, RandomOracle().suggest(space, [], 5, seed=0)))
    ['method=lora', 'method=probe']
    """

    def suggest(
        self,
        space: Space,
        history: History,
        n: int,
        seed: int,
        within: Part | None = None,
    ) -> list[Config]:
        """Return up to `n` random Configs that were not tried before."""
        return fill(space if within is None else within, [], tried(history), n, seed)

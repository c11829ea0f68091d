"""What every oracle promises: a history goes in, the next Configs come out."""

from typing import Protocol, runtime_checkable

from fewshot_automl.oracle.part import Part
from fewshot_automl.outcome import History
from fewshot_automl.space import Config, Space


@runtime_checkable
class Oracle(Protocol):
    """Proposes Configs and keeps no state between calls.

    All that an oracle may learn from is in its arguments, so resuming a study is
    reading its history again. Settings are fields of the oracle; the wall clock and
    the budget are the caller's.
    """

    def suggest(
        self,
        space: Space,
        history: History,
        n: int,
        seed: int,
        within: Part | None = None,
    ) -> list[Config]:
        """Return up to `n` different Configs to try next, the best first.

        Args:
            space: Where to search; every suggestion lies in it.
            history: Trials so far. Running ones count as pending, failed ones as
                failures and never as scores, stopped ones say nothing. Configs from
                outside `space` are used where they can be encoded.
            n: How many are wanted.
            seed: Makes the answer repeatable; not negative.
            within: A part of `space` in which the suggestions must lie, or the only
                Configs of it there are; what was seen elsewhere still counts. None for
                all of it.

        Returns:
            Configs that are not in `history` (unless they were stopped); fewer than
            `n` only when the space has no other.
        """
        ...


def tried(history: History) -> set[Config]:
    """Return the Configs that must not be suggested again.

    A stopped trial ran out of its seconds and may have another chance.
    """
    return {config for config, outcome in history if outcome.status != "stopped"}

"""The table of oracles."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from fewshot_automl.errors import unknown_name
from fewshot_automl.oracle.advice import Adviser
from fewshot_automl.oracle.goals import Aims
from fewshot_automl.oracle.oracle import Oracle
from fewshot_automl.oracle.part import Part
from fewshot_automl.oracle.random import RandomOracle
from fewshot_automl.oracle.sobol import SobolOracle
from fewshot_automl.outcome import History
from fewshot_automl.space import Config, Space

PLAIN: Final = Aims()
"""The score alone, without limits."""


@dataclass(slots=True)
class WhenAsked:
    """Stands for an oracle that is made, and its libraries imported, when asked."""

    make: Callable[[], Oracle]
    """Makes it."""
    made: Oracle | None = None
    """The oracle, once it was asked."""

    def suggest(
        self,
        space: Space,
        history: History,
        n: int,
        seed: int,
        within: Part | None = None,
    ) -> list[Config]:
        """Return what the oracle suggests."""
        if self.made is None:
            self.made = self.make()
        return self.made.suggest(space, history, n, seed, within)


def _gp(advisers: tuple[Adviser, ...] = (), aims: Aims = PLAIN) -> Oracle:
    """Return the Gaussian process; its libraries are imported when it is asked."""

    def make() -> Oracle:
        from fewshot_automl.oracle.gp import GpOracle

        return GpOracle(advisers=advisers, aims=aims)

    return WhenAsked(make)


def _sobol(advisers: tuple[Adviser, ...] = (), aims: Aims = PLAIN) -> Oracle:
    """Return the Sobol sequence, which takes no advice and has no aims."""
    return SobolOracle()


def _random(advisers: tuple[Adviser, ...] = (), aims: Aims = PLAIN) -> Oracle:
    """Return random draws, which take no advice and have no aims."""
    return RandomOracle()


ORACLES: Final[Mapping[str, Callable[..., Oracle]]] = {
    "gp": _gp,
    "sobol": _sobol,
    "random": _random,
}
"""Makes each oracle, given advisers and aims, or nothing."""


def oracle_named(
    name: str, advisers: tuple[Adviser, ...] = (), aims: Aims = PLAIN
) -> Oracle:
    """Return the oracle of that name with its default settings.

    Args:
        name: Its row in the table.
        advisers: Whom it listens to, if it learns.
        aims: What it is after, if it learns.

    Raises:
        UnknownNameError: If the table has no such name.

    >>> oracle_named("sobol")
    SobolOracle()
    """
    if name not in ORACLES:
        raise unknown_name("oracle", name, ORACLES, "fewshot fit --help")
    return ORACLES[name](advisers, aims)

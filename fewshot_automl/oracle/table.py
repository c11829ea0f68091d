"""The table of oracles."""

from collections.abc import Callable, Mapping
from typing import Final

from fewshot_automl.errors import unknown_name
from fewshot_automl.oracle.oracle import Oracle
from fewshot_automl.oracle.random import RandomOracle
from fewshot_automl.oracle.sobol import SobolOracle


def _gp() -> Oracle:
    """Return the Gaussian process; only here does torch get imported."""
    from fewshot_automl.oracle.gp import GpOracle

    return GpOracle()


ORACLES: Final[Mapping[str, Callable[[], Oracle]]] = {
    "gp": _gp,
    "sobol": SobolOracle,
    "random": RandomOracle,
}


def oracle_named(name: str) -> Oracle:
    """Return the oracle of that name with its default settings.

    Raises:
        UnknownNameError: If the table has no such name.

    >>> oracle_named("sobol")
    SobolOracle()
    """
    if name not in ORACLES:
        raise unknown_name("oracle", name, ORACLES, "fewshot fit --help")
    return ORACLES[name]()

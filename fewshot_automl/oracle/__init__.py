"""Chooses what to try next, from a history of scores and nothing else."""

from typing import TYPE_CHECKING, Any

from fewshot_automl.oracle.front import incumbent_within
from fewshot_automl.oracle.goals import Aims, Goal, Limit
from fewshot_automl.oracle.oracle import Oracle
from fewshot_automl.oracle.prior import Prior
from fewshot_automl.oracle.random import RandomOracle
from fewshot_automl.oracle.sobol import SobolOracle
from fewshot_automl.oracle.table import ORACLES, oracle_named
from fewshot_automl.oracle.winner import incumbent
from fewshot_automl.outcome import History

if TYPE_CHECKING:
    from fewshot_automl.oracle.gp import GpOracle

__all__ = [
    "ORACLES",
    "Aims",
    "Goal",
    "GpOracle",
    "History",
    "Limit",
    "Oracle",
    "Prior",
    "RandomOracle",
    "SobolOracle",
    "incumbent",
    "incumbent_within",
    "oracle_named",
]


def __getattr__(name: str) -> Any:
    """Import the Gaussian process, and scipy with it, when it is first asked for."""
    if name != "GpOracle":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fewshot_automl.oracle.gp import GpOracle

    globals()[name] = GpOracle
    return GpOracle

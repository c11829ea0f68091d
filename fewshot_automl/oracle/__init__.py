"""Chooses what to try next, from a history of scores and nothing else."""

from fewshot_automl.oracle.oracle import History, Oracle
from fewshot_automl.oracle.prior import Prior
from fewshot_automl.oracle.random import RandomOracle
from fewshot_automl.oracle.sobol import SobolOracle
from fewshot_automl.oracle.table import ORACLES, oracle_named
from fewshot_automl.oracle.winner import incumbent

__all__ = [
    "ORACLES",
    "History",
    "Oracle",
    "Prior",
    "RandomOracle",
    "SobolOracle",
    "incumbent",
    "oracle_named",
]

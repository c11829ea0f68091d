"""Chooses what to try next, from a history of scores and nothing else."""

from fewshot_automl.oracle.aims import PLAIN, SCORE, Aims, Limit, Objective, measured
from fewshot_automl.oracle.gp import ORACLES, GpOracle, oracle_named
from fewshot_automl.oracle.incumbent import pareto_front, posterior_means
from fewshot_automl.oracle.oracle import Oracle, RandomOracle, SobolOracle, tried
from fewshot_automl.oracle.prior import Past, Prior

__all__ = [
    "ORACLES",
    "PLAIN",
    "SCORE",
    "Aims",
    "GpOracle",
    "Limit",
    "Objective",
    "Oracle",
    "Past",
    "Prior",
    "RandomOracle",
    "SobolOracle",
    "measured",
    "oracle_named",
    "pareto_front",
    "posterior_means",
    "tried",
]

"""Every row of the table of replays: its name, and how its sampler is made.

To add an ablation, add a line to `OURS`; nothing else knows the rows.
"""

import hashlib
import re
from collections.abc import Callable
from functools import cache
from importlib.metadata import version

from machine import ROOT
from parts.replay_ablations import (
    Scene,
    Shown,
    Tireless,
    doubted,
    fold_errors,
    prior_for,
    without_descriptors,
    without_noise,
    wrong_prior_for,
)
from parts.replay_gps import optuna_gp, stock_botorch
from parts.replay_landscape import Landscape
from parts.replay_samplers import Sampler, at_random, from_pool, snapped_oracle, tpe

from fewshot_automl.oracle.advice import Adviser
from fewshot_automl.oracle.gp import GpOracle
from fewshot_automl.oracle.oracle import Oracle
from fewshot_automl.oracle.sobol import SobolOracle
from fewshot_automl.oracle.transfer import TransferAdviser


def full(
    scene: Scene,
    *,
    transfer: bool = True,
    prior: bool = True,
) -> GpOracle:
    """Return our oracle as a study has it, or less of it."""
    advisers = (
        *([TransferAdviser()] if transfer else []),
        *([prior_for(scene)] if prior and scene.others else []),
    )
    return GpOracle(advisers=advisers)


def wrongly_advised(scene: Scene) -> GpOracle:
    """Return our oracle with a prior that says the opposite."""
    return GpOracle(advisers=(TransferAdviser(), wrong_prior_for(scene)))


FULL = "ours"
OURS: dict[str, Callable[[Scene], Oracle]] = {
    FULL: full,
    "no transfer": lambda scene: full(scene, transfer=False),
    "no prior": lambda scene: full(scene, prior=False),
    "no advice": lambda scene: full(scene, transfer=False, prior=False),
    "wrong prior": wrongly_advised,
    "scores alone": full,
    "no descriptors": lambda scene: Shown(
        full(scene, transfer=False), space=without_descriptors
    ),
    "no known noise": lambda scene: Shown(full(scene), history=without_noise),
    "errors in full": lambda scene: Shown(full(scene), history=doubted),
    "fold errors": lambda scene: Shown(full(scene), history=fold_errors),
    "sobol": lambda scene: SobolOracle(),
}
"""Our oracle, which chooses within the pool, and ablations of it."""
BLIND = ("scores alone",)
"""Rows whose trials have a score and no refinement beside it."""
SNAPPED = "ours, snapped"
"""The full oracle, which asks for what it likes and gets what is nearest."""
LUCKIEST = "raw incumbent"
"""The same studies as the full oracle's, but what scored best is returned."""
SLOW = "botorch, noise inferred"
"""A row that is only replayed if it is named: a study of 20 trials takes minutes."""
STOCK: dict[str, Callable[[Landscape], Sampler]] = {
    "random": lambda landscape: at_random,
    "tpe": tpe,
    "optuna gp": optuna_gp,
    "botorch": stock_botorch,
    SLOW: lambda landscape: stock_botorch(landscape, is_told=False),
}
"""Other people's."""
EVERYTHING = "everything"
"""No sampler: what the best score of all recorded Configs comes to."""
ROWS = (*OURS, SNAPPED, *STOCK, EVERYTHING)
RULES = dict.fromkeys((*OURS, SNAPPED), "smooth") | dict.fromkeys(
    (*STOCK, EVERYTHING, LUCKIEST), "raw"
)
"""How each row chooses the model to return: ours by posterior mean, others by score."""


def sampler_of(row: str, scene: Scene) -> Sampler:
    """Return the sampler of a row."""
    if row in STOCK:
        return STOCK[row](scene.landscape)
    if row == SNAPPED:
        return snapped_oracle(scene.landscape, OURS[FULL](scene))
    return from_pool(scene.landscape, Tireless(OURS[row](scene)))


def advisers_of(row: str, scene: Scene) -> tuple[Adviser, ...]:
    """Return who has a say in which model a row returns."""
    oracle = OURS[FULL if row == SNAPPED else row](scene) if row not in STOCK else None
    if isinstance(oracle, Shown):
        oracle = oracle.oracle
    return oracle.advisers if isinstance(oracle, GpOracle) else ()


def version_of(row: str, scene: Scene, share: float) -> str:
    """Return a name for all that a row's curves depend on: code, settings and data.

    Args:
        row: The row.
        scene: Of the task.
        share: Of the dear trials, that are replayed.
    """
    parts = [scene.landscape.digest, str(share), code("benchmarks/parts", "replay_s*")]
    if row in STOCK:
        parts += [code("benchmarks/parts", "replay_gps.py")]
        parts += [version(name) for name in ("optuna", "botorch")]
    else:
        parts += [code("fewshot_automl/oracle", "*.py")]
    if row in (*OURS, SNAPPED):
        # Past studies stand in the prior's repr, and nothing of an address may.
        oracle = OURS[FULL if row == SNAPPED else row](scene)
        parts += [re.sub(r"0x[0-9a-f]+", "", repr(oracle))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


@cache
def code(folder: str, pattern: str) -> str:
    """Return a hash of some source files."""
    files = sorted((ROOT / folder).glob(pattern))
    text = "\n".join(file.read_text("utf-8") for file in files)
    return hashlib.sha256(text.encode()).hexdigest()[:12]

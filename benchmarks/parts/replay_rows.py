"""Every row of the table of replays: its name, and how its sampler is made.

To add an ablation, add a line to `OURS`; nothing else knows the rows.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from machine import ROOT
from parts.replay_gps import optuna_gp, stock_botorch
from parts.replay_landscape import Landscape
from parts.replay_samplers import Sampler, at_random, from_pool, snapped_oracle, tpe

from fewshot_automl.oracle.gp import GpOracle
from fewshot_automl.oracle.oracle import History, Oracle
from fewshot_automl.oracle.sobol import SobolOracle
from fewshot_automl.space import Space


@dataclass(frozen=True)
class Scene:
    """What the oracle of one replay may be made from."""

    landscape: Landscape
    """Of the task itself; only what a study knows beforehand may be used of it: the
    space, and `price`."""
    others: tuple[Landscape, ...]
    """Of all other tasks of its modality: past studies."""

    @property
    def past(self) -> list[tuple[str, Space, History]]:
        """Return name, space and all trials of each past study."""
        return [
            (
                one.name,
                one.space,
                [(trial.config, trial.outcome) for trial in one.trials.values()],
            )
            for one in self.others
        ]


FULL = "ours"
OURS: dict[str, Callable[[Scene], Oracle]] = {
    FULL: lambda scene: GpOracle(),
    "ours, per second": lambda scene: GpOracle(cost_exponent=1.0),
    "sobol": lambda scene: SobolOracle(),
}
"""Our oracle, which chooses within the pool, and ablations of it."""
SNAPPED = "ours, snapped"
"""The full oracle, which asks for what it likes and gets what is nearest."""
STOCK: dict[str, Callable[[Landscape], Sampler]] = {
    "random": lambda landscape: at_random,
    "tpe": tpe,
    "optuna gp": optuna_gp,
    "botorch": stock_botorch,
}
"""Other people's."""
EVERYTHING = "everything"
"""No sampler: what the best score of all recorded Configs comes to."""
ROWS = (*OURS, SNAPPED, *STOCK, EVERYTHING)
RULES = dict.fromkeys((*OURS, SNAPPED), "smooth") | dict.fromkeys(
    (*STOCK, EVERYTHING), "raw"
)
"""How each row chooses the model to return: ours by posterior mean, others by score."""


def sampler_of(row: str, scene: Scene) -> Sampler:
    """Return the sampler of a row."""
    if row in STOCK:
        return STOCK[row](scene.landscape)
    if row == SNAPPED:
        return snapped_oracle(scene.landscape, OURS[FULL](scene))
    return from_pool(scene.landscape, OURS[row](scene))


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
    elif row == EVERYTHING:
        parts += [code("fewshot_automl/oracle", "*.py")]
    else:
        oracle = OURS[FULL if row == SNAPPED else row](scene)
        parts += [
            re.sub(r"0x[0-9a-f]+|<Landscape.*?>", "", repr(oracle)),
            code("fewshot_automl/oracle", "*.py"),
            *(one.digest for one in scene.others),
        ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


@cache
def code(folder: str, pattern: str) -> str:
    """Return a hash of some source files."""
    files: Sequence[Path] = sorted((ROOT / folder).glob(pattern))
    text = "\n".join(file.read_text("utf-8") for file in files)
    return hashlib.sha256(text.encode()).hexdigest()[:12]

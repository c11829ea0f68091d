"""Configs, scores, times and sizes in few words."""

import math
from typing import Final

from fewshot_automl.space import Config, Value

TELLING: Final = (
    "rank",
    "frozen_fraction",
    "learning_rate",
    "lora_learning_rate",
    "full_learning_rate",
    "steps",
    "schedule",
)
"""What one wants to see of a Config while it is tried, in this order."""
Z_95: Final = 1.96
"""Standard errors on either side of a mean in a 95 % interval."""


def title(config: Config) -> str:
    """Return method and backbone of a Config.

    >>> title(Config.of({"method": "probe", "head": "rbf", "backbone": "minilm-l6"}))
    'probe (rbf) on minilm-l6'
    """
    words = str(config.get("method", "?"))
    if words == "probe" and "head" in config:
        words += f" ({config['head']})"
    return f"{words} on {config['backbone']}" if "backbone" in config else words


def details(config: Config) -> str:
    """Return the telling values of a Config.

    >>> details(Config.of({"method": "lora", "rank": 8, "lora_learning_rate": 1e-3}))
    'rank 8, learning rate 0.001'
    """
    return ", ".join(_value(name, config[name]) for name in TELLING if name in config)


def _value(name: str, value: Value) -> str:
    if name == "frozen_fraction":
        return f"{float(value):.0%} frozen"
    if name == "schedule":
        return str(value).replace("_", "-")
    if name == "steps":
        return f"{value} steps"
    if name.endswith("learning_rate"):
        return f"learning rate {float(value):.2g}"
    return f"{name.replace('_', ' ')} {value}"


def score(value: float, standard_error: float = math.nan) -> str:
    """Return a score with the half width of its 95 % interval.

    >>> score(0.8249, 0.03), score(-0.5)
    ('0.825 ± 0.059', '-0.500')
    """
    if not math.isfinite(standard_error):
        return f"{value:.3f}"
    return f"{value:.3f} ± {Z_95 * standard_error:.3f}"


def clock(seconds: float) -> str:
    """Return a length of time as a clock shows it.

    >>> clock(72.4), clock(3601.0)
    ('1:12', '1:00:01')
    """
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def duration(seconds: float) -> str:
    """Return a length of time in words.

    >>> duration(0.41), duration(72.4), duration(5400.0)
    ('0.4 s', '72 s', '90 min')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def count(number: int) -> str:
    """Return a large number with three digits and a letter.

    >>> count(22_713_216), count(5_800_000_000), count(950)
    ('22.7M', '5.80G', '950')
    """
    for size, letter in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            scaled = number / size
            digits = 2 if scaled < 10 else 1 if scaled < 100 else 0
            return f"{scaled:.{digits}f}{letter}"
    return f"{number:.0f}"


def size(bytes: int) -> str:
    """Return a number of bytes in decimal units.

    >>> size(743_000_000), size(512)
    ('743 MB', '512 B')
    """
    for unit, letter in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if bytes >= unit:
            scaled = bytes / unit
            return f"{scaled:.{1 if scaled < 10 else 0}f} {letter}"
    return f"{bytes:.0f} B"

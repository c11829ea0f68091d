"""Numbers and names as people read them."""

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.evaluation.measures import MEASURES
from fewshot_automl.report.axes import Number
from fewshot_automl.space import Config, Value

NOTHING: Final = "\N{EN DASH}"
"""Stands for a number that does not exist."""
SHARES: Final = frozenset({"accuracy"})
"""Metrics that are the share of new examples that come out right."""
Z_95: Final = 1.96
"""Standard errors on either side of a mean in a 95 % interval."""
PHRASED: Final = (
    *("rank", "frozen_fraction", "learning_rate", "lora_learning_rate"),
    *("full_learning_rate", "steps", "schedule"),
)
"""What one wants to see of a Config while it is tried, in this order."""
ENDINGS: Final = {
    "seconds": "its time budget was spent",
    "trials": "the number of trials asked for was reached",
    "exhausted": "nothing worthwhile was left to try",
    "interrupted": "it was interrupted",
}


def number(value: Number | None, digits: int = 3) -> str:
    """Return a number with a fixed number of decimals; a dash where there is none.

    >>> number(0.87654), number(0), number(-0.0001, 2)
    ('0.877', '0.000', '0.00')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def short(value: Number) -> str:
    """Return the shortest text of a tick.

    >>> short(0.5), short(1000.0), short(1e-05)
    ('0.5', '1000', '1e-05')
    """
    return f"{value:.6g}"


def score(value: Number, standard_error: Number = math.nan) -> str:
    """Return a score with the half width of its 95 % interval.

    >>> score(0.8249, 0.03), score(-0.5)
    ('0.825 ± 0.059', '-0.500')
    """
    if not math.isfinite(standard_error):
        return f"{value:.3f}"
    return f"{value:.3f} ± {Z_95 * standard_error:.3f}"


def bound_of(limit: Mapping[str, Any]) -> str:
    """Return what a limit of `result.json` allows.

    >>> bound_of({"name": "latency_ms", "most": 20.0, "least": None})
    'at most 20 ms'
    """
    words, end = "at most", limit["most"]
    if end is None:
        words, end = "at least", limit["least"]
    return f"{words} {MEASURES[limit['name']].format(float(end))}"


def digits_for(low: float, high: float) -> int:
    """Return how many decimals an interval of this width supports.

    >>> digits_for(0.8, 0.9), digits_for(0.981, 0.992)
    (2, 3)
    """
    return 2 if high - low >= 0.02 else 3


def duration(seconds: Number | None) -> str:
    """Return a time in the unit that suits it.

    >>> [duration(value) for value in (0.004, 2.34, 75.0, 4000.0)]
    ['4 ms', '2.3 s', '1 min 15 s', '1 h 06 min']
    """
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    if seconds < 0.1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s" if rest else f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def clock(seconds: Number) -> str:
    """Return a length of time as a clock shows it.

    >>> clock(72.4), clock(3601.0)
    ('1:12', '1:00:01')
    """
    minutes, rest = divmod(int(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def moment(iso: str) -> str:
    """Return a date and time without seconds.

    >>> moment("2026-11-24T21:00:31+00:00")
    '2026-11-24 21:00 UTC'
    """
    return f"{datetime.fromisoformat(iso):%Y-%m-%d %H:%M %Z}".strip()


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun.

    >>> counted(1, "class", "classes"), counted(1200, "example")
    ('1 class', '1,200 examples')
    """
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"


def share(value: float, low: float, high: float) -> str:
    """Return a share as so many of 100, as finely as its interval supports.

    >>> share(0.874, 0.8, 0.92), share(0.9874, 0.981, 0.992)
    ('87 of 100', '98.7 of 100')
    """
    return f"{number(100 * value, digits_for(low, high) - 2)} of 100"


def title(method: str) -> str:
    """Return a method's name for people; one without a row keeps its own.

    >>> title("lora"), title("my_method")
    ('LoRA', 'my_method')
    """
    return METHODS[method].title if method in METHODS else method


def meaning(method: str) -> str:
    """Return what a method does, in one clause; nothing for one without a row."""
    return METHODS[method].meaning if method in METHODS else ""


def label(config: Config) -> str:
    """Return method and backbone of a Config in people's words."""
    words = title(config.text("method"))
    return f"{words} on {config['backbone']}" if "backbone" in config else words


def summary_of(config: Config) -> str:
    """Return method and backbone of a Config, as one types them.

    >>> values = {"method": "probe", "head": "rbf", "backbone": "minilm-l6"}
    >>> summary_of(Config.of(values))
    'probe (rbf) on minilm-l6'
    """
    words = str(config.get("method", "?"))
    if words == "probe" and "head" in config:
        words += f" ({config['head']})"
    return f"{words} on {config['backbone']}" if "backbone" in config else words


def phrase(config: Config) -> str:
    """Return the values that say most of how a Config trains.

    >>> phrase(Config.of({"method": "lora", "rank": 8, "lora_learning_rate": 1e-3}))
    'rank 8, learning rate 0.001'
    """
    return ", ".join(_phrase(name, config[name]) for name in PHRASED if name in config)


def _phrase(name: str, value: Value) -> str:
    if name == "frozen_fraction":
        return f"{float(value):.0%} frozen"
    if name == "schedule":
        return str(value).replace("_", "-")
    if name == "steps":
        return f"{value} steps"
    if name.endswith("learning_rate"):
        return f"learning rate {float(value):.2g}"
    return f"{name} {value}"


def settings(config: Config) -> str:
    """Return what a Config sets besides method and backbone.

    >>> settings(Config.of({"method": "lora", "rank": 8, "lr": 0.00021234}))
    'lr 0.000212, rank 8'
    """
    return ", ".join(
        f"{name.replace('_', ' ')} {_brief(value)}"
        for name, value in config.items
        if name not in ("method", "backbone")
    )


def _brief(value: Value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def clipped(text: str, length: int = 24) -> str:
    """Return a text that fits; the middle of a longer one is left out.

    >>> clipped("a" * 30, 9)
    'aaaa…aaaa'
    """
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return f"{text[: length - 1 - half]}…{text[-half:]}"

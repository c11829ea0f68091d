"""Numbers and names as people read them."""

import math
from datetime import datetime
from typing import Final

from fewshot_automl.report.axes import Number
from fewshot_automl.space import Config, Value

NOTHING: Final = "\N{EN DASH}"
"""Stands for a number that does not exist."""
METHOD_TITLES: Final = {
    "majority": "Most common class",
    "tfidf": "Word counts (TF-IDF)",
    "prototype": "Prototype",
    "probe": "Probe",
    "contrastive": "Contrastive tuning",
    "contrastive_lora": "Contrastive LoRA",
    "partial_freeze": "Tuning of the last layers",
    "lora": "LoRA",
    "full": "Full tuning",
}
"""Names of methods for people; a method that is not here keeps its own."""
METHOD_MEANINGS: Final = {
    "majority": "always answers the most common class; no model should be worse",
    "tfidf": "looks only at which words occur, with no pretrained model",
    "prototype": "answers the class whose average example is nearest",
    "probe": "puts a simple classifier on top of an unchanged pretrained model",
    "contrastive": "retrains part of a pretrained model so that examples of one class "
    "move together",
    "contrastive_lora": "trains small added weights (LoRA) so that examples of one "
    "class move together",
    "partial_freeze": "retrains the last layers of a pretrained model",
    "lora": "retrains a pretrained model through small added weights",
    "full": "retrains all of a pretrained model",
}
"""One clause a method."""
SHARES: Final = frozenset({"accuracy"})
"""Metrics that are the share of new examples that come out right."""
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
    """Return a method's name for people.

    >>> title("lora"), title("my_method")
    ('LoRA', 'my_method')
    """
    return METHOD_TITLES.get(method, method)


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

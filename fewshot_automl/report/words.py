"""Numbers and names as people read them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fewshot_automl.evaluation.intervals import REACH
from fewshot_automl.evaluation.measures import MEASURES
from fewshot_automl.space import Config

Number = int | float
"""Type checkers take a float for both; the check at run time does not."""
NOTHING: Final = "\N{EN DASH}"
"""Stands for a number that does not exist."""
SHARES: Final = frozenset({"accuracy"})
"""Metrics that are the share of new examples that come out right."""
ENDINGS: Final = {
    "seconds": "the time left was not enough for another trial",
    "trials": "the number of trials asked for was reached",
    "exhausted": "nothing worthwhile was left to try",
    "interrupted": "it was interrupted",
    "chosen": "all were taken from another study",
}
LEAST_UNUSED: Final = 1.0
"""Seconds of a budget, below which nobody asks why they were not used."""


def number(value: Number | None, digits: int = 3) -> str:
    """Return a number with a fixed number of decimals; a dash where there is none.

    >>> number(0.87654), number(0), number(-0.0001, 2)
    ('0.877', '0.000', '0.00')
    """
    if value is None or not math.isfinite(value):
        return NOTHING
    text = f"{value:.{digits}f}"
    return text.removeprefix("-") if float(text) == 0 else text


def score(value: Number, standard_error: Number = math.nan) -> str:
    """Return a score with the half width of its 95 % interval.

    >>> score(0.8249, 0.03), score(-0.5)
    ('0.825 ± 0.059', '-0.500')
    """
    if not math.isfinite(standard_error):
        return f"{value:.3f}"
    return f"{value:.3f} ± {REACH * standard_error:.3f}"


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


def times(stages: Sequence[Mapping[str, Any]]) -> str:
    """Return the stages of a fit that took long enough to be felt.

    >>> rows = {"imports": 4.2, "reading": 0.1, "cheap trials": 9.0}
    >>> times([{"stage": name, "seconds": took} for name, took in rows.items()])
    'imports 4 s, cheap trials 9 s'
    """
    felt = [row for row in stages if row["seconds"] >= 0.5] or stages
    return ", ".join(
        f"{row['stage']} {duration(round(row['seconds']))}" for row in felt
    )


def answered(summary: Mapping[str, Any]) -> str:
    """Return what share a model answers and how well; empty if it always answers."""
    if not (found := summary["answered"]):
        return ""
    name = summary["score"]["metric"]
    has_price = name == "cost" and summary["task"]["costs"]["no_answer"] is not None
    how = "those left to people included" if has_price else "as if each were answered"
    return (
        f"What to expect is of all examples, {how}. The model answers "
        f"{100 * found['coverage']:.0f} of 100; {name.replace('_', ' ')} of these is "
        f"{number(found[name])}, cross-validated."
    )


def unused(summary: Mapping[str, Any]) -> str:
    """Return how much of a budget was not used, and why; empty if none was left.

    >>> unused({"budget_seconds": 120.0, "seconds": 107.0, "ending": "exhausted"})
    '13 s of 2 min were not used because nothing worthwhile was left to try'
    """
    most, ending = summary["budget_seconds"], summary["ending"]
    left = 0.0 if most is None else most - summary["seconds"]
    if left < LEAST_UNUSED:
        return ""
    why = "no other trial would have paid, or been over in time"
    why = why if ending == "seconds" else ENDINGS[ending]
    return f"{duration(round(left))} of {duration(most)} were not used because {why}"


def share(value: float, low: float, high: float) -> str:
    """Return a share as so many of 100, as finely as its interval supports.

    >>> share(0.874, 0.8, 0.92), share(0.9874, 0.981, 0.992)
    ('87 of 100', '98.7 of 100')
    """
    return f"{number(100 * value, digits_for(low, high) - 2)} of 100"


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


def committee(summary: Mapping[str, Any]) -> str:
    """Return who makes the model with what weight, what it wins and what it costs.

    Nothing, if it is one trial alone.
    """
    if not (beside := summary["beside_best"]):
        return ""
    parts = [f"{row['number']} ({row['weight']:.2f})" for row in summary["members"]]
    values = [
        f"{name.replace('_', ' ')} {together:.3f} (alone {alone:.3f})"
        for name, (together, alone) in beside["scores"].items()
    ]
    if "latency_ms" in beside:
        both = map(MEASURES["latency_ms"].format, beside["latency_ms"])
        values.append("{} an example (alone {})".format(*both))
    return (
        f"The model averages trials by weight: {', '.join(parts)}. Beside the best of "
        f"them, trial {beside['number']}, alone, cross-validated: {', '.join(values)}."
    )


PHRASES: Final[Mapping[str, str | Mapping[str, str]]] = {
    "head": {"lda": "linear discriminant", "rbf": "curved boundaries (RBF kernel)"},
    "rule": {"mean": "to class averages", "knn": "to single examples"},
    "neighbours": "{} nearest",
    "scaling": {"unit": "features of length one", "standard": "features standardised"},
    "blocks": {
        "both": "last and an inner block of the encoder read",
        "last": "last block of the encoder read",
        "inner": "an inner block of the encoder read",
    },
    "class_weights": {"none": "", "balanced": "rare classes weigh more"},
    "augmentation": {"none": "", "light": "training images varied lightly"},
    "lora_variant": {"lora": "", "rslora": "rsLoRA", "dora": "DoRA"},
    "frozen_fraction": "first {:.0%} of the layers kept as they are",
    "probe_share": "head begun as {:.0%} of a probe",
    "lora_learning_rate": "learning rate {:.2g}",
    "full_learning_rate": "learning rate {:.2g}",
    "schedule": {"one_cycle": "rate rising and falling once"},
}
"""What dimensions say whose names say little, first of all; of a choice, its options.
The names of others are the field's."""


def settings(config: Config) -> str:
    """Return what a Config sets besides method and backbone, in words.

    >>> settings(Config.of({"method": "probe", "scaling": "unit", "head": "lda"}))
    'linear discriminant, features of length one'
    >>> settings(Config.of({"method": "mine", "my_rate": 0.00021234, "steps": 8}))
    'my rate 0.000212, steps 8'
    """
    values, said = dict(config.items), []
    names = values.keys() - {"method", "backbone"}
    for name in sorted(names, key=lambda name: (name not in PHRASES, name)):
        value = values[name]
        shown = f"{value:.3g}" if isinstance(value, float) else str(value)
        fallback = f"{name.replace('_', ' ')} {shown}"
        phrase = PHRASES.get(name, fallback)
        if not isinstance(phrase, str):
            phrase = phrase.get(str(value), fallback)
        said.append(phrase.format(value))
    return ", ".join(filter(None, said)).replace("%", " %")


def clipped(text: str, length: int) -> str:
    """Return a text that fits; the middle of a longer one is left out.

    >>> clipped("a" * 30, 9)
    'aaaa…aaaa'
    """
    if len(text) <= length:
        return text
    half = (length - 1) // 2
    return f"{text[: length - 1 - half]}…{text[-half:]}"

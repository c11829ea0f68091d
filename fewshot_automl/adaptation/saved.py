"""Fitted models that stand alone: their form on disk, their size and their speed."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from torch import Tensor

from fewshot_automl.adaptation.baselines import Constant, TermHead
from fewshot_automl.adaptation.encodings import Encoder, Encodings, length_of
from fewshot_automl.adaptation.fitted import Adapted
from fewshot_automl.adaptation.heads import Outputs
from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.errors import ExportError
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.modalities import Input
from fewshot_automl.tasks import kind_named

MOST_RUNS: Final = 15
"""Timed predictions, after one that warms up; their median counts."""
ENOUGH_SECONDS: Final = 0.1
"""After so long fewer are enough."""
MEGABYTE: Final = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One model of an ensemble."""

    fitted: Fitted
    """What predicts."""
    calibration: Mapping[str, float]
    """What puts its confidence right, so that no member shouts."""
    encoder: Encoder | None
    """What its features come from; None if it needs none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """Averages the calibrated outputs of its members, all with equal say.

    Equal weights are not a lack of ambition: an ensemble is made where the labels
    cannot tell the members apart, and weights learnt from them would be noise.

    Source:
        Clemen, Int. J. Forecasting 1989 (equal weights are hard to beat).
    """

    members: tuple[Member, ...]
    kind: str = "classes"
    """Of the target, whose rules say how outputs are calibrated."""

    @property
    def is_finite(self) -> bool:
        """Return whether every number in it is finite."""
        return all(member.fitted.is_finite for member in self.members)

    def outputs(self, encodings: Encodings) -> Outputs:
        """Return the mean; each member sees the examples through its own encoder."""
        votes = [
            kind_named(self.kind).calibrate(
                member.fitted.outputs(replace(encodings, encoder=member.encoder)),
                member.calibration,
            )
            for member in self.members
        ]
        mean: np.ndarray = np.mean(votes, axis=0)
        return mean

    def save(self, folder: Path) -> dict[str, Any]:
        """Write each member into a folder of its own."""
        states = []
        for index, member in enumerate(self.members):
            home = folder / f"member-{index}"
            home.mkdir(parents=True)
            state = save_fitted(member.fitted, home)
            states.append({"calibration": dict(member.calibration), "fitted": state})
        return {"of": self.kind, "members": states}

    @classmethod
    def load(cls, folder: Path, state: dict[str, Any]) -> "Ensemble":
        """Return what `save` wrote, each member on its own backbone."""
        members = []
        for index, values in enumerate(state["members"]):
            fitted = load_fitted(folder / f"member-{index}", values["fitted"])
            members.append(
                Member(
                    fitted=fitted,
                    calibration=values["calibration"],
                    encoder=own_encoder(fitted),
                )
            )
        return cls(members=tuple(members), kind=state["of"])


FITTED_KINDS: Final[dict[str, type[Fitted]]] = {
    "adapted": Adapted,
    "constant": Constant,
    "terms": TermHead,
    "ensemble": Ensemble,
}


def save_fitted(fitted: Fitted, folder: Path) -> dict[str, Any]:
    """Write a fitted model into a folder; return the JSON that `load_fitted` needs."""
    kind = next(kind for kind, made in FITTED_KINDS.items() if type(fitted) is made)
    return {"kind": kind, **fitted.save(folder)}


def load_fitted(folder: Path, state: dict[str, Any]) -> Fitted:
    """Return the model that `save_fitted` wrote."""
    if state["kind"] not in FITTED_KINDS:
        raise ExportError(
            f"Kind of model must be one of {', '.join(FITTED_KINDS)}, got "
            f"{state['kind']!r}. Update fewshot_automl."
        )
    return FITTED_KINDS[state["kind"]].load(folder, state)


def own_encoder(fitted: Fitted) -> Encoder | None:
    """Return the encoder of a loaded model's own backbone; None if it needs none.

    It keeps nothing: a model in service must not grow with what it is shown.
    """
    if not isinstance(fitted, Adapted):
        return None
    store = FeatureStore(None, max_memory_bytes=0)
    return Encoder(backbone=fitted.backbone, store=store, device=fitted.device)


def size_of(fitted: Fitted) -> dict[str, float]:
    """Return what can be counted of a saved model: its numbers, and their bytes.

    LoRA layers stay beside the weights that they change, and count. Members of an
    ensemble are saved, loaded and run each with its own backbone, and add up.
    """
    arrays = list(_arrays(fitted))
    return {
        "parameters": float(sum(math.prod(array.shape) for array in arrays)),
        "memory_mb": sum(array.nbytes for array in arrays) / MEGABYTE,
    }


def _arrays(fitted: Fitted) -> Iterator[np.ndarray | Tensor]:
    if isinstance(fitted, Ensemble):
        for member in fitted.members:
            yield from _arrays(member.fitted)
    elif isinstance(fitted, Adapted):
        yield from fitted.backbone.module.parameters()
        yield from fitted.head.arrays().values()
    elif isinstance(fitted, TermHead):
        yield from fitted.arrays().values()
    elif isinstance(fitted, Constant):
        yield fitted.output


def latency_seconds(fitted: Fitted, example: Input, device: str) -> float:
    """Return the median wall time in which a single model predicts one example.

    All that a prediction does after saving and loading counts: preprocessing, backbone
    and head.
    """
    if isinstance(fitted, Adapted):
        fitted = replace(fitted, start=None, device=device)
    encodings = Encodings(inputs=(example,), encoder=own_encoder(fitted))
    return median_seconds(lambda: fitted.outputs(encodings))


def median_seconds(work: Callable[[], object]) -> float:
    """Return the median wall time of a short piece of work, once it is warm.

    Measuring takes a tenth of a second, or two runs where they are slow.
    """
    times: list[float] = []
    while len(times) <= MOST_RUNS and sum(times[1:]) < ENOUGH_SECONDS:
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def middling(inputs: tuple[Input, ...]) -> Input:
    """Return an example of median length; images are all alike, and the first comes.

    >>> middling(("a", "ab", "a very long text"))
    'ab'
    """
    return sorted(inputs, key=length_of)[(len(inputs) - 1) // 2]

"""Fitted models that stand alone: their form on disk, their size and their speed."""

import math
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from torch import Tensor

from fewshot_automl.adaptation.baselines import Constant, TermHead
from fewshot_automl.adaptation.encodings import Encoder, Encodings, length_of
from fewshot_automl.adaptation.fitted import BACKBONE, Adapted
from fewshot_automl.adaptation.heads import Outputs
from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.errors import ExportError
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.modalities import Input
from fewshot_automl.places import link_folder
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
    weight: float
    """Its say; those of an ensemble sum to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ensemble:
    """Averages the calibrated outputs of its members, each by its weight.

    Members on one frozen backbone share it, in memory, on disk and in a prediction.
    """

    members: tuple[Member, ...]
    kind: str = "classes"
    """Of the target, whose rules say how outputs are calibrated."""

    @property
    def is_finite(self) -> bool:
        """Return whether every number in it is finite."""
        return all(member.fitted.is_finite for member in self.members)

    def outputs(self, encodings: Encodings) -> Outputs:
        """Return the average; each member sees the examples through its own encoder.

        What a backbone says of them is kept until all its members have answered.
        """
        rules, votes = kind_named(self.kind), []
        stores: defaultdict[int, FeatureStore] = defaultdict(lambda: FeatureStore(None))
        for member in self.members:
            encoder = member.encoder
            if encoder is not None:
                store = stores[id(encoder.backbone)]
                encoder = replace(encoder, store=store)
            outputs = member.fitted.outputs(replace(encodings, encoder=encoder))
            votes.append(rules.calibrate(outputs, member.calibration))
        weights = [member.weight for member in self.members]
        mean: np.ndarray = np.average(votes, axis=0, weights=weights)
        return mean

    def save(self, folder: Path) -> dict[str, Any]:
        """Write each member into a folder of its own, a shared backbone once."""
        states: list[dict[str, Any]] = []
        for index, member in enumerate(self.members):
            home, fitted = folder / f"member-{index}", member.fitted
            home.mkdir(parents=True)
            owner = next(
                i for i, one in enumerate(self.members) if _shares(one.fitted, fitted)
            )
            if isinstance(fitted, Adapted) and owner < index:
                state = {"kind": "adapted", **fitted.save_head(home)}
            else:
                state = save_fitted(fitted, home)
            rest = {"calibration": dict(member.calibration), "weight": member.weight}
            states.append({**rest, "backbone_of": owner, "fitted": state})
        return {"of": self.kind, "members": states}

    @classmethod
    def load(cls, folder: Path, state: dict[str, Any]) -> "Ensemble":
        """Return what `save` wrote; older ensembles have equal weights."""
        members: list[Member] = []
        for index, values in enumerate(state["members"]):
            home = folder / f"member-{index}"
            owner = values.get("backbone_of", index)
            if owner < index:
                first = members[owner].fitted
                assert isinstance(first, Adapted)
                fitted: Fitted = Adapted.load(home, values["fitted"], first.backbone)
            else:
                fitted = load_fitted(home, values["fitted"])
            members.append(
                Member(
                    fitted=fitted,
                    calibration=values["calibration"],
                    encoder=own_encoder(fitted),
                    weight=values.get("weight", 1 / len(state["members"])),
                )
            )
        return cls(members=tuple(members), kind=state["of"])


def _shares(one: Fitted, other: Fitted) -> bool:
    """Return whether models are one, or have one and the same frozen backbone."""
    if isinstance(one, Adapted) and isinstance(other, Adapted):
        no_layers = one.base is None and other.base is None
        return one is other or (no_layers and one.backbone is other.backbone)
    return one is other


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


def link_members(
    source: Path,
    state: Mapping[str, Any],
    picked: Sequence[tuple[int, Mapping[str, Any]]],
    folder: Path,
) -> dict[str, Any]:
    """Make a model of some members of a saved one, without loading or copying them.

    Args:
        source: The folder of the saved model.
        state: What `save_fitted` said of it.
        picked: The place of each member there, and what changes in its state.
        folder: Of the new model.

    Returns:
        What `load_fitted` needs.
    """
    if state["kind"] != "ensemble":
        link_folder(source, folder)
        return dict(state)
    states: list[dict[str, Any]] = []
    owners: dict[int, int] = {}
    for index, (place, changes) in enumerate(picked):
        home = folder / f"member-{index}" if len(picked) > 1 else folder
        values = state["members"][place]
        owner = values.get("backbone_of", place)
        link_folder(source / f"member-{place}", home)
        if owner in owners:
            shutil.rmtree(home / BACKBONE, ignore_errors=True)
        elif owner != place:
            link_folder(source / f"member-{owner}" / BACKBONE, home / BACKBONE)
        first = owners.setdefault(owner, index)
        states.append({**values, **changes, "backbone_of": first})
    if len(picked) == 1:
        return dict(states[0]["fitted"])
    return {"kind": "ensemble", "of": state["of"], "members": states}


def own_encoder(fitted: Fitted) -> Encoder | None:
    """Return the encoder of a loaded model's own backbone; None if it needs none.

    It keeps nothing: a model in service must not grow with what it is shown.
    """
    if not isinstance(fitted, Adapted):
        return None
    store = FeatureStore(None, max_memory_bytes=0)
    return Encoder(backbone=fitted.backbone, store=store, device=fitted.device)


def size_of(*models: Fitted, with_backbones: bool = True) -> dict[str, float]:
    """Return what can be counted of saved models: their numbers, and their bytes.

    LoRA layers stay beside the weights that they change, and count. A backbone that
    several models share is there once.
    """
    every: list[Fitted] = []
    for fitted in models:
        if isinstance(fitted, Ensemble):
            every += [member.fitted for member in fitted.members]
        else:
            every.append(fitted)
    arrays: list[np.ndarray | Tensor] = []
    for at, fitted in enumerate(every):
        is_first = not any(_shares(one, fitted) for one in every[:at])
        arrays += _arrays(fitted, with_backbone=with_backbones and is_first)
    return {
        "parameters": float(sum(math.prod(array.shape) for array in arrays)),
        "memory_mb": sum(array.nbytes for array in arrays) / MEGABYTE,
    }


def _arrays(fitted: Fitted, with_backbone: bool) -> Iterator[np.ndarray | Tensor]:
    if isinstance(fitted, Adapted):
        if with_backbone:
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

"""Several fitted models that vote: for when the labels cannot tell which is best."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.adaptation.leaves import load_leaf, own_encoder, save_leaf
from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.tasks import kind_named


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

    def outputs(self, encodings: Encodings) -> Float[np.ndarray, "examples outputs"]:
        """Return the mean of the members' outputs.

        Each member sees the examples through its own encoder.
        """
        votes = [
            kind_named(self.kind).calibrate(
                member.fitted.outputs(encodings.with_encoder(member.encoder)),
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
            state = save_leaf(member.fitted, home)
            states.append({"calibration": dict(member.calibration), "fitted": state})
        return {"of": self.kind, "members": states}

    @classmethod
    def load(cls, folder: Path, state: dict[str, Any]) -> "Ensemble":
        """Return what `save` wrote, each member on its own backbone."""
        members = []
        for index, values in enumerate(state["members"]):
            fitted = load_leaf(folder / f"member-{index}", values["fitted"])
            members.append(
                Member(
                    fitted=fitted,
                    calibration=values["calibration"],
                    encoder=own_encoder(fitted),
                )
            )
        return cls(members=tuple(members), kind=state["of"])

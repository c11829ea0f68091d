"""What finished studies say about a new one, and how far to trust it."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float64

from fewshot_automl.errors import UserError
from fewshot_automl.oracle.past import Numbers, Past
from fewshot_automl.oracle.scores import done_scores, filled
from fewshot_automl.outcome import History
from fewshot_automl.space import Config, Space

FORMAT: Final = "fewshot_automl prior"
VERSION: Final = 1
DEFAULT_FILE: Final = Path(__file__).parent / "priors" / "default.json"
"""Built by `benchmarks/prior.py` from `benchmarks/landscapes`."""
BELIEF: Final = 3.0
"""Odds beforehand that the studies are of use."""
USEFUL: Final = 0.6
"""Rank correlation that useful advice is expected to have."""
DOUBT: Final = 0.5
"""Power of the evidence: trials near each other are no independent witnesses."""
LEAST_TRUST: Final = 0.05
"""Below it nothing is said: what is left of wrong advice would still break ties."""
MOST_TRIALS: Final = 64
"""Latest trials that are compared; pairs grow with the square."""
ANEW: Final = "Build it anew with: fewshot prior build STUDY... --out FILE"


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Holds finished studies, and advises a new one by those that rank as it does.

    What it says of a Config is the mean of what the studies predict, each weighted by
    the probability that it is of use, given how it ranks the trials seen so far. The
    weights of studies that disagree go to 0, so a wrong prior is found out.

    >>> Prior().studies
    ()
    """

    studies: tuple[Past, ...] = ()
    """In order of their names."""

    def __post_init__(self) -> None:
        """Put the studies in order and check that their names differ."""
        ordered = tuple(sorted(self.studies, key=lambda study: study.name))
        object.__setattr__(self, "studies", ordered)
        names = [study.name for study in ordered]
        if len(set(names)) < len(names):
            raise UserError(
                "Studies of a prior must have names of their own, got "
                f"{', '.join(names)}. Name each study once."
            )

    @classmethod
    def build(
        cls,
        studies: Mapping[str, tuple[Space, History]],
        *,
        kinds: Mapping[str, str] | None = None,
    ) -> "Prior":
        """Distil finished studies (see `Past.of`), by name; `kinds` say of what."""
        made = (
            Past.of(name, space, history, kind=(kinds or {}).get(name, ""))
            for name, (space, history) in studies.items()
        )
        return cls(studies=tuple(made))

    @property
    def key(self) -> str:
        """Return a short hash of all there is, the same on every machine."""
        return hashlib.sha256(json.dumps(self.to_json()).encode()).hexdigest()[:12]

    def about(self, kind: str) -> "Prior":
        """Return the prior without the studies that were about something else."""
        return Prior(studies=tuple(s for s in self.studies if s.kind in (kind, "")))

    def without(self, name: str) -> "Prior":
        """Return the prior without one study, if it has it."""
        return Prior(studies=tuple(s for s in self.studies if s.name != name))

    def predict(
        self, space: Space, configs: Sequence[Config]
    ) -> Float64[np.ndarray, "studies configs"]:
        """Return what each study says of Configs, in its standard deviations."""
        rows = [study.predict(space, configs) for study in self.studies]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(configs))

    def weights(
        self, space: Space, history: History
    ) -> Float64[np.ndarray, " studies"]:
        """Return what each study counts: the probability that it is of use."""
        scores = done_scores(history, regularise=True)
        means, errors = np.array(list(scores.values())).reshape(-1, 2).T
        said = self.predict(space, [history[i][0] for i in scores])
        before = np.array([study.weight for study in self.studies])
        favour = np.array([evidence(one, means, errors) for one in said])
        odds = BELIEF * before / before.sum() * np.exp(DOUBT * favour)
        trust = odds.sum() / (1 + odds.sum())
        return np.asarray(odds / (1 + odds.sum()) * (trust >= LEAST_TRUST))

    def advice(
        self, space: Space, history: History
    ) -> Callable[[Sequence[Config]], Numbers]:
        """Return a function of Configs: what the studies say, as far as trusted."""
        weights = self.weights(space, history)
        return lambda configs: weights @ self.predict(space, configs)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        studies = [study.to_json() for study in self.studies]
        return {"format": FORMAT, "version": VERSION, "studies": studies}

    @classmethod
    def from_json(cls, values: Any) -> "Prior":
        """Return the prior that `to_json` wrote; a UserError if it is none."""
        wanted = {"format": FORMAT, "version": VERSION}
        values = values if isinstance(values, dict) else {}
        found = {name: values.get(name) for name in wanted}
        if found != wanted or not isinstance(values.get("studies"), list):
            raise UserError(
                f"A prior must be {wanted} with studies, got {found}. {ANEW}"
            )
        return cls(studies=tuple(map(Past.from_json, values["studies"])))

    def write(self, path: Path) -> None:
        """Write the prior to a file, one line a study."""
        studies = (
            json.dumps(study.to_json(), separators=(",", ":")) for study in self.studies
        )
        head = f'{{"format": "{FORMAT}", "version": {VERSION}, "studies": [\n'
        draft = path.with_name(f"{path.name}.writing")
        draft.write_text(head + ",\n".join(studies) + "\n]}\n", "utf-8")
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Prior":
        """Return the prior in a file; a UserError if there is none to be read."""
        try:
            return cls.from_json(json.loads(path.read_text("utf-8")))
        except UserError as error:
            raise UserError(f"{path} is no prior: {error}") from error
        except (OSError, ValueError) as error:  # also undecodable bytes
            raise UserError(
                f"A prior must be a JSON file that can be read, got {path} ({error}). "
                f"{ANEW}"
            ) from error

    @classmethod
    def default(cls) -> "Prior":
        """Return the prior that comes with the package."""
        return _default()


@cache
def _default() -> Prior:
    return Prior.read(DEFAULT_FILE)


def evidence(advice: Numbers, means: Numbers, errors: Numbers) -> float:
    """Return how much the order of trials speaks for advice: log odds against chance.

    Useful advice is expected to have Kendall's rank correlation `USEFUL` with the
    scores, useless advice 0; both spread as chance allows for so many trials. Pairs
    count by how sure their order is, and not at all where the advice is the same.

    Source:
        Kendall, Rank Correlation Methods, 1948, for the variance under chance.

    >>> scores, errors = np.arange(6.0), np.zeros(6)
    >>> [round(evidence(sign * scores, scores, errors), 1) for sign in (1, 0, -1)]
    [3.3, 0.0, -6.2]
    """
    from scipy.special import ndtr  # here, for a quick start elsewhere

    advice, means = advice[-MOST_TRIALS:], means[-MOST_TRIALS:]
    errors, count = filled(errors[-MOST_TRIALS:]), len(means)
    left, right = np.triu_indices(count, 1)
    order = np.sign(advice[left] - advice[right])
    noise = np.maximum(np.hypot(errors[left], errors[right]), 1e-12)
    seen = 2 * ndtr((means[left] - means[right]) / noise) - 1
    sure = np.abs(seen) * (order != 0)
    if not sure.any():
        return 0.0
    correlation = float(order @ seen / sure.sum())
    variance = 2 * (2 * count + 5) / (9 * count * (count - 1))
    return USEFUL * (correlation - USEFUL / 2) * float(sure.mean()) / variance

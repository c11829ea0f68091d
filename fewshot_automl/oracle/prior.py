"""What finished studies say about a new one, and how far to trust it."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float64

from fewshot_automl.errors import UserError
from fewshot_automl.oracle.past import Past
from fewshot_automl.oracle.scores import done_scores, filled
from fewshot_automl.outcome import History
from fewshot_automl.space import Choice, Config, Space

FORMAT: Final = "fewshot_automl prior"
VERSION: Final = 1
DEFAULT_FILE: Final = Path(__file__).parent / "priors" / "default.json"
"""Built by `benchmarks/prior.py` from `benchmarks/landscapes`."""
BELIEF: Final = 3.0
"""Odds beforehand that the studies are of use."""
USEFUL: Final = 0.6
"""Rank correlation that useful advice is expected to have."""
DOUBT: Final = 0.5
"""Power of the evidence for one study: its trials are not independent of each other."""
LEAST_TRUST: Final = 0.05
"""Below it nothing is said: what is left of wrong advice would still break ties."""
MOST_TRIALS: Final = 64
"""Latest trials that are compared; pairs grow with the square."""

Numbers = Float64[np.ndarray, " numbers"]


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
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(
                f"Studies of a prior must have names of their own, got {twice!r} "
                "twice. Name each study once."
            )

    @classmethod
    def build(
        cls,
        studies: Mapping[str, tuple[Space, History]],
        *,
        kinds: Mapping[str, str] | None = None,
    ) -> "Prior":
        """Distil finished studies.

        Args:
            studies: Space and history of each, by name, in any order.
            kinds: What each was about, by name, as far as known.

        Raises:
            UserError: If a study has too few done trials; see `Past.of`.
        """
        kinds = kinds or {}
        return cls(
            studies=tuple(
                Past.of(name, space, history, kind=kinds.get(name, ""))
                for name, (space, history) in studies.items()
            )
        )

    @property
    def key(self) -> str:
        """Return a short hash of all there is, the same on every machine."""
        return hashlib.sha256(json.dumps(self.to_json()).encode()).hexdigest()[:12]

    def about(self, kind: str) -> "Prior":
        """Return the prior without the studies that were about something else."""
        kept = (study for study in self.studies if study.kind in (kind, ""))
        return Prior(studies=tuple(kept))

    def without(self, name: str) -> "Prior":
        """Return the prior without one study, if it has it."""
        kept = (study for study in self.studies if study.name != name)
        return Prior(studies=tuple(kept))

    def predict(
        self, space: Space, configs: Sequence[Config]
    ) -> Float64[np.ndarray, "studies configs"]:
        """Return what each study says of Configs, in its standard deviations.

        Rows are 0 for studies that have nothing to say about `space` (see `speakers`).
        """
        rows = [
            study.predict(space, configs) if is_heard else np.zeros(len(configs))
            for study, is_heard in zip(self.studies, self.speakers(space), strict=True)
        ]
        return np.array(rows, dtype=np.float64).reshape(len(rows), len(configs))

    def speakers(self, space: Space) -> Bool[np.ndarray, " studies"]:
        """Return which studies have something to say about a space.

        Those that share a dimension with it. If some of them share an option of a
        choice with descriptors (a backbone), then only those: studies of texts know
        nothing of images, alike as the numbers may be.
        """
        shares = [
            any(dimension.name in space for dimension in study.space.dimensions)
            for study in self.studies
        ]
        acquainted = [
            is_heard and bool(_described(study.space) & _described(space))
            for study, is_heard in zip(self.studies, shares, strict=True)
        ]
        return np.array(acquainted if any(acquainted) else shares, dtype=bool)

    def advice(
        self, space: Space, history: History
    ) -> Callable[[Sequence[Config]], Numbers]:
        """Return a function of Configs: what the studies say, as far as trusted."""
        weights = self.weights(space, history)
        trusted = np.flatnonzero(weights)
        heard = Prior(studies=tuple(self.studies[i] for i in trusted))

        def said(configs: Sequence[Config]) -> Numbers:
            return np.asarray(weights[trusted] @ heard.predict(space, configs))

        return said

    def weights(self, space: Space, history: History) -> Float64[np.ndarray, " studies"]:
        """Return what each study counts: the probability that it is of use.

        Args:
            space: Where the study searches.
            history: Trials so far. Without any, studies count by their weights.
        """
        weights = np.zeros(len(self.studies))
        heard = np.flatnonzero(self.speakers(space))
        if not len(heard):
            return weights
        scores = done_scores(history, regularise=True)
        means, errors = np.array(list(scores.values())).reshape(-1, 2).T
        said = self.predict(space, [history[i][0] for i in scores])[heard]
        before = np.array([self.studies[i].weight for i in heard])
        favour = np.array([evidence(one, means, errors) for one in said])
        odds = BELIEF * before / before.sum() * np.exp(DOUBT * favour)
        trust = odds / (1 + odds.sum())
        if trust.sum() >= LEAST_TRUST:
            weights[heard] = trust
        return weights

    def first(self, space: Space, configs: Sequence[Config], n: int) -> list[Config]:
        """Return the Configs with which to begin, one for each way a task may be.

        Each is the one that helps most beside those before it: the sum over studies
        of the best prediction so far rises most.

        Args:
            space: Where the Configs live.
            configs: To choose from.
            n: How many; fewer come if there are no more.

        Source:
            Wistuba et al., ECML 2015, for the greedy portfolio.
        """
        said = self.predict(space, configs)
        weights = np.array([study.weight for study in self.studies])
        reached = np.full(len(self.studies), said.min(initial=0.0))
        left = list(range(len(configs)))
        chosen: list[Config] = []
        while left and len(chosen) < n and len(weights):
            gains = weights @ np.maximum(
                said[:, left], np.maximum(reached, -9)[:, None]
            )
            best = left.pop(int(np.argmax(gains)))
            reached = np.maximum(reached, said[:, best])
            chosen.append(configs[best])
        return chosen

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        studies = [study.to_json() for study in self.studies]
        return {"format": FORMAT, "version": VERSION, "studies": studies}

    @classmethod
    def from_json(cls, values: Any) -> "Prior":
        """Return the prior that `to_json` wrote.

        Raises:
            UserError: If the values are not those of a prior.
        """
        if not isinstance(values, dict) or values.get("format") != FORMAT:
            raise UserError(
                f"A prior must say that its format is {FORMAT!r}, got none that does. "
                "Build one with: fewshot prior build STUDY... --out FILE"
            )
        if values.get("version") != VERSION:
            raise UserError(
                f"Version of a prior must be {VERSION}, got {values.get('version')!r}. "
                "Build it anew with: fewshot prior build STUDY... --out FILE"
            )
        studies = values.get("studies")
        if not isinstance(studies, list):
            raise UserError(
                f"Studies of a prior must be a list, got {studies!r}. Build it anew."
            )
        return cls(studies=tuple(map(Past.from_json, studies)))

    def write(self, path: Path) -> None:
        """Write the prior to a file, one line a study."""
        studies = (
            json.dumps(study.to_json(), separators=(",", ":")) for study in self.studies
        )
        text = (
            f'{{"format": "{FORMAT}", "version": {VERSION}, "studies": [\n'
            + ",\n".join(studies)
            + "\n]}\n"
        )
        draft = path.with_name(f"{path.name}.writing")
        draft.write_text(text, "utf-8")
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Prior":
        """Return the prior in a file.

        Raises:
            UserError: If there is none, or not one that can be read.
        """
        try:
            values = json.loads(path.read_text("utf-8"))
        except OSError as error:
            raise UserError(
                f"A prior must be a file that can be read, got {path} "
                f"({error.strerror}). Build one with: fewshot prior build STUDY... "
                f"--out {path}"
            ) from error
        except ValueError as error:  # also undecodable bytes
            raise UserError(
                f"A prior must be JSON, got {path} ({error}). "
                "Build it anew with: fewshot prior build STUDY... --out FILE"
            ) from error
        try:
            return cls.from_json(values)
        except UserError as error:
            raise UserError(f"{path} is no prior: {error}") from error

    @classmethod
    def default(cls) -> "Prior":
        """Return the prior that comes with the package."""
        return _default()


@cache
def _default() -> Prior:
    return Prior.read(DEFAULT_FILE)


def _described(space: Space) -> set[tuple[str, str]]:
    """Return the options of the choices that have descriptors."""
    return {
        (dimension.name, option)
        for dimension in space.dimensions
        if isinstance(dimension, Choice) and dimension.descriptors
        for option in dimension.options
    }

def evidence(advice: Numbers, means: Numbers, errors: Numbers) -> float:
    """Return how much the order of trials speaks for advice: log odds against chance.

    Useful advice is expected to have Kendall's rank correlation `USEFUL` with the
    scores, useless advice 0; both spread as chance allows for so many trials. Pairs
    count by how sure their order is, and not at all where the advice is the same.

    Args:
        advice: One number for each trial.
        means: What came of it.
        errors: Standard errors; NaN where unknown.

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

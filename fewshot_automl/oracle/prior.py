"""What finished studies say about a new one, and how far to trust them."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from fewshot_automl.errors import UserError
from fewshot_automl.oracle.encoding import Encoding, Rows
from fewshot_automl.oracle.incumbent import posterior_means
from fewshot_automl.oracle.scores import Scale, Values, differ, done_scores, winsorised
from fewshot_automl.outcome import History
from fewshot_automl.space import Choice, Config, Space, Value

if TYPE_CHECKING:
    from sklearn.kernel_ridge import KernelRidge

DEFAULT_FILE: Final = Path(__file__).parent / "priors" / "default.json"
"""Built by `benchmarks/prior.py` from `benchmarks/landscapes`."""
HEAD: Final = {"format": "fewshot_automl prior", "version": 1}
AGAIN: Final = "Build it again with: fewshot prior build STUDY... --out FILE"
MOST_POINTS, LEADERS = 60, 5
"""Configs that are kept of a study, and how many best ones are among them."""
NOISE: Final = 0.1
"""Penalty of the ridge: variance of a kept score that is not explained."""
SPAN, OPTION = 1.5, 0.6
"""How unlike the ends of a number's range are, and options over the root of 2."""
FARTHEST: Final = 2.0
"""Spreads of descriptors beyond which options have nothing in common."""
BELIEF, LEAST_TRUST = 3.0, 0.05
"""Odds beforehand that the studies are of use; and the trust below which nothing is
said: what is left of wrong advice would still break ties."""
USEFUL, DOUBT = 0.6, 0.5
"""Rank correlation that useful advice is expected to have; and the power of the
evidence: trials near each other are no independent witnesses."""


@dataclass(frozen=True, kw_only=True)
class Past:
    """Holds some Configs of a finished study and how good they were there.

    Its predictions are those of kernel ridge regression: 0 is the study's mean, 1 a
    standard deviation above, and what is like nothing in it gets 0.
    """

    name: str
    """The study's, one of its own in a prior."""
    kind: str = ""
    """What the study was about, for example `text`; empty if nobody said."""
    trials: int
    """How many done trials stand behind the scores."""
    space: Space
    """Where the Configs live."""
    configs: tuple[Config, ...]
    """Some of those tried, the best among them."""
    scores: tuple[float, ...]
    """Their scores without luck, in standard deviations from the study's mean."""

    @classmethod
    def of(cls, name: str, space: Space, history: History, *, kind: str = "") -> "Past":
        """Distil a finished study of `LEADERS` done trials or more."""
        means = posterior_means(space, history, seed=0)
        best = {history[i][0]: mean for i, mean in means.items()}
        configs = sorted(filter(space.contains, best), key=lambda c: (-best[c], c.key))
        raw = np.array([best[config] for config in configs], dtype=np.float64)
        if len(configs) < LEADERS or not differ(raw):
            raise UserError(
                f"Study {name!r} must have {LEADERS} done trials or more with scores "
                f"that differ, got {len(configs)}. Leave it out."
            )
        # The best as they stand, the others evenly by rank.
        rest = min(MOST_POINTS, len(raw)) - LEADERS
        ranks = np.linspace(LEADERS, len(raw) - 1, rest).astype(int).tolist()
        kept = [*range(LEADERS), *ranks]
        scores = Scale.of(raw, is_cost=False)(winsorised(raw)).round(4)[kept]
        return cls(
            name=name,
            kind=kind,
            trials=len(configs),
            space=space,
            configs=tuple(configs[i] for i in kept),
            scores=tuple(scores.tolist()),
        )

    def predict(self, space: Space, configs: Sequence[Config]) -> Values:
        """Return what the study says of Configs of any space, 0 for nothing."""
        own = [self._translated(config, space) for config in configs]
        known = np.array([config is not None for config in own], dtype=bool)
        said = np.zeros(len(configs))
        if known.any():
            places = self._places([config for config in own if config])
            said[known] = self._fitted.predict(places)
        return said

    @cached_property
    def _fitted(self) -> "KernelRidge":
        from sklearn.kernel_ridge import KernelRidge  # here, for a quick start

        ridge = KernelRidge(kernel="rbf", gamma=0.5, alpha=NOISE)
        return ridge.fit(self._places(self.configs), np.array(self.scores))

    def _places(self, configs: Sequence[Config]) -> Rows:
        """Return where Configs of the space stand, so that distance is unlikeness."""
        encoding = Encoding(self.space)
        numbers, options = encoding.layout.separated(encoding.encode(configs))
        return np.hstack([SPAN * numbers, OPTION * options])

    def _translated(self, config: Config, space: Space) -> Config | None:
        """Return the Config of the study that is most like one of another space.

        Dimensions are matched by name; what the Config does not have is at its
        default. An option that the study does not know becomes the one with the
        nearest descriptors; None if none is near.
        """
        values = config.to_json()
        known: dict[str, Value] = {}
        for d in self.space.dimensions:
            value = values.get(d.name)
            if isinstance(d, Choice) and isinstance(value, str):
                theirs = next((x for x in space.dimensions if x.name == d.name), None)
                option = _nearest(d, theirs, value)
                if option is None:
                    return None
                known[d.name] = option
            elif not isinstance(d, Choice) and isinstance(value, int | float):
                known[d.name] = d.decode(d.encode(value)) if value > 0 else d.low
        return self.space.default(**known)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values: the points as a table, None where inactive."""
        names = sorted({name for config in self.configs for name in config})
        values = [config.to_json() for config in self.configs]
        return {
            **{name: getattr(self, name) for name in ("name", "kind", "trials")},
            "space": self.space.to_json(),
            "columns": names,
            "points": [[row.get(name) for name in names] for row in values],
            "scores": list(self.scores),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Past":
        """Return the study that `to_json` wrote; a UserError if it is none."""
        try:
            columns, rows = values["columns"], values["points"]
            table = [dict(zip(columns, row, strict=True)) for row in rows]
            given = [{n: v for n, v in row.items() if v is not None} for row in table]
            made = cls(
                **{name: values[name] for name in ("name", "kind", "trials")},
                space=Space.from_json(values["space"]),
                configs=tuple(map(Config.of, given)),
                scores=tuple(values["scores"]),
            )
            for config, score in zip(made.configs, made.scores, strict=True):
                made.space.validate(config)
                np.array(score, dtype=np.float64)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                "A study in a prior must be as `fewshot prior build` writes it, got "
                f"{json.dumps(values, default=str)[:80]} ({error!r}). {AGAIN}"
            ) from error
        return made


@dataclass(frozen=True, kw_only=True)
class Prior:
    """Holds finished studies, and advises a new one by those that rank as it does.

    What it says of a Config is the mean of what the studies predict, each weighted by
    the probability that it is of use, given how it ranks the trials seen so far: a
    wrong prior is found out.
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
        of = {name: (kinds or {}).get(name, "") for name in studies}
        made = (Past.of(name, *one, kind=of[name]) for name, one in studies.items())
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

    def weights(self, space: Space, history: History) -> Values:
        """Return what each study counts: the probability that it is of use."""
        scores = done_scores(history, regularise=True)
        means, errors = np.array(list(scores.values())).reshape(-1, 2).T
        configs = [history[i][0] for i in scores]
        said = [study.predict(space, configs) for study in self.studies]
        favour = np.array([evidence(one, means, errors) for one in said])
        odds = BELIEF / max(len(said), 1) * np.exp(DOUBT * favour)
        trust = odds.sum() / (1 + odds.sum())
        return np.asarray(odds / (1 + odds.sum()) * (trust >= LEAST_TRUST))

    def advice(
        self, space: Space, history: History
    ) -> Callable[[Sequence[Config]], Values]:
        """Return a function of Configs: what the studies say, as far as trusted."""
        pairs = list(zip(self.weights(space, history), self.studies, strict=True))

        def said(configs: Sequence[Config]) -> Values:
            rows = [w * s.predict(space, configs) for w, s in pairs if w]
            return np.asarray(np.sum([np.zeros(len(configs)), *rows], axis=0))

        return said

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**HEAD, "studies": [study.to_json() for study in self.studies]}

    @classmethod
    def from_json(cls, values: Any) -> "Prior":
        """Return the prior that `to_json` wrote; a UserError if it is none."""
        values = values if isinstance(values, dict) else {}
        found = {name: values.get(name) for name in HEAD}
        if found != HEAD or not isinstance(values.get("studies"), list):
            raise UserError(
                f"A prior must be {HEAD} with studies, got {found}. {AGAIN}"
            )
        return cls(studies=tuple(map(Past.from_json, values["studies"])))

    def write(self, path: Path) -> None:
        """Write the prior to a file, one line a study."""
        studies = (
            json.dumps(study.to_json(), separators=(",", ":")) for study in self.studies
        )
        head = json.dumps({**HEAD, "studies": []}).removesuffix("]}")
        draft = path.with_name(f"{path.name}.writing")
        draft.write_text(f"{head}\n" + ",\n".join(studies) + "\n]}\n", "utf-8")
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Prior":
        """Return the prior in a file; a UserError if there is none to be read."""
        try:
            return cls.from_json(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError) as error:  # also undecodable bytes
            words = (
                f"A prior must be a JSON file that can be read, got {path}: {error}."
            )
            raise UserError(f"{words} {AGAIN}") from error

    @classmethod
    @cache
    def default(cls) -> "Prior":
        """Return the prior that comes with the package."""
        return cls.read(DEFAULT_FILE)


def evidence(advice: Values, means: Values, errors: Values) -> float:
    """Return how much the order of trials speaks for advice: log odds against chance.

    Useful advice is expected to have Kendall's rank correlation `USEFUL` with the
    scores, useless advice 0; both spread as chance allows (Kendall, 1948).

    >>> scores, errors = np.arange(6.0), np.zeros(6)
    >>> [round(evidence(sign * scores, scores, errors), 1) for sign in (1, 0, -1)]
    [3.3, 0.0, -6.2]
    """
    from scipy.special import ndtr  # here, for a quick start elsewhere

    count = len(means)
    left, right = np.triu_indices(count, 1)
    order = np.sign(advice[left] - advice[right])
    noise = np.nan_to_num(np.hypot(errors[left], errors[right])).clip(1e-12)
    seen = 2 * ndtr((means[left] - means[right]) / noise) - 1
    sure = np.abs(seen) * (order != 0)
    if not sure.any():
        return 0.0
    correlation = float(order @ seen / sure.sum())
    variance = 2 * (2 * count + 5) / (9 * count * (count - 1))
    return USEFUL * (correlation - USEFUL / 2) * float(sure.mean()) / variance


def _nearest(choice: Choice, theirs: object, option: str) -> str | None:
    """Return the option that is the same, or whose descriptors are nearest, if any.

    A spread below 1 counts as 1: slight differences between like options are none.
    """
    if option in choice.options:
        return option
    if not isinstance(theirs, Choice) or option not in theirs.options:
        return None  # the space was narrowed since
    table = np.array(choice.descriptors or [], dtype=np.float64)
    rows = theirs.descriptors
    if not table.size or not rows or len(rows[0]) != table.shape[1]:
        return None
    away = table - np.array(rows[theirs.options.index(option)])
    gaps = np.nan_to_num(away / np.nanstd(table, axis=0).clip(1))
    distances = np.square(gaps).mean(axis=1)
    best = int(distances.argmin())
    return choice.options[best] if distances[best] < FARTHEST**2 else None

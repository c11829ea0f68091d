"""Where a model fails: labels that look wrong, and kinds of examples it gets wrong.

All of it comes from the cross-validated predictions that a study keeps.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from fewshot_automl.adaptation.heads import unit_rows
from fewshot_automl.automl.finished import Finished
from fewshot_automl.cells import label_text, number
from fewshot_automl.data import Columns, Source
from fewshot_automl.data.infer import kind_of
from fewshot_automl.evaluation.intervals import wilson_interval
from fewshot_automl.modalities import Input
from fewshot_automl.tasks.costs import NO_ANSWER

FEWEST: Final = 5
"""Examples that a slice must have."""
FALSE_SHARE: Final = 0.1
"""Share of the slices said to be worse that may be so by chance."""
PER_CLUSTER: Final = 15
MOST_CLUSTERS: Final = 20
MOST_VALUES: Final = 10
"""Different numbers of a column from which on quarters of them are slices."""
SHOWN: Final = 3
"""Examples that are shown of a slice, and words that name a cluster."""
WORDS: Final[dict[str, Any]] = {"token_pattern": r"\b\w{3,}\b"}
"""What may name a cluster, as scikit-learn's `TfidfVectorizer` has it."""

Rows = Bool[np.ndarray, " examples"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Some examples that have something in common, and how often they fail."""

    number: int
    """For `repair`; the surest to be worse than the rest is 1."""
    name: str
    examples: int
    mistakes: int
    rate: float
    """Share of mistakes."""
    low: float
    high: float
    """Ends of its 95 % interval."""
    rest: float
    """Share of mistakes of the other examples."""
    p_value: float
    """How likely so many mistakes are if it is no worse than the rest."""
    q_value: float
    """Expected share of chance findings among all slices that are as sure."""
    shown: tuple[str, ...]
    """Some of the mistakes."""
    rows: tuple[int, ...]
    """Its examples, by their place among the labelled ones."""

    @property
    def is_worse(self) -> bool:
        """Return whether it is worse than the rest by more than chance."""
        return self.q_value <= FALSE_SHARE


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspect:
    """A label that is probably wrong."""

    row: int
    origin: str
    given: str
    suggested: str
    quality: float
    """How probable the given label is by cross-validation."""
    example: Input


@dataclass(frozen=True, slots=True, kw_only=True)
class Failures:
    """Where a model fails."""

    examples: int
    rate: float
    """Share of mistakes of all."""
    suspects: tuple[Suspect, ...]
    """The surest first. A wrong label is mended by a label."""
    slices: tuple[Slice, ...]
    """The surest to be worse than the rest first."""
    columns: Columns
    """Where the examples stand in a table like the data."""


class _Candidate(NamedTuple):
    name: str
    inside: Rows
    failed: Rows
    rest: Rows
    tries: int = 1
    """Of as many, this was chosen for its failures."""


def slices(folder: Path | str, *, data: Source | None = None) -> Failures:
    """Find labels that look wrong, and slices in which the model fails most.

    Slices are classes, the most frequent wrong answer of each class, clusters of the
    model's features, quarters by length (of texts), and values of columns that are
    neither input nor label. Each is tested against the rest (Fisher's exact test, one
    side), with Benjamini and Hochberg's correction for looking at many.

    Args:
        folder: The `out` folder of a fit.
        data: The fit's data again, if they were in memory or have moved, or have
            columns that an updated study lacks.

    Raises:
        UserError: If there is no finished study of classes, or data cannot be read.

    Source:
        Northcutt, Jiang and Chuang, JAIR 70, 2021 (confident learning, by cleanlab);
        Benjamini and Hochberg, J. R. Statist. Soc. B 57, 1995.
    """
    return failures(Finished.of(folder), data)


def failures(study: Finished, data: Source | None) -> Failures:
    """Return where the model of a study that was read fails; see `slices`."""
    from scipy.stats import false_discovery_control, fisher_exact

    rules = study.classes("slices")
    every, inputs, beside = study.table(data)
    proba = study.outputs[every]
    known = np.flatnonzero(np.isfinite(proba).all(axis=1))
    rows, proba = np.array(every)[known], proba[known]
    inputs = tuple(inputs[at] for at in known)
    labels = study.labels[rows]
    answers = rules.decide(proba)
    wrong = (answers != labels) & (answers != NO_ANSWER)
    groups = {
        **_by_length(inputs),
        **_by_columns({n: [cells[i] for i in known] for n, cells in beside.items()}),
        **_by_cluster(study, inputs, rows),
    }
    kinds = [(name, labels == at) for at, name in enumerate(rules.names)]
    found = [
        *(_Candidate(f"class {name}", x, wrong, ~x) for name, x in kinds),
        *_pairs(rules.names, labels, answers),
        *(_Candidate(name, x, wrong, ~x) for name, x in groups.items()),
    ]
    found = [x for x in found if x.inside.sum() >= FEWEST and x.rest.any()]
    same = {(x.inside.tobytes(), x.failed.tobytes()): x for x in reversed(found)}
    found = list(reversed(same.values()))  # of equal ones the first
    p_values = []
    for one in found:
        sides = [one.failed[side] for side in (one.inside, one.rest)]
        table = np.array([[x.sum(), (~x).sum()] for x in sides])
        p_value = fisher_exact(table, alternative="greater").pvalue
        p_values.append(min(one.tries * float(p_value), 1.0))
    q_values = false_discovery_control(p_values) if found else np.zeros(0)

    def shown(which: Rows) -> tuple[str, ...]:
        surest = np.flatnonzero(which)
        surest = surest[np.argsort(-proba[surest].max(axis=1), kind="stable")]
        said = []
        for at in surest[:SHOWN]:
            item, origin = inputs[at], study.summary["origins"][rows[at]]
            words = item if isinstance(item, str) else origin
            answer = rules.names[answers[at]]
            said.append(f"{words} ({rules.say(labels[at])}, answered {answer})")
        return tuple(said)

    made: list[Slice] = []
    for place in np.lexsort((np.array(p_values), q_values)):
        one = found[place]
        size, mistakes = int(one.inside.sum()), int(one.failed[one.inside].sum())
        low, high = wilson_interval(mistakes / size, size)
        made.append(
            Slice(
                number=len(made) + 1,
                name=one.name,
                examples=size,
                mistakes=mistakes,
                rate=mistakes / size,
                low=low,
                high=high,
                rest=float(one.failed[one.rest].mean()),
                p_value=p_values[place],
                q_value=float(q_values[place]),
                shown=shown(one.inside & one.failed),
                rows=tuple(rows[one.inside].tolist()),
            )
        )
    names, origins = rules.names, study.summary["origins"]
    suspects = tuple(
        Suspect(
            row=int(rows[at]),
            origin=origins[rows[at]],
            given=names[labels[at]],
            suggested=names[proba[at].argmax()],
            quality=float(proba[at, labels[at]]),
            example=inputs[at],
        )
        for at in suspected(labels, proba)
    )
    return Failures(
        examples=len(rows),
        rate=float(wrong.mean()),
        suspects=suspects,
        slices=tuple(made),
        columns=study.columns,
    )


def suspected(
    labels: Int[np.ndarray, " examples"], proba: Float[np.ndarray, "examples classes"]
) -> list[int]:
    """Return the rows whose labels are probably wrong, the surest first."""
    from cleanlab.filter import find_label_issues

    present, places = np.unique(labels, return_inverse=True)
    if len(present) < 2:
        return []
    found = find_label_issues(
        places,
        proba[:, present] / proba[:, present].sum(axis=1, keepdims=True),
        return_indices_ranked_by="self_confidence",
        n_jobs=1,
    )
    return [int(row) for row in found]


def _pairs(
    names: Sequence[str],
    labels: Int[np.ndarray, " examples"],
    answers: Int[np.ndarray, " examples"],
) -> Iterator[_Candidate]:
    """Yield, for each class, the class that it is most often taken for.

    The rest are the examples of all other classes.
    """
    for at, name in enumerate(names):
        inside = labels == at
        given = answers[inside & (answers != at) & (answers != NO_ANSWER)]
        if len(names) > 2 and len(given):
            taken = int(np.bincount(given).argmax())
            said, rest = f"{name} taken for {names[taken]}", ~inside & (labels != taken)
            yield _Candidate(said, inside, answers == taken, rest, len(names) - 1)


def _by_length(inputs: Sequence[Input]) -> dict[str, Rows]:
    texts = [item for item in inputs if isinstance(item, str)]
    if len(texts) < len(inputs):
        return {}
    return _quarters("{:g} to {:g} characters long", list(map(len, texts)))


def _by_columns(beside: Mapping[str, Sequence[object]]) -> dict[str, Rows]:
    """Return a slice a value of each column, and of many numbers one a quarter."""
    found: dict[str, Rows] = {}
    for name, cells in beside.items():
        values = [label_text(cell) for cell in cells]
        numbers = [None if value is None else number(value) for value in values]
        distinct = {value for value in numbers if value is not None}
        if kind_of(cells) == "number" and len(distinct) > MOST_VALUES:
            found |= _quarters(f"{name} from {{:g}} to {{:g}}", numbers)
            values = [value and "" for value in values]
        for value in dict.fromkeys(values):
            if value != "":
                said = f"{name} missing" if value is None else f"{name} = {value}"
                found[said] = np.array([one == value for one in values])
    return found


def _quarters(name: str, values: Sequence[int | float | None]) -> dict[str, Rows]:
    import pandas as pd

    numbers = pd.Series(np.array(values, dtype=float))
    parts = pd.qcut(numbers, 4, labels=False, duplicates="drop").to_numpy()
    found = {}
    for part in np.unique(parts[np.isfinite(parts)]):
        inside = numbers[parts == part]
        found[name.format(inside.min(), inside.max())] = np.asarray(parts == part)
    return found


def _by_cluster(
    study: Finished, inputs: tuple[Input, ...], rows: Int[np.ndarray, " examples"]
) -> dict[str, Rows]:
    """Return clusters of the model's features; of words where it has no backbone."""
    from sklearn.cluster import KMeans
    from sklearn.feature_extraction.text import TfidfVectorizer

    is_text = all(isinstance(item, str) for item in inputs)
    encode, terms = study.encoder(), TfidfVectorizer(**WORDS)
    try:
        counts: Any = terms.fit_transform(inputs) if is_text else None
    except ValueError:  # there is no word in them
        counts = None
    parts = min(len(inputs) // PER_CLUSTER, MOST_CLUSTERS)
    if parts < 2 or (encode is None and counts is None):
        return {}
    features = counts.toarray() if encode is None else unit_rows(encode(inputs))
    clusters = KMeans(parts, n_init=4, random_state=0).fit(features)
    found = {}
    for part in range(parts):
        inside = clusters.labels_ == part
        distances = np.linalg.norm(features - clusters.cluster_centers_[part], axis=1)
        central = np.argsort(distances[inside])[:SHOWN]
        central = np.flatnonzero(inside)[central]
        places = [Path(study.summary["origins"][rows[i]]) for i in central]
        named = ["/".join(place.parts[-2:]) for place in places]  # with its class
        if counts is not None:
            lead = np.ravel(counts[inside].mean(0) - counts[~inside].mean(0))
            named = terms.get_feature_names_out()[np.argsort(-lead)[:SHOWN]].tolist()
        found[f"like {', '.join(named)}"] = inside
    return found

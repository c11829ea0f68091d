"""Is what a model sees now like what it learnt from, and does it keep its promise?"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Float

from fewshot_automl.adaptation.heads import unit_rows
from fewshot_automl.automl.finished import Finished
from fewshot_automl.automl.scoring import as_decided
from fewshot_automl.data import Source, read_inputs, read_like
from fewshot_automl.errors import DataError
from fewshot_automl.evaluation.intervals import standard_error
from fewshot_automl.tasks import Task
from fewshot_automl.tasks.classes import Classes
from fewshot_automl.tasks.costs import NO_ANSWER

ALARM: Final = 0.01
"""Least p-value, of all tests together (Holm), that is no alarm."""
MOST: Final = 1000
"""New examples that are compared, drawn at random."""
FEWEST: Final = 10
"""Examples of each side that can be compared."""
FEW: Final = 3
"""Answers of a class from which on it is compared."""
EVEN: Final = 1.5
"""The largest class over the smallest, up to which labels were drawn evenly by class:
their shares then say nothing of new data."""
FARTHEST: Final = 5
REACH: Final = 1.96
"""Standard errors of a new score within which the promise may lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """One thing that was looked at."""

    name: str
    expected: str
    """As in training, in words."""
    found: str
    """In the new data, in words."""
    p_value: float | None
    """How likely so large a difference is if nothing has changed."""
    is_alarm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What a look at new data found."""

    findings: tuple[Looked, ...]
    farthest: tuple[tuple[str, float], ...]
    """Where new examples stand that are least like any labelled one, and their cosine
    to the nearest."""
    examples: int
    notes: tuple[str, ...] = ()
    """Examples that cannot be read, and why; they are left out."""

    @property
    def is_alarm(self) -> bool:
        """Return whether something has changed."""
        return any(each.is_alarm for each in self.findings)


def check(
    folder: Path | str,
    new: Source,
    *,
    target: str | None = None,
    data: Source | None = None,
    seed: int = 0,
) -> Check:
    """Compare new data with those that a study learnt from.

    Args:
        folder: The `out` folder of a fit.
        new: Examples like those of the fit.
        target: Column of labels in `new`, to compare the score too; None if it has
            none.
        data: The fit's data again, if they were in memory or have moved.
        seed: Of what is drawn.

    Raises:
        UserError: If there is no finished study of classes, or data cannot be read.
    """
    study = Finished.of(folder)
    rules, model, summary = study.classes("check"), study.model, study.summary
    if target is None:
        examples = read_inputs(new, model.task, model.columns)
    else:
        examples = read_like(new, model.task, model.columns, target)
    rng = np.random.default_rng(seed)
    some = np.sort(rng.permutation(len(examples))[:MOST])
    examples = examples.take(some)
    outputs, faults = model.answers(examples.inputs)
    notes = tuple(finding.line() for finding in examples.unreadable(faults))
    if faults:
        good = np.setdiff1d(np.arange(len(examples)), list(faults))
        examples, outputs = examples.take(good), outputs[good]
    if len(examples) < 2:
        raise DataError("New data must hold at least 2 examples that can be read.")
    before = study.outputs
    before = before[np.isfinite(before).all(axis=1)]
    labelled = np.bincount(study.labels, minlength=rules.width).astype(float)
    findings = [*_of_answers(rules, before, outputs, labelled)]
    farthest: list[tuple[str, float]] = []
    if (encode := study.encoder(frozen=True)) is not None:
        rows, trained, _ = study.table(data)
        reference, here = encode(trained), encode(examples.inputs)
        truth = study.labels[rows]
        old_rows, new_rows = _alike(truth, outputs.argmax(axis=1), rng)
        if min(len(old_rows), len(new_rows)) >= FEWEST:
            pair = reference[old_rows], here[new_rows]
            findings.insert(0, _two_samples(*pair, seed))
        nearest = (unit_rows(here) @ unit_rows(reference).T).max(axis=1)
        order = np.argsort(nearest)[:FARTHEST]
        farthest = [(examples.origins[i], float(nearest[i])) for i in order]
    findings = _with_alarms(findings)
    is_labelled = rules.is_labelled(examples.targets)
    if target is not None and is_labelled.any():
        truth, proba = examples.targets[is_labelled], outputs[is_labelled]
        findings.append(_promise(model.task, summary, truth, proba))
    return Check(
        findings=tuple(findings),
        farthest=tuple(farthest),
        examples=len(examples),
        notes=notes,
    )


def _alike(
    labels: np.ndarray, answers: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of both sides with equal shares of the classes that both have.

    Labels are often drawn evenly by class, and that is no drift.
    """
    both = np.intersect1d(labels, answers)
    sizes = np.array([[(y == c).sum() for c in both] for y in (labels, answers)])
    both, sizes = both[sizes[1] >= FEW], sizes[:, sizes[1] >= FEW]
    wanted = sizes[0] / max(sizes[0].sum(), 1)
    total = (sizes[1] / wanted).min() if len(both) else 0.0
    rows = [
        rng.permutation(np.flatnonzero(answers == c))[: round(total * share)]
        for c, share in zip(both, wanted, strict=True)
    ]
    empty = np.zeros(0, dtype=np.int64)
    return np.flatnonzero(np.isin(labels, both)), np.concatenate([empty, *rows])


def _two_samples(reference: np.ndarray, here: np.ndarray, seed: int) -> Looked:
    """Return whether a classifier tells new examples from labelled ones.

    Source:
        Lopez-Paz and Oquab, ICLR 2017 (classifier two-sample tests), with the rank sum
        of cross-validated scores in the place of accuracy.
    """
    from scipy.stats import mannwhitneyu
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    features = unit_rows(np.concatenate([reference, here]))
    side = np.repeat([0, 1], [len(reference), len(here)])
    parts = min(5, int(np.bincount(side).min()))
    folds = StratifiedKFold(parts, shuffle=True, random_state=seed)
    rule = LogisticRegression(class_weight="balanced", C=10.0, max_iter=500)
    scores = cross_val_predict(
        rule, features, side, cv=folds, method="decision_function"
    )
    test = mannwhitneyu(scores[side == 1], scores[side == 0], alternative="greater")
    area = test.statistic / (len(reference) * len(here))
    return Looked(
        name="examples of each class, as the model sees them",
        expected="0.5: cannot be told apart",
        found=f"{area:.2f}: area under the curve of telling old from new",
        p_value=float(test.pvalue),
    )


def _of_answers(
    rules: Classes,
    before: Float[np.ndarray, "old classes"],
    now: Float[np.ndarray, "new classes"],
    labelled: Float[np.ndarray, " classes"],
) -> list[Looked]:
    from scipy.stats import chi2_contingency, fisher_exact, mannwhitneyu

    pair = [rules.decide(proba) for proba in (before, now)]
    counts = np.array(
        [np.bincount(a[a != NO_ANSWER], minlength=rules.width) for a in pair]
    )
    given = np.flatnonzero(counts.sum(axis=0))
    counts = counts[:, given]
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    found = []
    is_even = np.ptp(np.log(np.maximum(labelled, 1))) <= np.log(EVEN)
    if counts.shape[1] > 1 and counts.sum(axis=1).all():
        moved = int(np.abs(shares[1] - shares[0]).argmax())
        found.append(
            Looked(
                name="shares of the answers",
                expected=f"{shares[0, moved]:.2f} {rules.names[given[moved]]}"
                + (", labels drawn evenly" if is_even else ""),
                found=f"{shares[1, moved]:.2f} (moved most)",
                p_value=None if is_even else float(chi2_contingency(counts).pvalue),
            )
        )
    sure = before.max(axis=1), now.max(axis=1)
    test = mannwhitneyu(sure[0], sure[1], alternative="greater")
    found.append(
        Looked(
            name="how sure the answers are",
            expected=f"{sure[0].mean():.2f} on average, cross-validated",
            found=f"{sure[1].mean():.2f}",
            p_value=float(test.pvalue),
        )
    )
    if rules.costs is not None and rules.costs.limit is not None:
        left = [a == NO_ANSWER for a in pair]
        table = np.array([[here.sum(), (~here).sum()] for here in left])
        rates = [here.mean() for here in left]
        found.append(
            Looked(
                name="examples left to people",
                expected=f"{rates[0]:.2f}",
                found=f"{rates[1]:.2f}",
                p_value=float(fisher_exact(table).pvalue),
            )
        )
    return found


def _with_alarms(findings: Sequence[Looked]) -> list[Looked]:
    """Return findings with alarms set by Holm's step-down correction."""
    tests = sorted((x.p_value, x.name) for x in findings if x.p_value is not None)
    alarms: set[str] = set()
    for place, (p_value, name) in enumerate(tests):
        if p_value > ALARM / (len(tests) - place):
            break
        alarms.add(name)
    return [replace(each, is_alarm=each.name in alarms) for each in findings]


def _promise(
    task: Task, summary: dict[str, Any], truth: np.ndarray, proba: np.ndarray
) -> Looked:
    metric, score = task.measured, summary["score"]
    (proba,) = as_decided(task, proba[None])
    value = metric.value(truth, proba)
    error = standard_error(metric, truth, proba)
    reach = metric.orient(value) + REACH * error * np.array([-1, 1])
    best, ends = reach[1], sorted(map(metric.orient, np.clip(reach, *metric.limits)))
    worst = min(metric.orient(score["low"]), metric.orient(score["high"]))
    return Looked(
        name=metric.name.replace("_", " "),
        expected=f"{score['expected']:.3f} [{score['low']:.3f}, {score['high']:.3f}]",
        found=f"{value:.3f} [{ends[0]:.3f}, {ends[1]:.3f}], {len(truth)} labels",
        p_value=None,
        is_alarm=bool(math.isfinite(best) and best < worst),
    )

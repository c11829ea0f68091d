"""Mending a slice in which a model fails, with no search and nothing to label.

Mistakes of some classes come to weigh more when answers are chosen. Whether that helps
is told by a paired test on cross-validated predictions.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Float, Int

from fewshot_automl.automl.finish import answered_scores
from fewshot_automl.automl.finished import Finished
from fewshot_automl.automl.record import ledger_of
from fewshot_automl.automl.result import RESULT_FILE, VERSIONS_FILE, Result
from fewshot_automl.automl.retarget import Change, changes
from fewshot_automl.automl.scoring import as_decided, score_of
from fewshot_automl.automl.slices import failures
from fewshot_automl.data import Source, read_inputs, read_like
from fewshot_automl.errors import DataError, UserError
from fewshot_automl.evaluation.intervals import standard_error
from fewshot_automl.modalities import Input, content_hashes
from fewshot_automl.predictor import Predictor, save_again
from fewshot_automl.space import Space
from fewshot_automl.tasks import Task
from fewshot_automl.tasks.classes import Classes
from fewshot_automl.tasks.costs import Costs

SURE: Final = 0.05
"""Greatest p-value of a gain in the slice."""
MARGIN: Final = 0.02
"""Share of right answers that may be lost elsewhere, in what is not surely more."""
ONE_SIDED: Final = 1.645
"""Standard errors from a mean to the lower end of its one-sided 95 % interval."""
TUNED: Final = 0.8
"""Share of the margin that tuning uses up: what is left out of it does a bit worse."""
FACTORS: Final = np.geomspace(1.1, 30.0, 20)
"""How many times more a class's mistakes may weigh, tried."""
MOST_CLASSES: Final = 3
"""Classes whose mistakes may weigh more, the most missed in the slice."""
PARTS: Final = 10
"""Parts of the examples, each judged by decisions that are tuned on the others."""

Rows = Bool[np.ndarray, " examples"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What came of mending a slice, judged by cross-validated predictions."""

    name: str
    """Of the slice."""
    examples: int
    suspects: int
    """Labels in it that look wrong."""
    before: float
    """Share of right answers in the slice."""
    now: float
    fixed: int
    """Mistakes of the slice that are right now."""
    broken: int
    """Right answers of the slice that are wrong now."""
    p_value: float
    """How likely so many more are fixed than broken if it does not help; times the
    number of slices where one of them was chosen."""
    rest_before: float
    """Share of right answers elsewhere."""
    rest_now: float
    rest_low: float
    """Lower end of the one-sided 95 % interval of their difference."""
    version: int | None = None
    """The new version; None if it does not help, or hurts elsewhere."""
    result: Result | None = None
    changes: tuple[Change, ...] = ()
    """What it gains and loses on all examples, by metrics."""


def repair(
    folder: Path | str,
    *,
    slice: int | None = None,
    examples: Source | None = None,
    margin: float = MARGIN,
    data: Source | None = None,
) -> Repair:
    """Mend a slice in which the model fails, if that hurts nowhere else.

    Mistakes of the classes that it misses most there come to weigh more. That is taken
    if it helps in the slice (exact McNemar test, one side) and is not worse elsewhere
    by more than the margin. It becomes a new version of the model, whose members stay
    as they are.

    Args:
        folder: The `out` folder of a fit.
        slice: Number of a slice that `slices` found. The p-value is multiplied by the
            number of slices (Bonferroni), for the worst of many look worse than they
            are.
        examples: Data that hold the examples to mend, in place of a slice.
        margin: Share of right answers that may be lost elsewhere.
        data: The fit's data again, if they were in memory or have moved.

    Raises:
        UserError: If there is no finished study of classes, or no such slice.

    Source:
        McNemar, Psychometrika 12, 1947 (the sign test of what differs).
    """
    from scipy.stats import binomtest

    if not 0 < margin < 1:
        raise UserError(f"margin must be above 0 and below 1, got {margin:g}.")
    if (slice is None) == (examples is None):
        raise UserError("repair must be told a slice or examples, one of the two.")
    study = Finished.of(folder)
    rules, found = study.classes("repair"), failures(study, data)
    name, rows, looked = "the given examples", _rows_of(study, examples), 1
    if slice is not None:
        if not 1 <= slice <= (looked := len(found.slices)):
            raise UserError(
                f"Slice must be from 1 to {looked}, got {slice}. See: "
                f"fewshot slices {folder}"
            )
        name, rows = found.slices[slice - 1].name, found.slices[slice - 1].rows
    labels, proba = study.labels, study.outputs
    there, inputs, _ = study.table(data)
    if len(there) < len(labels):
        raise DataError(
            f"repair must have all {len(labels)} examples of the fit, got "
            f"{len(there)}. Bring back those that are missing, or update the study."
        )
    known = np.isfinite(proba).all(axis=1)
    inside = np.isin(np.arange(len(labels)), rows) & known
    rest = known & ~inside
    if not inside.any() or not rest.any():
        raise UserError(
            f"A slice must be some of the examples that were predicted, got "
            f"{inside.sum()} of {known.sum()}."
        )
    right = rules.decide(proba) == labels
    now, parts = right.copy(), np.arange(len(labels)) % PARTS
    np.random.default_rng(study.summary["seed"]).shuffle(parts)
    for part in range(PARTS):
        some = parts != part
        tuned = _mended(rules, labels, proba, inside & some, rest & some, margin)
        now[~some] = (tuned.decide(proba) == labels)[~some]
    fixed, broken = int((now & ~right)[inside].sum()), int((right & ~now)[inside].sum())
    p_value = 1.0
    if fixed + broken:
        p_value = binomtest(fixed, fixed + broken, alternative="greater").pvalue
    done = Repair(
        name=name,
        examples=int(inside.sum()),
        suspects=sum(bool(inside[one.row]) for one in found.suspects),
        before=float(right[inside].mean()),
        now=float(now[inside].mean()),
        fixed=fixed,
        broken=broken,
        p_value=min(looked * float(p_value), 1.0),
        rest_before=float(right[rest].mean()),
        rest_now=float(now[rest].mean()),
        rest_low=_low(now[rest].astype(int) - right[rest]),
    )
    if done.p_value > SURE or done.rest_low < -margin:
        return done
    mended = _mended(rules, labels, proba, inside, rest, margin)
    said = (
        f"repaired {name}: {done.before:.2f} of it right before, {done.now:.2f} now; "
        f"elsewhere {done.rest_before:.2f} before, {done.rest_now:.2f} now."
    )
    task = replace(study.task, costs=mended.costs)
    version, result = _delivered(study, task, inputs, said)
    gained = tuple(changes(study, result))
    return replace(done, version=version, result=result, changes=gained)


def _rows_of(study: Finished, examples: Source | None) -> Sequence[int]:
    if examples is None:
        return ()
    read = read_inputs(examples, study.task, study.columns)
    place = {key: row for row, key in enumerate(study.summary["keys"])}
    hashes = content_hashes(read.inputs)
    new = [at for at, key in zip(read.origins, hashes, strict=True) if key not in place]
    if new:
        raise DataError(
            "Examples to mend must be among those of the fit, got another one in "
            f"{new[0]}. Add new ones with: fewshot update"
        )
    return [place[key] for key in hashes]


def _mended(
    rules: Classes,
    labels: Int[np.ndarray, " examples"],
    proba: Float[np.ndarray, "examples classes"],
    inside: Rows,
    rest: Rows,
    margin: float,
) -> Classes:
    """Return rules whose answers gain most in the slice, and lose little elsewhere."""
    right = rules.decide(proba) == labels
    best = 0, 0
    missed = np.bincount(labels[inside & ~right], minlength=rules.width)
    for place in np.argsort(-missed, kind="stable")[:MOST_CLASSES]:
        costs = rules.costs or Costs.of(rules.names, {})
        base = np.array(costs.factors or [1.0] * rules.width)
        for factor in FACTORS if missed[place] else ():
            more = np.where(np.arange(rules.width) == place, factor, 1.0)
            new = replace(costs, factors=tuple((base * more).tolist()))
            gap = (replace(rules, costs=new).decide(proba) == labels).astype(int)
            gap -= right
            value = int(gap[inside].sum()), int(gap[rest].sum())
            if value > best and _low(gap[rest]) >= -TUNED * margin:
                best, rules = value, replace(rules, costs=new)
    return rules


def _low(gaps: Int[np.ndarray, " examples"]) -> float:
    """Return the lower end of the one-sided 95 % interval of a mean."""
    return float(gaps.mean() - ONE_SIDED * gaps.std() / np.sqrt(len(gaps)))


def _delivered(
    study: Finished, task: Task, inputs: tuple[Input, ...], said: str
) -> tuple[int, Result]:
    """Make the same model with other decisions a new version."""
    from fewshot_automl.report.write import write_report

    old, model, outputs = study.summary, study.model, study.predictions
    metric, before = task.measured, old["score"]
    luck = np.array([metric.orient(before["raw"]) - metric.orient(before["corrected"])])
    share = 1 - 1 / old["folds"][0]
    score = score_of(task, study.labels, outputs, luck, share, old["seed"])
    known: dict[str, Any] = {
        "score": score.to_json(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    number, home = study.next_version()
    others = shutil.ignore_patterns("versions", VERSIONS_FILE, "model")
    shutil.copytree(study.folder, home, ignore=others)
    save_again(
        study.folder / "model",
        [(place, {}) for place in range(len(old["members"]))],
        home / "model",
        task=task,
        config=model.config,
        columns=model.columns,
        calibration=model.calibration,
        facts={**model.facts, **known},
    )
    predictor = Predictor.load(home)
    error = standard_error(metric, study.labels, as_decided(task, outputs))
    place = study.record["test"]
    is_there = old["test"] is not None and place and Path(place).exists()
    test = read_like(place, task, model.columns).labelled(task) if is_there else None
    summary = {
        **old,
        **known,
        "task": task.to_json(),
        "beside_best": {},
        "standard_error": error,
        "answered": answered_scores(task, study.labels, outputs),
        "test": test and predictor.scores_on(test),
    }
    (home / RESULT_FILE).write_text(json.dumps(summary, indent=2), "utf-8")
    history = ledger_of(home, Space(())).history()
    write_report(home, summary, list(history), inputs)
    study.add(number, summary, said)
    return number, Result(
        folder=home,
        task=task,
        score=score,
        config=model.config,
        history=history,
        loaded=predictor,
        inputs=inputs,
        summary=summary,
    )

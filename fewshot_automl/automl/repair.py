"""Mending a slice in which a model fails, with no search and nothing to label.

What is tried goes from cheap to dear: other decisions, examples that count more or
less in the heads. Each is judged by a paired test on cross-validated predictions.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Float64

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.fitted import Adapted
from fewshot_automl.adaptation.frozen import reads_unlabelled
from fewshot_automl.adaptation.method import Fitted, Job
from fewshot_automl.adaptation.saved import Ensemble, own_encoder
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.automl.check import Finished, averaged
from fewshot_automl.automl.fitting import deliver
from fewshot_automl.automl.record import ledger_of, read_record
from fewshot_automl.automl.result import RESULT_FILE, VERSIONS_FILE, Result, Score
from fewshot_automl.automl.retarget import Change, changes, decided_by
from fewshot_automl.automl.scoring import calibration_of, cross_calibrated, score_of
from fewshot_automl.automl.slices import failures, suspected
from fewshot_automl.automl.update import Versions, version_of
from fewshot_automl.data import Source, read_inputs, read_like
from fewshot_automl.errors import DataError, UserError
from fewshot_automl.evaluation.committee import average, stacked
from fewshot_automl.evaluation.conformal import CONFORMAL, fit_sets
from fewshot_automl.evaluation.folds import choose_folds
from fewshot_automl.evaluation.intervals import standard_error
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.ledger import read_outputs, write_outputs
from fewshot_automl.modalities import content_hashes
from fewshot_automl.predictor import Predictor
from fewshot_automl.space import Config, Space
from fewshot_automl.tasks import Task
from fewshot_automl.tasks.classes import Classes
from fewshot_automl.tasks.costs import Costs
from fewshot_automl.training import choose_placement
from fewshot_automl.trial import Problem

SURE: Final = 0.05
"""Greatest p-value of a gain in the slice."""
MARGIN: Final = 0.02
"""Share of right answers that may be lost elsewhere, in what is not surely more."""
ONE_SIDED: Final = 1.645
"""Standard errors from a mean to the lower end of its one-sided 95 % interval."""
FACTORS: Final = np.geomspace(1.1, 30.0, 20)
"""How many times more a class's mistakes may weigh, tried."""
MOST_CLASSES: Final = 3
"""Classes whose mistakes may weigh more, the most missed in the slice."""
TIMES: Final = (2.0, 5.0, 20.0)
"""How many times an example of the slice may count in the heads, tried."""
LIGHT: Final = 0.1
"""What an example counts whose label is probably wrong."""

Rows = Bool[np.ndarray, " examples"]
Stack = Float[np.ndarray, "repeats examples width"]
Weigh = Callable[[np.ndarray], np.ndarray]
"""Takes places of examples to learn from, returns how much each counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One thing that was tried, judged by cross-validated predictions.

    What it tunes for a fold is tuned on the other folds.
    """

    name: str
    before: float
    """Share of right answers in the slice."""
    now: float
    fixed: int
    """Mistakes of the slice that are right now."""
    broken: int
    """Right answers of the slice that are wrong now."""
    p_value: float
    """How likely so many more are fixed than broken if it does not help."""
    rest_before: float
    """Share of right answers elsewhere."""
    rest_now: float
    rest_low: float
    """Lower end of the one-sided 95 % interval of their difference."""
    is_accepted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """What was tried to mend a slice, and what came of it."""

    name: str
    """Of the slice."""
    examples: int
    suspects: int
    """Labels in it that look wrong."""
    attempts: tuple[Attempt, ...]
    """The last one is accepted, or none is."""
    version: int | None
    """The new version; None if nothing helps."""
    result: Result | None
    changes: tuple[Change, ...]
    """What it gains and loses on all examples, by metrics."""


class _Tried(NamedTuple):
    right: Rows
    """Whether each example is answered right, by what was tuned on other folds."""
    outputs: Stack
    """Cross-validated, of what was tuned on all."""
    task: Task
    weigh: Weigh | None


def repair(
    folder: Path | str,
    *,
    slice: int | None = None,
    examples: Source | None = None,
    margin: float = MARGIN,
    data: Source | None = None,
) -> Repair:
    """Mend a slice in which the model fails, if that hurts nowhere else.

    It tries other decisions (mistakes of some classes weigh more), then heads in which
    labels that look wrong count less, then heads in which the slice counts more. The
    first is taken that helps in the slice (exact McNemar test, one side) and is not
    worse elsewhere by more than the margin. It becomes a new version of the model.
    Backbones, tuned ones too, stay as they are.

    Args:
        folder: The `out` folder of a fit.
        slice: Number of a slice that `slices` found.
        examples: Data that hold the examples to mend, in place of a slice.
        margin: Share of right answers that may be lost elsewhere.
        data: The fit's data again, if they were in memory or have moved.

    Raises:
        UserError: If there is no finished study of classes, or no such slice.
    """
    folder = Path(folder)
    if not 0 < margin < 1:
        raise UserError(f"margin must be above 0 and below 1, got {margin:g}.")
    if (slice is None) == (examples is None):
        raise UserError("repair must be told a slice or examples, one of the two.")
    study = Finished.of(folder)
    found = failures(study, data)
    name, rows = "the given examples", _rows_of(study, examples)
    if slice is not None:
        if not 1 <= slice <= len(found.slices):
            raise UserError(
                f"Slice must be from 1 to {len(found.slices)}, got {slice}. See: "
                f"fewshot slices {folder}"
            )
        name, rows = found.slices[slice - 1].name, found.slices[slice - 1].rows
    parts = _Parts.of(study, data)
    before = parts.answers(study.model.task, parts.proba) == parts.labels
    inside = np.isin(np.arange(len(before)), rows) & parts.known
    rest = parts.known & ~inside
    if not inside.any() or not rest.any():
        raise UserError(
            f"A slice must be some of the examples that were predicted, got "
            f"{inside.sum()} of {parts.known.sum()}."
        )
    attempts: list[Attempt] = []
    version, result, gained = None, None, []
    for what, tried in _tries(parts, before, inside, rest, margin):
        attempts.append(_judged(what, before, tried.right, inside, rest, margin))
        if attempts[-1].is_accepted:
            version, result = _delivered(folder, parts, tried, name, attempts[-1])
            gained = changes(study.folder, result)
            break
    return Repair(
        name=name,
        examples=int(inside.sum()),
        suspects=sum(bool(inside[one.row]) for one in found.suspects),
        attempts=tuple(attempts),
        version=version,
        result=result,
        changes=tuple(gained),
    )


def _rows_of(study: Finished, examples: Source | None) -> Sequence[int]:
    if examples is None:
        return ()
    read = read_inputs(examples, study.model.task, study.model.columns)
    place = {key: row for row, key in enumerate(study.summary["keys"])}
    hashes = content_hashes(read.inputs)
    new = [at for at, key in zip(read.origins, hashes, strict=True) if key not in place]
    if new:
        raise DataError(
            "Examples to mend must be among those of the fit, got another one in "
            f"{new[0]}. Add new ones with: fewshot update"
        )
    return [place[key] for key in hashes]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """A finished model taken apart: what its members learnt from, and said of it."""

    study: Finished
    problem: Problem
    configs: tuple[Config, ...]
    members: tuple[Fitted, ...]
    shares: Float64[np.ndarray, " members"]
    stored: tuple[Stack, ...]
    """Cross-validated outputs of the members."""
    outputs: Stack
    """Those of the model."""
    weights: Float64[np.ndarray, " examples"]
    """How much each example counts since an earlier repair."""
    stores: dict[int, FeatureStore] = field(default_factory=dict)

    @classmethod
    def of(cls, study: Finished, data: Source | None) -> "_Parts":
        summary, task = study.summary, study.model.task
        rows, inputs = study.examples(data)
        if len(rows) < len(summary["keys"]):
            raise DataError(
                f"repair must have all {len(summary['keys'])} examples of the fit, got "
                f"{len(rows)}. Bring back those that are missing, or update the study."
            )
        targets, (folds, repeats) = np.array(summary["labels"]), summary["folds"]
        problem = Problem(
            task=task,
            inputs=inputs,
            targets=targets,
            folds=choose_folds(
                task.rules.strata(targets),
                groups=summary["keys"],
                seed=summary["seed"],
                max_folds=folds,
                max_repeats=repeats,
            ),
            keys=tuple(summary["keys"]),
        )
        whole, ledger = study.model.fitted, ledger_of(study.folder, Space(()))
        members = [m.fitted for m in getattr(whole, "members", ())] or [whole]
        configs = [Config.from_json(one["config"]) for one in summary["members"]]
        return cls(
            study=study,
            problem=problem,
            configs=tuple(configs),
            members=tuple(members),
            shares=np.array([one["weight"] for one in summary["members"]]),
            stored=tuple(map(ledger.outputs, configs)),
            outputs=read_outputs(study.folder / summary["predictions"]),
            weights=np.array(summary.get("weights") or [1.0] * len(targets)),
        )

    @property
    def labels(self) -> np.ndarray:
        return self.problem.targets

    @property
    def proba(self) -> np.ndarray:
        """Return the model's cross-validated outputs, averaged over repeats."""
        return averaged(self.outputs)

    @property
    def known(self) -> Rows:
        return np.asarray(np.isfinite(self.proba).all(axis=1))

    def answers(self, task: Task, proba: np.ndarray) -> np.ndarray:
        rules = task.rules
        assert isinstance(rules, Classes)
        return rules.decide(proba)

    def weighs(self, member: int) -> bool:
        """Return whether a member's head can be fitted again with weights."""
        config = self.configs[member]
        return METHODS[config.text("method")].weighs and not reads_unlabelled(config)

    def fitted(self, member: int, weigh: Weigh, rows: np.ndarray) -> Fitted:
        """Return a member whose head is fitted again to some examples."""
        old, config = self.members[member], self.configs[member]
        job = Job(
            task=self.problem.task,
            config=config,
            seed=self.study.summary["seed"],
            placement=choose_placement(),
            weights=self.weights[rows] * weigh(rows),
        )
        method, encodings = METHODS[config.text("method")], self.encodings(member)
        new = method.fit(encodings.take(rows), self.labels[rows], job)
        if isinstance(old, Adapted) and isinstance(new, Adapted):
            return replace(old, head=new.head)
        return new

    def encodings(self, member: int) -> Encodings:
        """Return all examples as a member sees them; each is encoded once."""
        encoder, problem = own_encoder(self.members[member]), self.problem
        if encoder is not None:
            store = self.stores.setdefault(id(encoder.backbone), FeatureStore(None))
            encoder = replace(encoder, store=store)
        return Encodings(inputs=problem.inputs, encoder=encoder, keys=problem.keys)

    def refitted(self, weigh: Weigh) -> tuple[Stack, ...]:
        """Return cross-validated outputs of the members, their heads fitted again."""
        every = []
        for member, stored in enumerate(self.stored):
            made, encodings = stored, self.encodings(member)
            if self.weighs(member):
                made = np.full_like(stored, np.nan)
                for row, folds in zip(made, self.problem.folds.repeats, strict=False):
                    for fold in folds:
                        head = self.fitted(member, weigh, fold.train)
                        held = fold.validation
                        row[held] = head.outputs(encodings.take(held))
            every.append(made)
        return tuple(every)

    def together(self, every: Sequence[Stack]) -> Stack:
        """Return the model's outputs for those of its members, not yet calibrated."""
        if len(every) == 1:
            return every[0]
        rules, least = self.problem.task.rules, min(map(len, every))
        made = [rules.calibrate(x, calibration_of(self.problem, x)) for x in every]
        return average(stacked([one[:least] for one in made]), self.shares)


def _tries(
    parts: _Parts, before: Rows, inside: Rows, rest: Rows, margin: float
) -> Iterator[tuple[str, _Tried]]:
    """Yield what is tried, from cheap to dear."""
    task, labels, proba = parts.study.model.task, parts.labels, parts.proba
    folds, known = parts.problem.folds.assignment[0], parts.known
    allowed = margin / 2 * rest.sum()

    def gain(now: Rows, some: Rows) -> tuple[int, int]:
        """Return what is gained in the slice and elsewhere, of some examples."""
        net = now.astype(int) - before
        lost = int(net[rest & some].sum())
        is_fine = -lost <= allowed * (rest & some).sum() / rest.sum()
        return (int(net[inside & some].sum()) if is_fine else -len(now), lost)

    def others() -> Iterator[tuple[Rows, Rows]]:
        for fold in np.unique(folds[known]):
            yield known & (folds == fold), known & (folds != fold)

    def deciding(some: Rows) -> Task:
        """Return the task whose decisions gain most in the slice of some examples."""
        costs = task.costs or Costs.of(task.names, {})
        best = gain(before, some)
        missed = np.bincount(labels[inside & some & ~before], minlength=task.width)
        for place in np.argsort(-missed, kind="stable")[:MOST_CLASSES]:
            base = np.array(costs.factors or [1.0] * task.width)
            for factor in FACTORS if missed[place] else ():
                more = np.where(np.arange(task.width) == place, factor, 1.0)
                new = replace(costs, factors=tuple((base * more).tolist()))
                now = parts.answers(replace(task, costs=new), proba) == labels
                if (value := gain(now, some)) > best:
                    best, costs = value, new
        return replace(task, costs=costs)

    right = before.copy()
    for held, some in others():
        right[held] = (parts.answers(deciding(some), proba) == labels)[held]
    made = _Tried(right, parts.outputs, deciding(known), None)
    yield "weigh mistakes of classes anew", made
    if not any(map(parts.weighs, range(len(parts.members)))):
        return

    def fewer(rows: np.ndarray) -> np.ndarray:
        weights, there = np.ones(len(rows)), np.flatnonzero(known[rows])
        some = rows[there]
        weights[there[suspected(labels[some], proba[some])]] = LIGHT
        return weights

    def best_of(now: Sequence[Rows], some: Rows) -> int:
        return max(range(len(now)), key=lambda i: gain(now[i], some))

    def more(times: float) -> Weigh:
        return lambda rows: np.where(inside[rows], times, 1.0)

    for name, ways in (
        ("labels that look wrong count a tenth", [fewer]),
        ("the slice counts 2, 5 or 20 times", list(map(more, TIMES))),
    ):
        every = [parts.together(parts.refitted(way)) for way in ways]
        stacks = [cross_calibrated(parts.problem, outputs) for outputs in every]
        now = [parts.answers(task, averaged(x)) == labels for x in stacks]
        right = before.copy()
        for held, some in others():
            right[held] = now[best_of(now, some)][held]
        best = best_of(now, known)
        yield name, _Tried(right, stacks[best], task, ways[best])


def _judged(
    name: str, before: Rows, now: Rows, inside: Rows, rest: Rows, margin: float
) -> Attempt:
    """Return whether more is right in the slice and no less elsewhere.

    Source:
        McNemar, Psychometrika 12, 1947 (the sign test of what differs).
    """
    from scipy.stats import binomtest

    fixed = int((now & ~before & inside).sum())
    broken = int((before & ~now & inside).sum())
    p_value = 1.0
    if fixed + broken:
        p_value = binomtest(fixed, fixed + broken, alternative="greater").pvalue
    gaps = now[rest].astype(float) - before[rest]
    error = gaps.std() / np.sqrt(len(gaps))
    low = float(gaps.mean() - ONE_SIDED * error)
    return Attempt(
        name=name,
        before=float(before[inside].mean()),
        now=float(now[inside].mean()),
        fixed=fixed,
        broken=broken,
        p_value=float(p_value),
        rest_before=float(before[rest].mean()),
        rest_now=float(now[rest].mean()),
        rest_low=low,
        is_accepted=bool(p_value <= SURE and low >= -margin),
    )


def _delivered(
    folder: Path, parts: _Parts, tried: _Tried, name: str, attempt: Attempt
) -> tuple[int, Result]:
    """Make the mended model a new version of the study."""
    from fewshot_automl.report.write import write_report

    study, problem = parts.study, replace(parts.problem, task=tried.task)
    model, old, weights = study.model, study.summary, parts.weights
    fitted, calibration = model.fitted, dict(model.calibration)
    if tried.weigh is not None:
        rows = np.arange(len(weights))
        weights = weights * tried.weigh(rows)
        every = parts.refitted(tried.weigh)
        calibration = calibration_of(problem, parts.together(every))
        heads = [
            parts.fitted(at, tried.weigh, rows) if parts.weighs(at) else member
            for at, member in enumerate(parts.members)
        ]
        fitted = heads[0]
        if isinstance(model.fitted, Ensemble):
            pairs = zip(model.fitted.members, heads, every, strict=True)
            members = [
                replace(one, fitted=head, calibration=calibration_of(problem, outputs))
                for one, head, outputs in pairs
            ]
            fitted = replace(model.fitted, members=tuple(members))
    score = _score(problem, tried.outputs, old)
    known = {
        "score": score.to_json(),
        "calibration": calibration,
        CONFORMAL: fit_sets(problem.targets, tried.outputs),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    versions = Versions.of(folder)
    number = max(row.number for row in versions.rows) + 1
    home = folder / "versions" / str(number)
    shutil.rmtree(home, ignore_errors=True)  # of a repair that was broken off
    others = shutil.ignore_patterns("versions", VERSIONS_FILE, "model")
    shutil.copytree(study.folder, home, ignore=others)
    write_outputs(home / old["predictions"], tried.outputs.astype(np.float32))
    fresh = replace(
        model,
        task=tried.task,
        fitted=fitted,
        calibration=calibration,
        facts={**model.facts, **known},
    )
    device = choose_placement().device
    predictor = deliver(fresh, home / "model", problem.inputs, device)
    summary = {
        **old,
        **known,
        "task": tried.task.to_json(),
        "weights": weights.tolist(),
        "beside_best": {},
        "standard_error": standard_error(
            problem.task.measured, problem.targets, tried.outputs
        ),
        "test": _tested(study, predictor),
    }
    (home / RESULT_FILE).write_text(json.dumps(summary, indent=2), "utf-8")
    history = ledger_of(home, Space(())).history()
    write_report(home, summary, list(history), problem.inputs)
    said = (
        f"repaired {name} ({attempt.name}): {attempt.before:.2f} of it right before, "
        f"{attempt.now:.2f} now; elsewhere {attempt.rest_before:.2f} before, "
        f"{attempt.rest_now:.2f} now."
    )
    row = version_of(number, versions.current, summary, said)
    Versions(current=number, rows=(*versions.rows, row)).write(folder)
    return number, Result(
        folder=home,
        task=tried.task,
        score=score,
        config=model.config,
        history=history,
        loaded=predictor,
        inputs=problem.inputs,
        summary=summary,
    )


def _score(problem: Problem, outputs: Stack, old: Mapping[str, Any]) -> Score:
    """Return the score of other outputs, corrected by as much as the old one was."""
    metric, before = problem.task.measured, old["score"]
    if metric.needs == "decisions":
        outputs = decided_by(problem.task, outputs, must_answer=True)
    gap = metric.orient(before["raw"]) - metric.orient(before["corrected"])
    return score_of(problem, outputs, np.array([gap]), old["seed"])


def _tested(study: Finished, predictor: Predictor) -> dict[str, float] | None:
    """Return scores on the study's test data, where they are still at hand."""
    place = read_record(study.folder)["test"]
    if study.summary["test"] is None or not place or not Path(place).exists():
        return None
    task = predictor.task
    return predictor.scores_on(read_like(place, task, predictor.columns).labelled(task))

"""The trials of an Optuna study, as the history that an oracle learns from."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from fewshot_automl.errors import UserError
from fewshot_automl.oracle import History
from fewshot_automl.oracle.goals import SCORE, Aims, Goal, Limit
from fewshot_automl.outcome import Outcome
from fewshot_automl.sampler.structure import Structure
from fewshot_automl.space import Config

STANDARD_ERROR: Final = "fewshot_standard_error"
"""User attribute with the standard error of a trial's (first) value."""
SUGGESTED: Final = "fewshot:suggested:"
"""Start of the names of system attributes that hold what was suggested."""
QUEUED: Final = "fixed_params"
"""Name of Optuna's own system attribute with what `enqueue_trial` was given."""
VALUE: Final = "value_"
"""Start of the names of objectives after the first, by their place."""
CONSTRAINT: Final = "constraint_"
"""Start of the names of constraints, which hold up to 0."""
MOST_CHARACTERS: Final = 2000
"""Of one system attribute; databases take 2045."""


def history_of(
    trials: Sequence[FrozenTrial],
    structure: Structure,
    directions: Sequence[StudyDirection],
) -> list[tuple[Config, Outcome]]:
    """Return trials that started, in order, as an oracle wants them.

    Args:
        trials: Those of one study.
        structure: Its parameters.
        directions: Whether each value is to be minimised or maximised.

    Raises:
        UserError: If the standard error of a trial is not a number from 0 on.
    """
    signs = [-1.0 if d == StudyDirection.MINIMIZE else 1.0 for d in directions]
    started = [trial for trial in trials if trial.state != TrialState.WAITING]
    complete = [t.values for t in started if t.state == TrialState.COMPLETE]
    finite = [signs[0] * v[0] for v in complete if math.isfinite(v[0])]
    usual = float(np.median(finite)) if finite else math.inf
    return [
        (structure.config(given(trial, structure)), outcome_of(trial, signs, usual))
        for trial in started
    ]


def outcome_of(
    trial: FrozenTrial, signs: Sequence[float], usual: float = math.inf
) -> Outcome:
    """Return what became of a trial, greater is better.

    A complete trial is done, unless a value of it is infinite: then it failed. A
    pruned trial scores what it reported last, at most `usual`, for it was not worth
    its time; one that reported nothing counts as failed.

    Args:
        trial: One that has started.
        signs: 1 for each value to maximise, -1 for each to minimise.
        usual: Score of a middling complete trial.
    """
    seconds = trial.duration.total_seconds() if trial.duration else 0.0
    if trial.state == TrialState.RUNNING:
        return Outcome(status="running")
    values: Sequence[float] = ()
    if trial.state == TrialState.COMPLETE:
        values = [s * float(v) for s, v in zip(signs, trial.values, strict=True)]
    elif trial.state == TrialState.PRUNED and trial.intermediate_values:
        last = trial.intermediate_values[max(trial.intermediate_values)]
        values = [min(signs[0] * last, usual)]
    if not values or not all(map(math.isfinite, values)):
        reason = "no finite value" if values else trial.state.name.lower()
        return Outcome(status="failed", cost_seconds=seconds, reason=reason)
    others = {f"{VALUE}{i}": value for i, value in enumerate(values) if i}
    limits = {f"{CONSTRAINT}{name}": v for name, v in trial.constraints.items()}
    return Outcome(
        status="done",
        mean=values[0],
        standard_error=_standard_error(trial),
        cost_seconds=seconds,
        objectives=others | limits,
    )


def aims_of(values: int, history: History) -> Aims:
    """Return what a study is after, in the words of `outcome_of`.

    Args:
        values: How many values a trial returns.
        history: Its trials, which tell what constraints there are.
    """
    found = (name for _, outcome in history for name in outcome.objectives)
    limits = sorted({name for name in found if name.startswith(CONSTRAINT)})
    return Aims(
        goals=(Goal(SCORE), *(Goal(f"{VALUE}{i}") for i in range(1, values))),
        limits=tuple(Limit(name, most=0.0) for name in limits),
    )


def given(trial: FrozenTrial, structure: Structure) -> dict[str, Any]:
    """Return the parameters a trial has, or will have as soon as it asks for them.

    Those come from the user, who put the trial into the queue with them, or were
    suggested by this sampler.
    """
    attributes = trial.system_attrs
    parts = [attributes[name] for name in sorted(attributes) if _is_suggested(name)]
    suggested = {
        name: structure.distributions[name].to_external_repr(value)
        for name, value in json.loads("".join(parts) or "{}").items()
        if name in structure.distributions
    }
    queued = {
        name: value
        for name, value in attributes.get(QUEUED, {}).items()
        if name in structure.distributions
        and _allows(structure.distributions[name], value)
    }
    return {**suggested, **queued, **trial.params}


def is_under_way(trial: FrozenTrial) -> bool:
    """Return whether a trial has asked for its parameters, and what it got is known."""
    return bool(trial.params) or any(map(_is_suggested, trial.system_attrs))


def as_attributes(
    params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
) -> dict[str, str]:
    """Return suggested parameters as system attributes, for other workers to see."""
    text = json.dumps(
        {name: distributions[name].to_internal_repr(params[name]) for name in params}
    )
    return {
        f"{SUGGESTED}{start // MOST_CHARACTERS:04d}": text[
            start : start + MOST_CHARACTERS
        ]
        for start in range(0, len(text), MOST_CHARACTERS)
    }


def _allows(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except ValueError:  # Optuna's answer to what is no number, or no category
        return False


def _is_suggested(name: str) -> bool:
    return name.startswith(SUGGESTED)


def _standard_error(trial: FrozenTrial) -> float:
    error = trial.user_attrs.get(STANDARD_ERROR)
    if error is None:
        return math.nan
    if isinstance(error, bool) or not isinstance(error, int | float) or error < 0:
        raise UserError(
            f"User attribute {STANDARD_ERROR!r} must be a number from 0 on, got "
            f"{error!r} in trial {trial.number}. Leave it out where it is unknown."
        )
    return float(error)

"""The final fit: the winner on all examples, or who takes its place, and partners."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from fewshot_automl.adaptation.fitted import Adapted
from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.adaptation.saved import Ensemble, Member, own_encoder
from fewshot_automl.automl.scoring import Tried
from fewshot_automl.automl.search import Prepared
from fewshot_automl.errors import ExportError, RunError, TrialError
from fewshot_automl.evaluation.measures import added_up
from fewshot_automl.modalities import Input
from fewshot_automl.policy import broken
from fewshot_automl.predictor import Predictor
from fewshot_automl.trial import refit, size_of

MOST_FITTED: Final = 5
"""Models tried to fit to all examples, before a cheap one is taken."""
CHECKED: Final = 8
"""Labelled examples on which a saved model must agree with the one in memory."""
TOLERANCE, GPU_TOLERANCE = 1e-3, 0.1
"""Of an output there. Convolutions on a GPU keep 10 bits of a product, and low
temperatures magnify what was rounded."""


def fitted_winner(
    ready: Prepared, tried: Tried, order: Sequence[int], deadline: float | None
) -> tuple[int, Fitted]:
    """Fit the first in order to all examples, or who takes its place.

    What cannot be fitted by the deadline gives way to the next, `MOST_FITTED` times,
    and then to cheap trials: first to those in order, then to any. Without a cheap
    trial there is no deadline, for a late model is better than none.
    """
    cheap = sorted(
        (i for i in tried.outputs if not tried.trains(i)),
        key=lambda i: (i not in order, -tried.outcome(i).mean),
    )
    left = [i for i in cheap if ready.context.is_at_hand(tried.config(i))]
    for number in dict.fromkeys([*order[:MOST_FITTED], *left]):
        end = deadline if left and tried.trains(number) else None
        if (fitted := _fitted(number, ready, tried, end)) is not None:
            return number, fitted
    raise RunError("No model could be fitted to all examples. Give a larger budget.")


def with_partners(
    ready: Prepared,
    tried: Tried,
    winner: tuple[int, Fitted],
    wanted: Sequence[int],
    saving_seconds: float,
    deadline: float | None,
) -> dict[int, Fitted]:
    """Return the winner and those partners that can be fitted in time.

    Partners come in their order, if there is time to fit and score them besides the
    seconds of saving, and all together keep the limits.
    """
    costs, limits = ready.costs.after(tried.history), ready.leader.aims.limits

    def scoring(number: int) -> float:
        return costs.scoring_seconds(tried.config(number), ready.tested)

    kept = dict([winner])
    needed = saving_seconds + scoring(winner[0])
    for number in wanted:
        more = costs.refit_seconds(tried.config(number)) + scoring(number)
        if deadline is not None and deadline - time.monotonic() <= needed + more:
            continue
        fitted = _fitted(number, ready, tried, deadline)
        if fitted is None:
            continue
        if limits:  # heads that keep examples are larger than they were in a fold
            sizes = added_up([size_of(one) for one in (*kept.values(), fitted)])
            if broken(limits, {**tried.measures([*kept, number]), **sizes}):
                continue
        kept[number] = fitted
        needed += scoring(number)
    return kept


def _fitted(
    number: int, ready: Prepared, tried: Tried, deadline: float | None
) -> Fitted | None:
    """Return a model fitted to all examples; None, and why, if it cannot be."""
    config = tried.config(number)
    try:
        return refit(ready.context, config, deadline)
    except TrialError as error:
        ready.listener.say(
            f"Left out: {config} could not be fitted to all examples ({error})."
        )
        return None


def as_one(parts: Mapping[int, Fitted], tried: Tried, device: str) -> Fitted:
    """Return a fitted model, or an ensemble of several, as it predicts by itself."""
    alone = {
        number: replace(fitted, start=None, device=device)
        if isinstance(fitted, Adapted)
        else fitted
        for number, fitted in parts.items()
    }
    if len(alone) == 1:
        return next(iter(alone.values()))
    members = tuple(
        Member(
            fitted=fitted,
            calibration=tried.calibration(number),
            encoder=own_encoder(fitted),
        )
        for number, fitted in alone.items()
    )
    return Ensemble(members=members, kind=tried.problem.task.kind)


def deliver(
    model: Predictor, folder: Path, inputs: Sequence[Input], device: str
) -> Predictor:
    """Save a model and return it as it is on disk; on a few inputs both must agree."""
    loaded = Predictor.load(model.save(folder))
    places = np.unique(np.linspace(0, len(inputs) - 1, CHECKED).round().astype(int))
    few = tuple(inputs[place] for place in places)
    wanted = model.outputs_of(few)
    gap = np.abs(wanted - loaded.outputs_of(few)).max()
    # Probabilities are at most 1; what is predicted in other units may be far larger.
    scale = max(1.0, float(np.abs(wanted).max()))
    if not gap <= scale * (TOLERANCE if device == "cpu" else GPU_TOLERANCE):
        raise ExportError(
            f"The model in {folder} must predict what it did before it was saved, got "
            f"an output that is {gap:.2g} off. Please report it, with what fewshot "
            "doctor says."
        )
    return loaded

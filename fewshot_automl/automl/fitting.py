"""The final fit: the winner on all examples, or who takes its place, and partners."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float

from fewshot_automl.adaptation.deployed import deployed, latency_seconds, middling
from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.adaptation.saved import Ensemble, Member, own_encoder
from fewshot_automl.automl.available import broken_in_words
from fewshot_automl.automl.scoring import Tried
from fewshot_automl.automl.search import Prepared
from fewshot_automl.errors import ExportError, RunError, TrialError
from fewshot_automl.evaluation.measures import added_up
from fewshot_automl.modalities import Input
from fewshot_automl.oracle import Limit
from fewshot_automl.predictor import Predictor
from fewshot_automl.tasks import Task
from fewshot_automl.trial import TrialContext, refit, size_of

MOST_FITTED: Final = 5
"""Models fitted to all examples, at most, to find one that still keeps the limits."""
CHECKED: Final = 8
"""Labelled examples on which a saved model must agree with the one in memory."""
TOLERANCE: Final = 0.1
"""Of an output there. Convolutions on a GPU keep 10 bits of a product, and low
temperatures magnify what was rounded; damage is far larger."""


def fitted_winner(
    ready: Prepared,
    tried: Tried,
    order: Sequence[int],
    deadline: float | None,
    limits: Sequence[Limit],
) -> tuple[int, Fitted]:
    """Fit the first in order to all examples, or who takes its place.

    What cannot be fitted by the deadline, or breaks a limit once it is fitted, gives
    way to the next, `MOST_FITTED` times and then to cheap ones. If none keeps the
    limits, the first stays; if none can be fitted, any cheap trial will do.
    """
    cheap = sorted(
        (i for i in tried.outputs if not tried.trains(i)),
        key=lambda i: -tried.outcome(i).mean,
    )
    first = [*order[:MOST_FITTED], *(i for i in cheap if i in order)]
    left = [i for i in cheap if ready.context.is_at_hand(tried.config(i))]
    for must_keep, numbers in ((limits, first), ((), [*first, *left])):
        for number in dict.fromkeys(numbers):
            end = deadline if tried.trains(number) else None
            if parts := _with(number, {}, ready, tried, end, must_keep):
                return number, parts[number]
    raise RunError("No model could be fitted to all examples. Give a larger budget.")


def with_partners(
    ready: Prepared,
    tried: Tried,
    winner: tuple[int, Fitted],
    wanted: Sequence[int],
    saving_seconds: float,
    deadline: float | None,
) -> dict[int, Fitted]:
    """Return the winner and those partners that fit the time and the limits.

    Partners come in their order, if there is time to fit and score them besides the
    seconds of saving.
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
        if parts := _with(number, kept, ready, tried, deadline, limits):
            kept = parts
            needed += scoring(number)
    return kept


def _with(
    number: int,
    parts: dict[int, Fitted],
    ready: Prepared,
    tried: Tried,
    deadline: float | None,
    limits: Sequence[Limit],
) -> dict[int, Fitted] | None:
    """Return models with one more, fitted to all examples; None, and why, if it fails.

    It also fails if they break a limit together.
    """
    config, say = tried.config(number), ready.listener.say
    try:
        more = {**parts, number: refit(ready.context, config, deadline)}
    except TrialError as error:
        say(f"Left out: {config} could not be fitted to all examples ({error}).")
        return None
    measures = fitted_measures(more, tried, ready.context) if limits else {}
    if words := broken_in_words(limits, measures):
        say(f"Left out: {config}, fitted to all examples, is over a limit: {words}.")
        return None
    return more


def fitted_measures(
    parts: Mapping[int, Fitted], tried: Tried, context: TrialContext
) -> dict[str, float]:
    """Return the measures of models that are fitted to all examples.

    What can be counted is counted anew, for some heads keep examples. The latency is
    the lesser of the trial's and a new one: other work on the machine only adds.
    """
    example, device = middling(context.problem.inputs), context.placement.device
    found = []
    for number, fitted in parts.items():
        values = {**tried.outcome(number).measures, **size_of(fitted)}
        if "latency_ms" in values:
            seconds = latency_seconds(fitted, example, device)
            values["latency_ms"] = min(values["latency_ms"], 1000 * seconds)
        found.append(values)
    return {**tried.measures(list(parts)), **added_up(found)}


def as_one(parts: Mapping[int, Fitted], tried: Tried, device: str) -> Fitted:
    """Return a fitted model, or an ensemble of several, as it predicts by itself."""
    alone = {number: deployed(fitted, device) for number, fitted in parts.items()}
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


def deliver(model: Predictor, folder: Path, inputs: Sequence[Input]) -> Predictor:
    """Save a model and return it as it is on disk; on a few inputs both must agree."""
    loaded = Predictor.load(model.save(folder))
    places = np.unique(np.linspace(0, len(inputs) - 1, CHECKED).round().astype(int))
    few = tuple(inputs[place] for place in places)
    wanted = model.outputs_of(few)
    gap = np.abs(wanted - loaded.outputs_of(few)).max()
    # Probabilities are at most 1; what is predicted in other units may be far larger.
    scale = max(1.0, float(np.abs(wanted).max()))
    if not gap <= TOLERANCE * scale:
        raise ExportError(
            f"The model in {folder} must predict what it did before it was saved, got "
            f"an output that is {gap:.2g} off. Please report it, with what fewshot "
            "doctor says."
        )
    return loaded


def score_outputs(
    task: Task, targets: np.ndarray, outputs: Float[np.ndarray, "examples width"]
) -> dict[str, float]:
    """Return the task's metric, those its kind reports, and n."""
    names = dict.fromkeys((*task.rules.reported, task.metric))
    metrics = task.rules.metrics
    values = {name: metrics[name].value(targets, outputs) for name in names}
    return {**values, "n": float(len(targets))}

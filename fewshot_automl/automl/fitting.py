"""The final fit: the members on all examples, or who takes their place."""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from fewshot_automl.adaptation.fitted import Adapted
from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.adaptation.saved import Ensemble, Member, own_encoder
from fewshot_automl.automl.placing import shared_by
from fewshot_automl.automl.record import read_summary
from fewshot_automl.automl.scoring import Tried, committee
from fewshot_automl.automl.search import Prepared
from fewshot_automl.backbones.backbone import Backbone
from fewshot_automl.errors import ExportError, RunError, TrialError
from fewshot_automl.modalities import Input
from fewshot_automl.policy import broken
from fewshot_automl.predictor import Predictor, save_again
from fewshot_automl.space import Config
from fewshot_automl.trial import refit, size_of, together

MOST_FITTED: Final = 5
"""Models tried to fit to all examples, before a cheap one is taken."""
CHECKED: Final = 8
"""Labelled examples on which a saved model must agree with the one in memory."""
TOLERANCE, GPU_TOLERANCE = 1e-3, 0.1
"""Of an output there. Convolutions on a GPU keep 10 bits of a product, and low
temperatures magnify what was rounded."""


def fitted_committee(
    ready: Prepared,
    tried: Tried,
    pool: Sequence[int],
    most: int,
    saving_seconds: float,
    deadline: float | None,
) -> tuple[list[int], dict[int, float], dict[int, Fitted]]:
    """Return a pool, the committee of it with its weights, and its fitted members.

    A member that cannot be fitted to all examples in time, besides the seconds of
    saving and of scoring test examples, leaves the pool, and the weights are learnt
    again. Cheap ones come first: they take next to nothing, and what trains may take
    longer than forecast. If all do, the best of the cheap trials, of any, is the model.
    Without a cheap trial there is no deadline, for a late model is better than none.

    The fitted members are left out where all are those of the model of the study that
    this one follows, for they need not be loaded; see `earlier_members`.
    """
    cheap = [i for i in tried.outputs if not tried.method(i).trains]
    costs, limits = ready.costs.after(tried.history), ready.leader.aims.limits
    fitted: dict[int, Fitted] = {}
    loaded: list[Fitted] = []
    left = list(pool)
    earlier = {} if ready.follows is None else earlier_members(ready.follows)
    if ready.carried is not None:
        stay = ready.carried.fitted
        earlier = {config: row for config, row in earlier.items() if config in stay}

    def holds(weights: Mapping[int, float]) -> bool:
        known = [fitted[number] for number in weights if number in fitted]
        # Heads that keep examples are larger than they were in a fold.
        sizes = size_of(*known) if len(known) == len(weights) else {}
        if earlier.keys() >= {tried.config(number) for number in weights}:
            sizes = size_together(tried, {i: earlier[tried.config(i)] for i in weights})
        return not limits or not broken(limits, tried.measures(weights) | sizes)

    if earlier:
        weights = committee(tried, left, most, holds)
        if earlier.keys() >= {tried.config(number) for number in weights}:
            return left, weights, {}
    count = len(tried.evidence(left[0]))
    ready.listener.say(f"Fitting the model to all {count} labelled examples.")

    def has_time(number: int, leader: int) -> bool:
        every = {*fitted, number, leader}
        scored = {tried.frozen(i): tried.config(i) for i in every}
        to_fit = every - fitted.keys()
        needed = saving_seconds
        needed += sum(costs.refit_seconds(tried.config(each)) for each in to_fit)
        for config in scored.values():
            needed += costs.scoring_seconds(config, ready.tested)
        return deadline is None or deadline - time.monotonic() > needed

    def fit(number: int, leader: int) -> Fitted | None:
        if (row := earlier.get(tried.config(number))) is not None:
            if not loaded:
                loaded.append(Predictor.load(ready.follows or "").fitted)
            whole: Fitted = loaded[0]
            if isinstance(whole, Ensemble):
                whole = whole.members[row["place"]].fitted
            return whole
        # Rather a late model than none: the one of most say is fitted in any case.
        if number != leader and not has_time(number, leader):
            return None
        end = deadline if cheap and tried.method(number).trains else None
        return _fitted(number, ready, tried, end)

    failed = 0
    while left and failed < MOST_FITTED:
        weights = committee(tried, left, most, holds)
        leader, *_ = weights
        new = [number for number in weights if number not in fitted]
        new.sort(key=lambda number: tried.method(number).trains)
        if not new:
            return left, weights, {number: fitted[number] for number in weights}
        if (model := fit(new[0], leader)) is None:
            left.remove(new[0])
            failed += new[0] == leader
        else:
            fitted[new[0]] = model
    for number in sorted(cheap, key=lambda i: (i not in left, -tried.outcome(i).mean)):
        at_hand = ready.context.is_at_hand(tried.config(number))
        if at_hand and (model := _fitted(number, ready, tried, None)) is not None:
            return [number], {number: 1.0}, {number: model}
    raise RunError("No model could be fitted to all examples. Give a larger budget.")


def _fitted(
    number: int, ready: Prepared, tried: Tried, deadline: float | None
) -> Fitted | None:
    """Return a model fitted to all examples; None, and why, if it cannot be."""
    config = tried.config(number)
    try:
        if ready.ranks is None or not tried.method(number).trains:
            return refit(ready.context, config, deadline)
        # The first of them is of this machine, whose processes share one clock.
        placement = shared_by(ready.where, ready.context.placement)
        work = partial(together, refit, replace(ready.context, placement=placement))
        fitted: Fitted = ready.ranks.run(work, config, deadline)
        return fitted
    except TrialError as error:
        ready.listener.say(
            f"Left out: {config} could not be fitted to all examples ({error})."
        )
        return None


def earlier_members(folder: Path) -> dict[Config, dict[str, Any]]:
    """Return what a finished study says of the members of its model, by their Config.

    Nothing of a study that an older version wrote, which did not keep their sizes.
    """
    rows = read_summary(folder)["members"]
    return {
        Config.from_json(row["config"]): {**row, "place": place}
        for place, row in enumerate(rows)
        if "size" in row
    }


def size_together(
    tried: Tried, members: Mapping[int, Mapping[str, Any]]
) -> dict[str, float]:
    """Return the size of a model of some members; a shared backbone is there once."""
    total: dict[str, float] = defaultdict(float)
    shared: set[int | str] = set()
    for number, row in members.items():
        # Layers that were trained are a member's own.
        own = tried.method(number).trains or "backbone" not in tried.config(number)
        backbone = number if own else tried.config(number).text("backbone")
        for name, size in row["head" if backbone in shared else "size"].items():
            total[name] += size
        shared.add(backbone)
    return dict(total)


def again(
    ready: Prepared, tried: Tried, weights: Mapping[int, float], **about: Any
) -> None:
    """Save a model of members of the study that this one follows, without a fit."""
    assert ready.follows is not None
    earlier = earlier_members(ready.follows)
    picked = [
        (
            earlier[tried.config(number)]["place"],
            {"calibration": tried.calibration(number), "weight": weights[number]},
        )
        for number in weights
    ]
    save_again(ready.follows / "model", picked, ready.folder / "model", **about)


def as_one(
    parts: Mapping[int, Fitted], weights: Mapping[int, float], tried: Tried, device: str
) -> Fitted:
    """Return a fitted model, or a committee of several, as it predicts by itself."""
    frozen: dict[str, Backbone] = {}

    def alone(number: int) -> Fitted:
        fitted = parts[number]
        if not isinstance(fitted, Adapted):
            return fitted
        backbone = fitted.backbone
        if not tried.method(number).trains:
            # It may have been loaded twice, if others had to make room in between.
            backbone = frozen.setdefault(backbone.card.id, backbone)
        return replace(fitted, backbone=backbone, start=None, device=device)

    if len(parts) == 1:
        return alone(next(iter(parts)))
    members = [
        Member(
            fitted=(fitted := alone(number)),
            calibration=tried.calibration(number),
            encoder=own_encoder(fitted),
            weight=weights[number],
        )
        for number in parts
    ]
    return Ensemble(members=tuple(members), kind=tried.problem.task.kind)


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

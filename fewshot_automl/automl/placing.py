"""Where a study runs: what there is, what it needs, and what follows from that."""

from collections.abc import Sequence
from dataclasses import replace
from multiprocessing import parent_process
from typing import Final

from fewshot_automl.automl.settings import AUTO, Settings
from fewshot_automl.executors import Executor, Ranks, executor_named, usable_cores
from fewshot_automl.group import launched
from fewshot_automl.hardware import Device
from fewshot_automl.policy import (
    PlacementPlan,
    Plan,
    Situation,
    plan_placement,
)
from fewshot_automl.policy.placing import START_SECONDS
from fewshot_automl.training.memory import weights_room
from fewshot_automl.training.placement import (
    Placement,
    choose_placement,
    found_devices,
    shared_gpus,
)
from fewshot_automl.trial import TrialContext, Workload, step_seconds

RATES: Final = {"cuda": 2e13, "mps": 3e12}
"""Floating-point operations in a second of devices that are only described."""


def place(
    settings: Settings,
    situation: Situation,
    plan: Plan,
    context: TrialContext,
    workload: Workload,
    imports_seconds: float,
    devices: Sequence[Device] | None = None,
) -> PlacementPlan:
    """Return where the trials of a study run: here, or on devices that are described.

    On a CPU a batch is timed, where it could matter. A worker needs the imports of this
    process, and those of a network, which take as long.
    """
    here = found_devices(settings.device, usable_cores())
    # Roughly: to count each exactly (`trial.forecast`) takes a second or two of every
    # fit. A trial counts for itself where this does not leave plenty.
    needs = [
        workload.forecast(config, situation.costs.refit_seconds(config))
        for name in plan.backbones
        for config in situation.forms(name)[:1]
    ] or [workload.frozen(name) for name in workload.backbones]
    workers = 1 if settings.executor == "in_process" else settings.workers
    left = plan.budget_seconds
    if left is not None:
        left = max(left - situation.spent_seconds - (plan.final_seconds or 0.0), 0.0)
    if devices is not None and (kind := devices[0].kind) != here[0].kind:
        times = workload.rate / RATES.get(kind, workload.rate)
        needs = [replace(one, seconds=one.seconds * times) for one in needs]

    def planned(
        side_by_side: float | None = None,
        workers: int | None = workers,
        executor: str | None = None,
    ) -> PlacementPlan:
        return plan_placement(
            here if devices is None else devices,
            needs,
            left,
            trials=settings.trials,
            fits=plan.training_folds or plan.splits.folds,
            side_by_side=side_by_side,
            start_seconds=max(2 * imports_seconds, START_SECONDS),
            workers=workers,
            processes=settings.processes or launched(),
            executor=executor,
        )

    if devices is None and parent_process() is not None and settings.runs_in == AUTO:
        reason = "One trial at a time, for this is a worker process itself."
        return replace(planned(workers=1), reason=reason)
    cores = usable_cores()
    chosen = planned(float(cores) if devices is None else None)  # at the very best
    is_open = workers is None and devices is None and here[0].kind == "cpu"
    if is_open and chosen.workers > 1:
        every, at_once = step_seconds(context, plan.backbones[0], cores)
        chosen = planned(every / at_once)
    if launched() == 1 and settings.runs_in not in (AUTO, chosen.executor):
        chosen = planned(workers=chosen.workers, executor=settings.runs_in)
    return chosen


def executor_of(where: PlacementPlan, settings: Settings) -> Executor:
    """Return the executor that a plan names, with its GPUs."""
    is_free = where.executor == "ray" or shared_gpus(settings.device)
    gpus = where.cards if is_free else ()
    return executor_named(
        where.executor, where.workers, gpus=gpus, address=settings.address
    )


def ranks_of(where: PlacementPlan) -> Ranks | None:
    """Return the processes that share trainings, if a plan has any."""
    if where.processes == 1:
        return None
    return Ranks(where.processes, gpus=where.cards)


def placement_of(where: PlacementPlan, placement: Placement) -> Placement:
    """Return where this process and its workers train, if that is another device.

    A worker knows its only GPU as the first.
    """
    kind, *_ = placement.device.partition(":")
    if where.device != kind:
        placement = choose_placement(where.device)
    elif where.executor == "in_process" and where.cards not in ((), (0,)):
        placement = choose_placement(f"cuda:{where.cards[0]}")
    if where.is_offloaded:
        room = weights_room(placement.device, where.sharers)
        placement = replace(placement, weights_bytes=room)
    return shared_by(where, placement) if where.executor == "ranks" else placement


def shared_by(where: PlacementPlan, placement: Placement) -> Placement:
    """Return where the processes of a plan train together."""
    return replace(placement, processes=where.processes, is_sharded=where.is_sharded)

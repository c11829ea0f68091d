"""Where the trials of a study run, and on how many devices each trains."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from fewshot_automl.finding import counted
from fewshot_automl.hardware import Device, Forecast

FULL: Final = 0.9
"""Of a device's memory, what may be planned: the rest is lost between blocks."""
CPU_BYTES: Final = 800_000_000
"""Of a worker process before it has a backbone: Python, torch and transformers."""
GPU_BYTES: Final = 700_000_000
"""Of a GPU, for each process that uses it: CUDA's context and libraries."""
LEAST_ACTIVATIONS: Final = 1 / 8
"""Of a batch's activations are left when it goes in micro-batches."""
START_SECONDS: Final = 10.0
"""Of a process until it can train: imports."""
SERIAL: Final = 1 / 3
"""Of a training step, what more threads do not make faster; where nobody measured it."""
WORTH: Final = 1.2
"""Times as many trials, below which one at a time is better: each suggestion then knows
all trials before it, and a study can be repeated exactly."""
MOST_A_GPU: Final = 4
EACH_MORE: Final = 0.7
"""Of a trial's speed is won by each more worker on a GPU, as small trainings leave it
idle between their kernels. An assumption."""
MOST_WORKERS: Final = 16
"""Trials side by side: with more, most suggestions know little of the others."""
ROUNDS: Final = 2
"""Trials that each worker should have at least."""
GPU_TIMES: Final = 20.0
"""How much longer a training takes on a CPU, where only a GPU's forecast is there."""
NOT_SHARED: Final = 0.3
"""Of a step at small batches, what does not shrink when processes share the batch:
starting kernels takes as long for 4 examples as for 32."""
STEPS: Final = 40
"""Of a training, each of which sums up the gradients of all processes."""
LINK_BYTES: Final = {True: 100e9, False: 8e9}
"""That cards exchange in a second with NVLink, and through the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Threads:
    """Says what the cores of a CPU are worth to trainings."""

    speed_up: float | None = None
    """How many times as fast a step is on all cores as on one; None if not measured."""
    capacity: float | None = None
    """How many times the work of one core they do together; fewer than there are cores
    where other programs run. None for all."""

    def of(self, threads: int, cores: int) -> float:
        """Return how many times as fast a step is with so many threads (Amdahl)."""
        serial = SERIAL
        if self.speed_up is not None:
            if threads == cores:
                return self.speed_up
            serial = min(max((cores / self.speed_up - 1) / (cores - 1), 0.0), 1.0)
        return 1 / (serial + (1 - serial) / threads)

    def worth(self, workers: int, cores: int) -> float:
        """Return how many times as many trials so many workers do as one does."""
        side_by_side = workers * self.of(cores // workers, cores)
        return min(side_by_side, self.capacity or cores) / self.of(cores, cores)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPlan:
    """Where the trials of a study run.

    >>> print(plan_placement([Device(kind="cpu")], [], 60.0))
    1 core: one trial at a time.
    """

    executor: str
    """That runs the trials."""
    device: str
    """Kind of the devices that train."""
    cards: tuple[int, ...] = ()
    """Numbers of the GPUs that are used on each node."""
    nodes: int = 1
    """Machines."""
    workers: int = 1
    """Trials side by side."""
    workers_a_gpu: int = 1
    """Those of them that share a GPU, each a fraction of it."""
    threads: int | None = None
    """CPU threads of a worker; None for its share of the cores."""
    processes: int = 1
    """That share a training: every one with the executor ranks, else the final fit."""
    is_sharded: bool = False
    """Whether each process holds only a part of what is trained (FSDP2)."""
    is_offloaded: bool = False
    """Whether weights stay in main memory and go to the GPU block by block."""
    reason: str
    """Why, in a line."""

    def __str__(self) -> str:
        """Return the reason."""
        return self.reason


@dataclass(frozen=True, slots=True)
class _Work:
    """What there is to do."""

    largest: Forecast
    fits: int
    """Trainings in a trial."""
    budget_seconds: float | None
    trials: int | None
    start_seconds: float

    @property
    def trial_seconds(self) -> float:
        return max(self.fits * self.largest.seconds, 1e-3)

    @property
    def most_workers(self) -> int:
        most = MOST_WORKERS
        return most if self.trials is None else min(most, max(self.trials // ROUNDS, 1))

    def trials_with(self, workers: int, worth: float) -> float:
        """Return for how many trials there is time, or trials a second without limit.

        Workers lose the time to start, but for one, which is this process.
        """
        start = self.start_seconds if workers > 1 else 0.0
        if self.budget_seconds is None and self.trials is None:
            return worth
        if self.budget_seconds is None:
            return 1 / (start + (self.trials or 1) * self.trial_seconds / worth)
        return max(self.budget_seconds - start, 0.0) * worth / self.trial_seconds

    def least_bytes(self, processes: int = 1) -> float:
        """Return what one process needs of a GPU, if need be in micro-batches.

        Sharding splits what is trained, its gradients and AdamW's two moments.
        """
        need = self.largest
        trained = 4 * need.trained_bytes
        activations = need.memory_bytes - need.weights_bytes - 3 * need.trained_bytes
        held = need.weights_bytes - need.trained_bytes + trained / processes
        return held + max(activations, 0) * LEAST_ACTIVATIONS + GPU_BYTES

    def shared_seconds(self, processes: int, *, is_linked: bool) -> float:
        """Return the seconds of one training that so many processes share.

        They must start, a part of each step is the same for all, and the gradients go
        around a ring: each card sends and takes nearly twice their bytes.
        """
        share = NOT_SHARED + (1 - NOT_SHARED) / processes
        sums = 2 * (processes - 1) / processes * self.largest.trained_bytes
        ring = STEPS * sums / LINK_BYTES[is_linked]
        return self.start_seconds + self.largest.seconds * share + ring


def plan_placement(
    devices: Sequence[Device],
    forecasts: Sequence[Forecast],
    budget_seconds: float | None,
    *,
    trials: int | None = None,
    fits: int = 4,
    threads: Threads = Threads(),  # noqa: B008  frozen
    start_seconds: float = START_SECONDS,
    workers: int | None = None,
    processes: int | None = None,
) -> PlacementPlan:
    """Return where trials run.

    Args:
        devices: What there is; GPUs of one node in the order of their numbers.
        forecasts: Of the trainings that are planned, for the best of the devices.
            Those too large for any GPU do not count where others are not.
        budget_seconds: Left for trials; None without limit.
        trials: Most of them; None without limit.
        fits: Trainings in a trial: its folds.
        threads: What the cores are worth.
        start_seconds: Of a process until it can train.
        workers: Trials side by side, if somebody has said so.
        processes: That share each training, likewise.
    """
    gpus = [device for device in devices if device.kind != "cpu"]
    cpus = [device for device in devices if device.kind == "cpu"]
    nothing = Forecast(memory_bytes=0, weights_bytes=0, trained_bytes=0, seconds=0.0)
    ordered = sorted(forecasts, key=lambda one: one.memory_bytes) or [nothing]

    def work(largest: Forecast) -> _Work:
        return _Work(largest, fits, budget_seconds, trials, start_seconds)

    held = [one for one in ordered if any(_holds(gpu, work(one)) for gpu in gpus)]
    todo = work((held or ordered)[-1])
    cpu = cpus[0] if cpus else Device(kind="cpu")
    if workers is not None or (processes or 1) > 1:
        return _as_asked(gpus, cpu, workers or 1, processes or 1)
    if not gpus:
        return _on_cpu(cpu, todo, threads)
    if not held:
        return _too_large(gpus, cpus, todo, threads)
    plan = _on_gpus(gpus, cpus, todo)
    if left := len(ordered) - len(held):
        most = _size(ordered[-1].memory_bytes)
        trainings = counted(left, "planned training")
        more = f" {trainings} of up to {most} will not fit."
        return replace(plan, reason=plan.reason + more)
    return plan


def _as_asked(
    gpus: Sequence[Device], cpu: Device, workers: int, processes: int
) -> PlacementPlan:
    place = gpus[0].kind if gpus else "cpu"
    numbers = tuple(range(len(gpus))) if place == "cuda" else ()
    what = f"{workers} trials side by side" if workers > 1 else "one trial at a time"
    if processes > 1:
        what = f"{processes} processes share each training"
    executor = "ranks" if processes > 1 else "loky" if workers > 1 else "in_process"
    return PlacementPlan(
        executor=executor,
        device=place,
        cards=numbers,
        workers=workers,
        workers_a_gpu=math.ceil(workers / max(len(gpus), 1)) if gpus else 1,
        threads=max(cpu.cores // max(workers, processes), 1),
        processes=processes,
        reason=f"{_named(gpus) if gpus else _cores(cpu)}: {what}, as asked.",
    )


def _on_cpu(cpu: Device, work: _Work, threads: Threads) -> PlacementPlan:
    cores = cpu.cores
    alone = work.trials_with(1, 1.0)
    each = work.largest.memory_bytes + CPU_BYTES
    room = cores if cpu.memory_bytes is None else int(FULL * cpu.memory_bytes // each)
    worth = {
        workers: work.trials_with(workers, threads.worth(workers, cores)) / alone
        for workers in range(1, min(cores, work.most_workers) + 1)
        if alone
    }
    fitting = {n: times for n, times in worth.items() if n <= max(room, 1)}
    best = max(fitting, key=lambda n: fitting[n], default=1)
    if fitting and best > 1 and fitting[best] >= WORTH:
        share = cores // best
        own = "a thread" if share == 1 else f"{share} threads"
        return PlacementPlan(
            executor="loky",
            device="cpu",
            workers=best,
            threads=share,
            reason=f"{_cores(cpu)}: {best} trials side by side with {own} each do "
            f"{fitting[best]:.1f} times as many as one at a time.",
        )
    plan = PlacementPlan(
        executor="in_process",
        device="cpu",
        threads=cores,
        reason=f"{_cores(cpu)}: one trial at a time.",
    )
    if cores == 1:
        return plan
    if len(fitting) < len(worth) and max(worth.values()) >= WORTH:
        why = f"two need {_size(2 * each)} and {_size(cpu.memory_bytes)} are there"
    elif len(worth) < 2:  # noqa: PLR2004
        why = "few are asked for"
    else:
        two = threads.worth(2, cores)
        why = f"two side by side would do {two:.1f} times as many"
        if two >= WORTH:
            seconds = work.start_seconds
            why = f"two side by side need {seconds:.0f} s to start, too much here"
    return replace(plan, reason=f"{plan.reason[:-1]} on all of them, for {why}.")


def _on_gpus(
    gpus: Sequence[Device], cpus: Sequence[Device], work: _Work
) -> PlacementPlan:
    need = work.largest
    whole = [gpu for gpu in gpus if _room(gpu, need) > 0]
    used = whole or [gpu for gpu in gpus if _holds(gpu, work)]
    first = [gpu for gpu in gpus if gpu.node == used[0].node]
    cards = tuple(n for n, gpu in enumerate(first) if gpu in used)
    nodes = len({gpu.node for gpu in used})
    plan = PlacementPlan(
        executor="in_process",
        device=used[0].kind,
        cards=cards,
        nodes=nodes,
        reason="",
    )
    notes = []
    if len(used) < len(gpus):
        notes.append(
            f"only on {_named(used)}, for a training needs {_size(need.memory_bytes)}"
        )
    elif not whole:
        notes.append(
            f"in micro-batches, for a whole batch needs {_size(need.memory_bytes)}"
        )
    if used[0].kind == "mps":
        notes.append("one trial at a time, for it shares the machine's memory")
        return replace(plan, cards=(), reason=_sentence(gpus, notes))
    together = len(cards)
    linked = all(gpu.is_linked for gpu in used)
    shared = work.shared_seconds(together, is_linked=linked)
    if together > 1 and shared < need.seconds:
        seconds, budget = need.seconds, work.budget_seconds
        if budget is not None and work.trial_seconds > budget:
            why = f"on one GPU a trial takes {_long(work.trial_seconds)}, and there are"
            why = f"{why} {_long(budget)} for all"
            notes.append(f"{together} share each training, for {why}")
            return replace(
                plan,
                executor="ranks",
                nodes=1,
                processes=together,
                reason=_sentence(gpus, notes),
            )
        plan = replace(plan, processes=together)
        final = f"all of one node share the final fit: {_long(seconds)} become "
        final += _long(shared)
    else:
        final = f"the final fit on one, for it takes {_long(need.seconds)}"
    cores = sum(cpu.cores for cpu in cpus) // max(len(cpus), 1) * nodes
    most = min(work.most_workers, cores) if cpus else work.most_workers
    rooms = min((_room(gpu, need) for gpu in used), default=0)
    each = max(min(rooms, MOST_A_GPU, most // len(used)), 1)
    worth = min(len(used), most) * (1 + EACH_MORE * (each - 1))
    workers = min(len(used) * each, most)
    pays = work.trials_with(workers, worth) >= WORTH * work.trials_with(1, 1.0)
    if nodes == 1 and (workers == 1 or not pays):
        why = "" if workers == 1 else f", for {workers} need {work.start_seconds:.0f} s"
        why += " to start, too much here" if why else ""
        notes.append(f"one trial at a time{why}")
        return replace(plan, cards=cards[:1], reason=_sentence(gpus, notes))
    where = f", {each} on each GPU" if each > 1 and len(used) > 1 else ""
    about = f", for one needs {_size(need.memory_bytes)}" if len(used) == 1 else ""
    notes.append(f"{workers} trials side by side{where}{about}")
    return replace(
        plan,
        executor="loky" if nodes == 1 else "ray",
        workers=workers,
        workers_a_gpu=each,
        threads=max(cores // workers, 1) if cpus else None,
        reason=_sentence(gpus, [*notes, final] if len(used) > 1 else notes),
    )


def _too_large(
    gpus: Sequence[Device], cpus: Sequence[Device], work: _Work, threads: Threads
) -> PlacementPlan:
    """Return where to train what no GPU holds: on several, or without them."""
    need = work.largest
    for _, group in groupby(gpus, key=lambda gpu: gpu.node):
        node = list(group)
        least = min(gpu.memory_bytes or 0 for gpu in node)
        if len(node) > 1 and work.least_bytes(len(node)) <= FULL * least:
            why = f"a training needs {_size(need.memory_bytes)}"
            return PlacementPlan(
                executor="ranks",
                device=node[0].kind,
                cards=tuple(range(len(node))),
                processes=len(node),
                is_sharded=True,
                reason=f"{_named(node)}: all of them share each training, its weights "
                f"and optimiser sharded over them, for {why}.",
            )
    memory = cpus[0].memory_bytes if cpus else None
    most = _size(max(gpu.memory_bytes or 0 for gpu in gpus))
    weights = need.weights_bytes
    if memory is None or weights + CPU_BYTES <= FULL * memory:
        is_large = all(weights + GPU_BYTES > FULL * (g.memory_bytes or 0) for g in gpus)
        if is_large and gpus[0].kind == "cuda":
            return PlacementPlan(
                executor="in_process",
                device="cuda",
                cards=(0,),
                is_offloaded=True,
                reason=f"{_named(gpus)}: examples are encoded with weights that stay "
                f"in main memory, for they are {_size(weights)}. Nothing is trained "
                "but heads.",
            )
    slow = replace(work, largest=replace(need, seconds=GPU_TIMES * need.seconds))
    plan = _on_cpu(cpus[0] if cpus else Device(kind="cpu"), slow, threads)
    why = f"{_size(work.least_bytes())} even in micro-batches and a GPU has {most}"
    return replace(plan, reason=f"On the CPU, for a training needs {why}. {plan}")


def _holds(gpu: Device, work: _Work) -> bool:
    """Return whether a training fits, if need be in micro-batches."""
    return gpu.memory_bytes is None or work.least_bytes() <= FULL * gpu.memory_bytes


def _room(gpu: Device, need: Forecast) -> int:
    """Return how many whole trainings fit at once; 1 where nobody knows."""
    if gpu.memory_bytes is None:
        return 1
    return int(FULL * gpu.memory_bytes // (need.memory_bytes + GPU_BYTES))


def _sentence(gpus: Sequence[Device], notes: Sequence[str]) -> str:
    return f"{_named(gpus)}: {'; '.join(notes)}."


def _named(gpus: Sequence[Device]) -> str:
    """Return what GPUs there are.

    >>> _named([Device(kind="cuda", memory_bytes=24_000_000_000)] * 4)
    '4 GPUs of 24 GB'
    """
    if gpus[0].kind == "mps":
        return "Apple's GPU"
    sizes = dict.fromkeys(_size(gpu.memory_bytes) for gpu in gpus)
    nodes = len({gpu.node for gpu in gpus})
    where = f" in {nodes} machines" if nodes > 1 else ""
    return f"{counted(len(gpus), 'GPU')} of {' and '.join(sizes)}{where}"


def _cores(cpu: Device) -> str:
    return counted(cpu.cores, "core")


def _size(memory_bytes: float | None) -> str:
    if memory_bytes is None:
        return "unknown memory"
    gigabytes = memory_bytes / 1e9
    return f"{gigabytes:.1f} GB" if gigabytes < 9.95 and gigabytes % 1 else (
        f"{gigabytes:.0f} GB"
    )


def _long(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"

"""Where the trials of a study run, and on how many devices each trains."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from fewshot_automl.finding import counted
from fewshot_automl.hardware import FULL, PROCESS_BYTES, Device, Forecast

MICRO: Final = 1 / 8
"""Of a batch's activations, what is left when it goes in micro-batches."""
START_SECONDS: Final = 10.0
"""Of a process until it can train: imports."""
THREADED: Final = 2 / 3
"""Of a training step, what more threads make faster, where nobody measured."""
CHOOSING_SECONDS: Final = 1.0
"""Of the oracle for each trial, which no worker shares."""
WORTH: Final = 1.2
"""Times as many trials, below which one at a time is better: each suggestion then knows
all trials before it, and a study can be repeated exactly."""
MOST_A_GPU: Final = 4
EACH_MORE: Final = 0.7
"""Of a trial's speed that one more worker on a GPU wins, for small trainings leave it
idle between their kernels. An assumption."""
MOST_WORKERS: Final = 16
"""Trials side by side: with more, suggestions know little of the others."""
ROUNDS: Final = 2
"""Trials that each worker should have at least."""
GPU_TIMES: Final = 20.0
"""How much longer a training takes on a CPU, where only a GPU's forecast is there."""
NOT_SHARED: Final = 0.3
"""Of a step in small batches, what does not shrink when processes share the batch:
starting kernels takes as long for 4 examples as for 32."""
STEPS: Final = 40
"""Of a training, each of which sums up the gradients of all processes."""
LINK_BYTES: Final = {True: 100e9, False: 8e9}
"""That two GPUs exchange in a second with NVLink, and without."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPlan:
    """Where the trials of a study run.

    >>> print(plan_placement([Device(kind="cpu")], [], 60.0))
    1 core: one trial at a time; nothing is trained.
    """

    executor: str
    """That runs the trials."""
    device: str
    """Kind of the devices that train."""
    cards: tuple[int, ...] = ()
    """Numbers of the GPUs that are used on each node."""
    workers: int = 1
    """Trials side by side."""
    workers_a_gpu: int = 1
    """Those of them that share a GPU."""
    processes: int = 1
    """That share a training: every one with the executor ranks, else the final fit."""
    is_sharded: bool = False
    """Whether each of those holds only a part of what is trained (FSDP2)."""
    is_offloaded: bool = False
    """Whether weights that find no room stay in their file, but while they are used."""
    reason: str
    """Why, in a line."""

    def __str__(self) -> str:
        """Return the reason."""
        return self.reason

    @property
    def sharers(self) -> int:
        """Return how many workers share the memory of a device."""
        return self.workers if self.device == "cpu" else self.workers_a_gpu


@dataclass(frozen=True, slots=True)
class _Work:
    """What there is to do."""

    need: Forecast
    fits: int
    budget_seconds: float
    """Infinite without limit."""
    trials: int | None
    start_seconds: float

    @property
    def trial_seconds(self) -> float:
        return max(self.fits * self.need.seconds, 1e-3)

    @property
    def most_workers(self) -> int:
        if not self.need.seconds:  # nothing is trained
            return 1
        return min(MOST_WORKERS, max((self.trials or 999) // ROUNDS, 1))

    @property
    def obstacle(self) -> str:
        if self.trial_seconds < CHOOSING_SECONDS:
            return "choosing the next takes longer than a trial"
        start = f"{self.start_seconds:.0f} s"
        return f"more would take {start} to start, too long for this budget"

    def times(self, workers: int, worth: float) -> float:
        """Return how many times as many trials workers do; they must start first.

        0 if their trials, which may take longer side by side, are too long.
        """
        each = self.trial_seconds * workers / worth
        rounds = ROUNDS if each > 1.01 * self.trial_seconds else 1
        if self.budget_seconds < self.start_seconds + rounds * each:
            return 0.0
        one = self.trial_seconds / worth + CHOOSING_SECONDS
        worth = (self.trial_seconds + CHOOSING_SECONDS) / one
        alone = math.inf if self.trials is None else self.trials * self.trial_seconds
        if self.budget_seconds < alone:
            return worth * (1 - self.start_seconds / self.budget_seconds)
        return alone / (self.start_seconds + alone / worth)

    def least_bytes(self, processes: int = 1) -> int:
        """Return what one process needs in micro-batches, or one of several that share.

        These share each batch, and split a second copy of what is trained, its
        gradients and AdamW's two moments.
        """
        whole, trained = self.need.memory_bytes, self.need.trained_bytes
        fixed = PROCESS_BYTES + self.need.weights_bytes + 4 * trained
        batch = max(whole - fixed, 0)
        if processes == 1:
            return whole - round((1 - MICRO) * batch)
        return whole - batch + (batch + 4 * trained) // processes - 3 * trained

    def shared_seconds(self, processes: int, *, is_linked: bool) -> float:
        """Return the seconds of one training that so many processes share.

        They must start, a part of each step is the same for all, and the gradients go
        around a ring: each card sends and takes nearly twice their bytes.
        """
        step = NOT_SHARED + (1 - NOT_SHARED) / processes
        sent = 2 * (processes - 1) / processes * self.need.trained_bytes
        ring = STEPS * sent / LINK_BYTES[is_linked]
        return self.start_seconds + self.need.seconds * step + ring


def plan_placement(
    devices: Sequence[Device],
    forecasts: Sequence[Forecast],
    budget_seconds: float | None,
    *,
    trials: int | None = None,
    fits: int = 4,
    side_by_side: float | None = None,
    start_seconds: float = START_SECONDS,
    workers: int | None = None,
    processes: int = 1,
    executor: str | None = None,
) -> PlacementPlan:
    """Return where trials run.

    Args:
        devices: What there is; GPUs of one node in the order of their numbers.
        forecasts: Of the trainings that are planned, for the best of the devices.
            Those that no GPU can hold do not count where others are not.
        budget_seconds: Left for trials; None without limit.
        trials: Most of them, which is limited if time is not.
        fits: Trainings in a trial: its folds.
        side_by_side: How many times as much the cores do with one training on each as
            with one on all of them; None where nobody measured.
        start_seconds: Of a process until it can train.
        workers: Trials side by side, if somebody has said so.
        processes: That share each training, likewise.
        executor: That runs them, if somebody has said so, too.
    """
    gpus = [device for device in devices if device.kind != "cpu"]
    cpu = next((one for one in devices if one.kind == "cpu"), Device(kind="cpu"))
    nothing = Forecast(
        memory_bytes=PROCESS_BYTES, weights_bytes=0, trained_bytes=0, seconds=0.0
    )
    budget = math.inf if budget_seconds is None else budget_seconds
    rest = (fits, budget, trials, start_seconds)
    ordered = sorted(forecasts, key=lambda one: one.memory_bytes) or [nothing]
    works = [_Work(one, *rest) for one in ordered]
    held = [work for work in works if any(_holds(gpu, work) for gpu in gpus)]
    used = [gpu for gpu in gpus if held and _holds(gpu, held[-1])] or gpus
    if not gpus:
        plan = _on_cpu(cpu, works[-1], side_by_side)
    elif held:
        plan = _on_gpus(gpus, cpu if cpu in devices else None, held[-1])
        if left := len(works) - len(held):
            most, what = _size(ordered[-1].memory_bytes), counted(left, "training")
            words = f"{plan} {what} of those planned, of up to {most}, will not fit."
            plan = replace(plan, reason=words)
    else:
        plan = _too_large(gpus, cpu, works[-1])
    if workers is not None or processes > 1:
        workers, used = workers or 1, [one for one in used if one.kind == plan.device]
        what, named = "one trial at a time", "in_process"
        if workers > 1:
            what, named = f"{workers} trials side by side", "loky"
        if processes > 1:
            what, named = f"{processes} processes share each training", "ranks"
        where = _named(used) if used else counted(cpu.cores, "core")
        where = "Ray" if executor == "ray" else where
        plan = replace(
            plan,
            executor=executor or named,
            cards=_numbers(gpus, used) if plan.device == "cuda" else (),
            workers=workers,
            workers_a_gpu=-(-workers // max(len(used), 1)),
            processes=processes,
            is_sharded=plan.is_sharded and processes > 1,
            reason=f"{where}: {what}, as asked.",
        )
    return _offloaded(plan, gpus, cpu, max(one.weights_bytes for one in ordered))


def _offloaded(
    plan: PlacementPlan, gpus: Sequence[Device], cpu: Device, weights_bytes: int
) -> PlacementPlan:
    """Return the plan; it says so where not all weights find room at once."""
    used, own = [cpu], PROCESS_BYTES  # what this process holds is not free any more
    if plan.device != "cpu":
        own = 0
        node = [gpu for gpu in gpus if gpu.node == gpus[0].node]
        used = [node[number] for number in plan.cards] or node
    # What else runs where Ray puts a trial is not known.
    shares = 1 if plan.executor == "ray" else plan.sharers
    room = min(one.memory_bytes or math.inf for one in used)
    needs = shares * (PROCESS_BYTES + weights_bytes)
    if not weights_bytes or needs <= FULL * (room + own):
        return plan
    reason = (
        f"{plan} Weights of {_size(weights_bytes)} do not fit: each batch reads some "
        "from their file, and they are not trained."
    )
    return replace(plan, is_offloaded=True, reason=reason)


def _on_cpu(cpu: Device, work: _Work, side_by_side: float | None) -> PlacementPlan:
    cores, name = cpu.cores, counted(cpu.cores, "core")
    # Amdahl's law: one training on all cores is that many times slower.
    most = side_by_side or (1 - THREADED) * cores + THREADED
    each_more = (most - 1) / max(cores - 1, 1)
    counts = range(2, min(cores, work.most_workers) + 1)
    times = {n: work.times(n, 1 + each_more * (n - 1)) for n in counts}
    each = work.need.memory_bytes
    room = cores if cpu.memory_bytes is None else FULL * cpu.memory_bytes // each
    best = max((n for n in times if n <= room), key=times.__getitem__, default=1)
    more = times.get(best, 1.0)
    if more >= WORTH:
        how = f"{best} trials side by side, {counted(cores // best, 'thread')} each"
        reason = f"{name}: {how}, do {more:.1f} times as many as one at a time."
        return PlacementPlan(executor="loky", device="cpu", workers=best, reason=reason)
    if not work.need.seconds:
        why = "; nothing is trained"
    elif not times:
        why = "; few are asked for" if cores > 1 else ""
    elif max(times.values()) >= WORTH:
        free = _size(cpu.memory_bytes)
        why = f"; two need {_size(2 * each)} of memory and {free} are free"
    elif most < WORTH:
        why = f"; {cores} side by side would do {most:.1f} times as many"
    else:
        why = f"; {work.obstacle}"
    reason = f"{name}: one trial at a time{why}."
    return PlacementPlan(executor="in_process", device="cpu", reason=reason)


def _on_gpus(gpus: Sequence[Device], cpu: Device | None, work: _Work) -> PlacementPlan:
    need, kind, notes = work.need, gpus[0].kind, []
    whole = [gpu for gpu in gpus if _room(gpu, need)]
    used = whole or [gpu for gpu in gpus if _holds(gpu, work)]
    cards = _numbers(gpus, used)
    nodes = len({gpu.node for gpu in used})
    size = _size(need.memory_bytes)
    if len(used) < len(gpus):
        notes.append(f"only {_named(used)} used, for a training needs {size}")
    elif not whole:
        notes.append(f"batches go in parts, for a whole one needs {size}")
    plan = PlacementPlan(executor="in_process", device=kind, cards=cards, reason="")
    if kind == "mps":
        notes.append("one trial at a time, for all programs share its memory")
        return replace(plan, cards=(), reason=_sentence(gpus, notes))
    final, took = "one", _long(need.seconds)
    linked = all(gpu.is_linked for gpu in used)
    shared = work.shared_seconds(len(cards), is_linked=linked)
    processes = len(cards) if whole and len(cards) > 1 and shared < need.seconds else 1
    if processes > 1:
        trial, budget = work.trial_seconds, work.budget_seconds
        if trial > budget:
            took = f"{_long(trial)}, and {_long(budget)} are there for all"
            notes += [f"all share each training, for on one GPU a trial takes {took}"]
            reason = _sentence(gpus, notes)
            return replace(plan, executor="ranks", processes=processes, reason=reason)
        final, took = f"{processes} together", f"{_long(shared)}, {took} on one"
    most = min(work.most_workers, cpu.cores * nodes if cpu else work.most_workers)
    each = min(_room(gpu, need) if whole else 1 for gpu in used)
    each = max(min(each, MOST_A_GPU, most // len(used)), 1)
    workers = min(len(used) * each, most)
    times = work.times(workers, min(len(used), most) * (1 + EACH_MORE * (each - 1)))
    if nodes == 1 and (workers == 1 or times < WORTH):
        why = f"; {work.obstacle}" if workers > 1 else ""
        notes.append(f"one trial at a time{why}")
        return replace(plan, cards=cards[:1], reason=_sentence(gpus, notes))
    shown = f", {each} on each" if each > 1 and len(used) > 1 else ""
    notes.append(f"{workers} trials side by side{shown}")
    if len(used) > 1:
        notes.append(f"the final fit on {final}, for it takes {took}")
    return replace(
        plan,
        executor="ray" if nodes > 1 else "loky",
        workers=workers,
        workers_a_gpu=each,
        processes=processes,
        reason=_sentence(gpus, notes),
    )


def _too_large(gpus: Sequence[Device], cpu: Device, work: _Work) -> PlacementPlan:
    """Return where to train what no GPU holds: on several, or without them."""
    need, node = work.need, [gpu for gpu in gpus if gpu.node == gpus[0].node]
    smallest = min(gpu.memory_bytes or 0 for gpu in node)
    if len(node) > 1 and work.least_bytes(len(node)) <= FULL * smallest:
        return PlacementPlan(
            executor="ranks",
            device="cuda",
            cards=tuple(range(len(node))),
            processes=len(node),
            is_sharded=True,
            reason=f"{_named(node)}: all share each training, which needs "
            f"{_size(need.memory_bytes)}; weights and optimiser are split over them.",
        )
    slow = replace(work, need=replace(need, seconds=GPU_TIMES * need.seconds))
    free = None if cpu.memory_bytes is None else FULL * cpu.memory_bytes
    is_late = slow.trial_seconds > work.budget_seconds
    is_large = free is not None and need.memory_bytes > free
    card = max(node, key=lambda gpu: gpu.memory_bytes or 0)
    why = f"{_named(gpus)}: a training needs {_size(work.least_bytes())} even in parts"
    if (is_late or is_large) and card.kind == "cuda":
        return PlacementPlan(
            executor="in_process",
            device="cuda",
            cards=(node.index(card),),
            reason=f"{why} of a batch, so count on heads on frozen features.",
        )
    plan = _on_cpu(cpu, slow, None)
    return replace(plan, reason=f"{why} of a batch, so on the CPU. {plan}")


def _holds(gpu: Device, work: _Work) -> bool:
    """Return whether a training fits, if need be in micro-batches."""
    return gpu.memory_bytes is None or work.least_bytes() <= FULL * gpu.memory_bytes


def _room(gpu: Device, need: Forecast) -> int:
    """Return how many whole trainings fit at once; 1 where nobody knows."""
    if gpu.memory_bytes is None:
        return 1
    return int(FULL * gpu.memory_bytes // need.memory_bytes)


def _numbers(gpus: Sequence[Device], used: Sequence[Device]) -> tuple[int, ...]:
    """Return the numbers of those that are used on their first node."""
    node = [gpu for gpu in gpus if gpu.node == used[0].node]
    return tuple(number for number, gpu in enumerate(node) if gpu in used)


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


def _size(memory_bytes: int | None) -> str:
    if memory_bytes is None:
        return "unknown memory"
    return f"{float(f'{memory_bytes / 1e9:.2g}'):g} GB"


def _long(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"

"""Several trainings on the same frozen weights, run as one job."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from fewshot_automl.errors import OutOfTime, TrialError
from fewshot_automl.training.placement import Placement, own_randomness, seed_device
from fewshot_automl.training.schedules import SCHEDULES
from fewshot_automl.training.settings import TrainingLog, TrainingSettings
from fewshot_automl.training.slots import Slotted, Span, slotted_layers, stack

BETAS: Final = (0.9, 0.999)
EPSILON: Final = 1e-8
"""Both as `torch.optim.AdamW` has them."""


@dataclass(slots=True, kw_only=True, eq=False)
class Member:
    """One training of a cohort: what `loop.train` would be given for it alone."""

    module: nn.Module
    """Trained, in place, once the cohort is done with it."""
    labels: Int[np.ndarray, " examples"]
    """Class index of each of its examples."""
    sampler: Iterator[np.ndarray]
    """Endless positions among its examples."""
    settings: TrainingSettings
    """How long and how hard."""
    losses: list[float] = field(default_factory=list)
    """Loss of each step so far."""


@runtime_checkable
class SharedRows(Protocol):
    """Gives the examples of all members at once."""

    def batch(
        self,
        members: Sequence[int],
        drawn: Sequence[np.ndarray],
        size: int,
        step: int,
    ) -> dict[str, Tensor]:
        """Return the rows of some members, slot by slot, collated as one batch.

        Args:
            members: Numbers of the members.
            drawn: Of each member, positions among its own examples.
            size: Rows of each; a member with fewer repeats some of its own.
            step: Number of the step; may choose the view of each example.
        """
        ...


@runtime_checkable
class Losses(Protocol):
    """Computes the loss of each slot."""

    def __call__(
        self,
        outputs: Float[Tensor, "slots rows width"],
        labels: Int[Tensor, "slots rows"],
        real: Bool[Tensor, "slots rows"],
        members: Int[Tensor, " slots"],
    ) -> Float[Tensor, " slots"]:
        """Return each slot's mean loss over its real rows.

        Args:
            outputs: What the module returned.
            labels: Class indices.
            real: False where a batch is filled up to the size of the largest.
            members: Number of the member in each slot.
        """
        ...


@runtime_checkable
class DrawsMultipliers(Protocol):
    """A module that multiplies hidden states by numbers drawn before a batch is run."""

    def multipliers(self, rows: int) -> list[Tensor]:
        """Draw them for a batch from torch's random state, one row an example."""
        ...

    def use(self, multipliers: Sequence[Tensor]) -> None:
        """Multiply by these in the next run."""
        ...


def train_together(
    members: Sequence[Member],
    skeleton: nn.Module,
    rows: SharedRows,
    losses: Losses,
    placement: Placement,
    *,
    deadline: float | None = None,
) -> list[TrainingLog | TrialError]:
    """Train several modules of one structure side by side, each as if alone.

    Their trained layers are stacked, see `slots`; what is frozen is run once for the
    rows of all. Each has its own batches, learning rate, decay, schedule, clipping
    and dropout, and leaves when it is done. Up to rounding, each ends with the
    weights that `loop.train` gives it alone. One whose loss is no number leaves
    without touching its neighbours.

    Args:
        members: What to train; only their modules' weights are changed.
        skeleton: A module of the same structure, used up.
        rows: The examples.
        losses: One loss a slot.
        placement: Where. Only one process can train a cohort.
        deadline: On the clock of `time.monotonic`.

    Returns:
        For each member its log, or the error that ended it.

    Raises:
        OutOfTime: If the deadline passes first. Members that were done by then keep
            their weights, the others those they came with.
        TrialError: If the modules cannot be stacked.
    """
    device = torch.device(placement.device)
    job = _Job(members, skeleton, rows, losses, placement, device)
    job.check_time(deadline, 0)
    skeleton.train()
    with own_randomness(device):
        for step in range(max(m.settings.useful_steps for m in members)):
            job.step(step)
            job.check_time(deadline, step + 1)
            if not job.alive:
                break
    return job.logs()


class _Job:
    """The state of a cohort between its steps."""

    def __init__(
        self,
        members: Sequence[Member],
        skeleton: nn.Module,
        rows: SharedRows,
        losses: Losses,
        placement: Placement,
        device: torch.device,
    ) -> None:
        self._started = time.monotonic()
        self._members = members
        self._skeleton = skeleton.to(device)
        self._rows = rows
        self._losses = losses
        self._placement = placement
        self._device = device
        self._span = Span(slots=len(members), rows=1)
        stack([m.module for m in members], skeleton, self._span)
        self._layers = slotted_layers(skeleton)
        self._optimiser = SlottedAdamW(self._layers, [m.settings for m in members])
        self._ended: dict[int, TrainingLog | TrialError] = {}
        self.alive = list(range(len(members)))

    def step(self, step: int) -> None:
        """Make one step of all that are left, and let go those that are done."""
        drawn = [next(self._members[i].sampler) for i in self.alive]
        most = max(batch.size for batch in drawn)
        real = np.arange(most) < np.array([[batch.size] for batch in drawn])
        labels = np.stack(
            [
                np.resize(self._members[i].labels[batch], most)
                for i, batch in zip(self.alive, drawn, strict=True)
            ]
        )
        self._span.slots, self._span.rows = real.shape
        values = self._forward(drawn, labels, real, step)
        numbers = values.detach().cpu().tolist()
        finite = torch.tensor([math.isfinite(n) for n in numbers], device=self._device)
        self._optimiser.clear()
        if bool(finite.any()):
            values[finite].sum().backward()  # type: ignore[no-untyped-call]
            self._optimiser.step(step)
        self._let_go(numbers, step)

    def _forward(
        self,
        drawn: Sequence[np.ndarray],
        labels: Int[np.ndarray, "slots rows"],
        real: Bool[np.ndarray, "slots rows"],
        step: int,
    ) -> Tensor:
        slots, most = real.shape
        batch = {
            name: tensor.to(self._device, non_blocking=True)
            for name, tensor in self._rows.batch(self.alive, drawn, most, step).items()
        }
        self._draw(real, step)
        mixed = self._placement.mixed_precision != "no"
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=mixed):
            outputs: Tensor = self._skeleton(batch)
        return self._losses(
            outputs.float().reshape(slots, most, -1),
            torch.from_numpy(labels).to(self._device),
            torch.from_numpy(real).to(self._device),
            torch.tensor(self.alive, device=self._device),
        )

    def _draw(self, real: Bool[np.ndarray, "slots rows"], step: int) -> None:
        """Give each slot the dropout that it would draw alone."""
        if not isinstance(self._skeleton, DrawsMultipliers):
            return
        drawn: list[list[Tensor]] = []
        for member, rows in zip(self.alive, real, strict=True):
            module = self._members[member].module
            assert isinstance(module, DrawsMultipliers)
            seed_device(self._device, self._members[member].settings.seed, step, 0, 0)
            count = int(rows.sum())
            drawn.append(
                [
                    nn.functional.pad(each, (0, 0, 0, rows.size - count))
                    for each in module.multipliers(count)
                ]
            )
        self._skeleton.use([_joined(each) for each in zip(*drawn, strict=True)])

    def _let_go(self, losses: Sequence[float], step: int) -> None:
        staying: list[int] = []
        for slot, (member, loss) in enumerate(zip(self.alive, losses, strict=True)):
            run = self._members[member]
            run.losses.append(loss)
            if not math.isfinite(loss):
                self._ended[member] = TrialError(
                    f"loss became {'NaN' if math.isnan(loss) else loss} at step "
                    f"{step + 1} of {run.settings.steps}. Use a lower learning rate."
                )
            elif step + 1 == run.settings.useful_steps or run.settings.has_converged(
                run.losses
            ):
                for name, layer in self._layers.items():
                    layer.give_back(slot, run.module.get_submodule(name))
                self._ended[member] = TrainingLog(
                    losses=tuple(run.losses),
                    seconds=time.monotonic() - self._started,
                    best_step=None,
                    best_score=None,
                    parts=1,
                )
            else:
                staying.append(slot)
        if len(staying) < len(self.alive):
            self.alive = [self.alive[slot] for slot in staying]
            if staying:
                self._optimiser.keep(torch.tensor(staying, device=self._device))

    def check_time(self, deadline: float | None, done: int) -> None:
        """Raise `OutOfTime` where the deadline has passed."""
        if deadline is not None and self.alive and time.monotonic() > deadline:
            raise OutOfTime(
                f"The deadline passed after {done} steps of {len(self.alive)} "
                "trainings side by side."
            )

    def logs(self) -> list[TrainingLog | TrialError]:
        """Return what became of each member."""
        for member in self._members:
            member.module.eval()
        return [self._ended[i] for i in range(len(self._members))]


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Put rows below each other; a single column is as good as many equal ones."""
    width = max(part.shape[1] for part in parts)
    return torch.cat([part.expand(-1, width) for part in parts])


class SlottedAdamW:
    """AdamW with clipped gradients, with settings of their own for each slot.

    Source:
        Loshchilov and Hutter, ICLR 2019, alg. 2; the same as `Optimiser` for a slot.
    """

    def __init__(
        self, layers: dict[str, Slotted], settings: Sequence[TrainingSettings]
    ) -> None:
        """Collect the stacked weights."""
        self._layers = layers
        self._settings = list(settings)
        self._is_head = [
            name == "head" or name.startswith("head.")
            for name, layer in layers.items()
            for _ in layer.stacked
        ]
        self._means = [torch.zeros_like(p) for p in self._parameters()]
        self._squares = [torch.zeros_like(p) for p in self._parameters()]

    def _parameters(self) -> list[nn.Parameter]:
        return [p for layer in self._layers.values() for p in layer.stacked]

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters():
            parameter.grad = None

    def keep(self, slots: Tensor) -> None:
        """Drop all slots but some, with their weights."""
        for layer in self._layers.values():
            layer.keep(slots)
        self._means = [mean[slots] for mean in self._means]
        self._squares = [square[slots] for square in self._squares]
        self._settings = [self._settings[slot] for slot in slots.tolist()]

    @torch.no_grad()
    def step(self, step: int) -> None:
        """Clip the gradients of each slot and update its weights."""
        parameters = self._parameters()
        gradients = [
            torch.zeros_like(p) if p.grad is None else p.grad for p in parameters
        ]
        self._clip(gradients)
        first, second = BETAS
        torch._foreach_lerp_(self._means, gradients, 1 - first)
        torch._foreach_mul_(self._squares, second)
        torch._foreach_addcmul_(self._squares, gradients, gradients, 1 - second)
        roots = torch._foreach_sqrt(self._squares)
        torch._foreach_div_(roots, math.sqrt(1 - second ** (step + 1)))
        torch._foreach_add_(roots, EPSILON)
        updates = torch._foreach_div(self._means, roots)
        device = parameters[0].device
        rates = {
            is_head: torch.tensor(self._rates(step, is_head), device=device)
            for is_head in set(self._is_head)
        }
        decay = torch.tensor([s.weight_decay for s in self._settings], device=device)
        for parameter, update, is_head in zip(
            parameters, updates, self._is_head, strict=True
        ):
            ones = [1] * (parameter.ndim - 1)
            rate = rates[is_head]
            if parameter.ndim - 1 >= 2:  # as in `Optimiser`: vectors do not decay
                parameter.mul_((1 - rate * decay).view(-1, *ones))
            correction = 1 - first ** (step + 1)
            parameter.sub_(update * (rate / correction).view(-1, *ones))

    def _rates(self, step: int, is_head: bool) -> list[float]:
        return [
            ((s.head_learning_rate if is_head else None) or s.learning_rate)
            * SCHEDULES[s.schedule](step, s.steps, s.warmup_fraction)
            for s in self._settings
        ]

    def _clip(self, gradients: Sequence[Tensor]) -> None:
        """Shorten the gradient of each slot to its greatest length, in place."""
        squares = torch.stack(
            [g.reshape(len(g), -1).square().sum(dim=1) for g in gradients]
        )
        most = torch.tensor([s.max_grad_norm for s in self._settings])
        lengths = squares.sum(dim=0).sqrt()
        scale = (most.to(lengths) / (lengths + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale.view(-1, *[1] * (gradient.ndim - 1)))

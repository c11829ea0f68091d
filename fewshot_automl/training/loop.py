"""The training loop: the same for every method, every device and any number of them."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from fewshot_automl.errors import OutOfTime, ShapeError, TrialError
from fewshot_automl.training.gradients import Gradients, Loss, Rows
from fewshot_automl.training.optimiser import Optimiser
from fewshot_automl.training.placement import Placement, Team, join, own_randomness
from fewshot_automl.training.settings import TrainingLog, TrainingSettings

__all__ = ["Loss", "Rows", "TrainingLog", "TrainingSettings", "train"]

_FORECAST_AFTER: Final = 5


def train(
    module: nn.Module,
    rows: Rows,
    labels: Tensor,
    loss: Loss,
    sampler: Iterator[np.ndarray],
    settings: TrainingSettings,
    placement: Placement,
    *,
    deadline: float | None = None,
    on_step: Callable[[int, float], None] | None = None,
    validate: Callable[[], float] | None = None,
) -> TrainingLog:
    """Train what requires a gradient in a module, in place.

    The module is left on the placement's device, in eval mode. The same seed, rows
    and sampler give the same weights; torch's global random state is left as found.
    With several processes, all call this with the same arguments and end with the
    same weights.

    Args:
        module: Takes a batch of `rows` and returns one row of logits or embeddings
            an example.
        rows: The examples.
        labels: Class index of each, as `loss` wants it.
        loss: See `losses`; it is given whole batches.
        sampler: Endless positions in `rows`, see `batches`.
        settings: How long and how hard.
        placement: Where, and with whom.
        deadline: On the clock of `time.monotonic`.
        on_step: Told the number of each finished step, from 1, and its loss.
        validate: Called with the module in eval mode every `validate_every` steps
            and after the last; greater is better. The weights that scored best, the
            latest among equals, are the ones kept.

    Raises:
        OutOfTime: If the deadline passes, or the steps left clearly cannot be made
            before it; the module keeps half-trained weights.
        TrialError: If the loss is no number, or memory runs out.
    """
    if len(rows) != labels.shape[0]:
        raise ShapeError(
            f"Labels must be one a row, {len(rows)} in all, got {labels.shape[0]}."
        )
    start = time.monotonic()
    team = join(placement)
    module.to(team.device)
    optimiser = Optimiser(module, settings)
    team.align([*optimiser.parameters, *module.buffers()])
    gradients = Gradients(
        module=module,
        rows=rows,
        labels=labels.to(team.device),
        loss=loss,
        team=team,
        seed=settings.seed,
    )
    clock = _Clock(deadline, settings.useful_steps, team)
    best = None if validate is None else _Best(module, validate, team)
    losses: list[float] = []
    try:
        module.train()
        with own_randomness(team.device):
            for step in range(settings.useful_steps):
                clock.check(step)
                value = gradients.compute(next(sampler), step, optimiser.clear)
                if not math.isfinite(value):
                    raise TrialError(
                        f"loss became {'NaN' if math.isnan(value) else value} at step "
                        f"{step + 1} of {settings.steps}. Use a lower learning rate."
                    )
                team.sum_gradients(optimiser.parameters)
                optimiser.step(step)
                losses.append(value)
                if on_step is not None:
                    on_step(step + 1, value)
                is_last = step + 1 == settings.useful_steps or settings.has_converged(
                    losses
                )
                if best is not None and (is_last or _is_due(step + 1, settings)):
                    best.consider(step + 1)
                if is_last:
                    break
        if best is not None:
            best.restore()
        team.align(module.buffers())
    finally:
        optimiser.clear()
        module.eval()
    return TrainingLog(
        losses=tuple(losses),
        seconds=time.monotonic() - start,
        best_step=None if best is None else best.step,
        best_score=None if best is None else best.score,
        parts=gradients.parts,
    )


class _Clock:
    """Ends a run whose deadline has passed, or clearly will before its last step."""

    def __init__(self, deadline: float | None, steps: int, team: Team) -> None:
        self._deadline = deadline
        self._steps = steps
        self._team = team
        self._warm_since = 0.0

    def check(self, done: int) -> None:
        """Raise `OutOfTime` where going on is of no use.

        The first step warms caches up and tells nothing about the others; a run is
        given up early only if its rest needs twice the time that is left.
        """
        if self._deadline is None:
            return
        now = time.monotonic()
        if done == 1:
            self._warm_since = now
        left = self._deadline - now
        needs = 0.0
        if done >= _FORECAST_AFTER:
            needs = (now - self._warm_since) / (done - 1) * (self._steps - done)
        if self._team.any(left <= 0):
            raise OutOfTime(
                f"The deadline passed after {done} of {self._steps} training steps."
            )
        if self._team.any(needs > 2 * left):
            raise OutOfTime(
                f"Given up after {done} of {self._steps} training steps: the rest "
                f"needs {needs:.1f} s and {left:.1f} s are left."
            )


def _is_due(done: int, settings: TrainingSettings) -> bool:
    return settings.validate_every > 0 and done % settings.validate_every == 0


class _Best:
    """Remembers the weights that validated best."""

    def __init__(
        self, module: nn.Module, validate: Callable[[], float], team: Team
    ) -> None:
        self.step: int | None = None
        self.score: float | None = None
        self._module = module
        self._validate = validate
        self._team = team
        self._kept: list[Tensor] = []

    def consider(self, step: int) -> None:
        """Score the weights as they are and keep them if none were better."""
        self._module.eval()
        score = self._team.first(float(self._validate()))
        self._module.train()
        if math.isfinite(score) and (self.score is None or score >= self.score):
            self.step, self.score = step, score
            self._kept = [tensor.detach().clone() for tensor in self._changing()]

    def restore(self) -> None:
        """Put the kept weights back."""
        if self._kept:
            with torch.no_grad():
                for tensor, kept in zip(self._changing(), self._kept, strict=True):
                    tensor.copy_(kept)

    def _changing(self) -> list[Tensor]:
        trained = [p for p in self._module.parameters() if p.requires_grad]
        return [*trained, *self._module.buffers()]

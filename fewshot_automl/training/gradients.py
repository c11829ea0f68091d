"""One batch forwards and backwards, in as many parts as memory asks for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from fewshot_automl.errors import ShapeError, TrialError
from fewshot_automl.training.placement import Team, is_out_of_memory, seed_device

Loss = Callable[[Tensor, Tensor], Tensor]
"""Takes the outputs and labels of a whole batch and returns a scalar."""

MAX_PARTS: Final = 4
"""A batch is halved at most twice before the trial is given up."""

Made = TypeVar("Made")


@runtime_checkable
class Rows(Protocol):
    """Gives the training examples, as inputs or as stored activations."""

    def __len__(self) -> int:
        """Return the number of examples."""
        ...

    def batch(self, indices: np.ndarray, step: int) -> dict[str, Tensor]:
        """Return some examples, collated; `step` may choose their augmented view.

        The same indices and step must give the same batch: it is asked for again
        when a batch has to be cut into parts.
        """
        ...


def saved_bytes(module: nn.Module, batch: dict[str, Tensor]) -> int:
    """Return the bytes that a forward pass keeps for its backward pass.

    Weights are not counted, and what is kept twice counts once.
    """
    weights = {p.untyped_storage().data_ptr() for p in module.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        outputs = module(batch)
    del outputs  # only now, so that no two tensors had one address
    return sum(kept.values())


@dataclass(slots=True, kw_only=True)
class Gradients:
    """Fills in the gradients of a loss over a batch.

    The loss always sees the whole batch, whatever process or part an output came
    from. So contrastive and weighted losses mean the same on one small device as on
    four large ones. When a batch does not fit, its parts are run once to get their
    outputs and once more, each alone, to get the gradients.

    Source:
        Gao et al., RepL4NLP 2021 (arXiv:2101.06983), for gradients in parts.
    """

    module: nn.Module
    rows: Rows
    labels: Tensor
    loss: Loss
    team: Team
    seed: int
    parts: int = field(default=1, init=False)

    def compute(self, batch: np.ndarray, step: int, clear: Callable[[], None]) -> float:
        """Set the gradients and return the loss.

        Args:
            batch: Positions of the examples, the same in every process.
            step: Number of the step; decides views and dropout.
            clear: Forgets the gradients; called before each attempt.

        Raises:
            TrialError: If not even a quarter of the batch fits in memory.
        """
        own = self.team.share(batch)
        while True:
            clear()
            value = self._attempt(batch, own, step)
            if value is not None:
                return value
            if self.parts * 2 > min(MAX_PARTS, own.size):
                raise TrialError(
                    f"Out of memory at step {step + 1}: a batch of {batch.size} does "
                    f"not fit on {self.team.device}, not even in {self.parts} parts. "
                    "Use a smaller batch_size."
                )
            self.parts *= 2
            if self.team.device.type == "cuda":
                torch.cuda.empty_cache()

    def _attempt(self, batch: np.ndarray, own: np.ndarray, step: int) -> float | None:
        places = torch.from_numpy(batch).to(self.labels.device)
        labels = self.labels[places].to(self.team.device)
        pieces = np.array_split(own, self.parts)
        outputs = self._together(lambda: self._outputs(pieces, step))
        if outputs is None:
            return None
        everyone = self.team.gather(outputs, batch.size)
        value = self._together(lambda: self._backward(everyone, labels))
        if value is None:
            return None
        if self.parts > 1 and np.isfinite(value):
            assert outputs.grad is not None
            wanted = torch.split(outputs.grad, [piece.size for piece in pieces])
            if self._together(lambda: self._again(pieces, wanted, step)) is None:
                return None
        return value

    def _outputs(self, pieces: Sequence[np.ndarray], step: int) -> Tensor:
        if len(pieces) == 1:
            return self._forward(pieces[0], step, 0)
        with torch.no_grad():
            made = [self._forward(piece, step, i) for i, piece in enumerate(pieces)]
        return torch.cat(made).requires_grad_()

    def _backward(self, outputs: Tensor, labels: Tensor) -> float:
        value = self.loss(outputs, labels)
        if value.ndim != 0:
            raise ShapeError(f"The loss must be a scalar, got {tuple(value.shape)}.")
        number = float(value.detach())
        if np.isfinite(number):
            value.backward()  # type: ignore[no-untyped-call]
        return number

    def _again(
        self, pieces: Sequence[np.ndarray], wanted: Sequence[Tensor], step: int
    ) -> bool:
        for i, (piece, gradient) in enumerate(zip(pieces, wanted, strict=True)):
            self._forward(piece, step, i).backward(gradient)  # type: ignore[no-untyped-call]
        return True

    def _forward(self, piece: np.ndarray, step: int, part: int) -> Tensor:
        # Dropout depends on the step and not on what was drawn before, so a part
        # that is run twice drops the same units.
        seed_device(self.team.device, self.seed, step, self.team.rank, part)
        inputs = {
            name: values.to(self.team.device, non_blocking=True)
            for name, values in self.rows.batch(piece, step).items()
        }
        with self.team.autocast():
            outputs: Tensor = self.module(inputs)
        if outputs.shape[0] != piece.size:
            raise ShapeError(
                f"The module must return {piece.size} rows, got {outputs.shape[0]}."
            )
        return outputs.float()

    def _together(self, make: Callable[[], Made]) -> Made | None:
        """Return what `make` returns, or `None` if memory ran out in any process."""
        made: Made | None = None
        try:
            made = make()
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
        return None if self.team.any(made is None) else made

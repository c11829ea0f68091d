"""The one interface behind which every pretrained encoder stands."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from fewshot_automl.backbones.card import Card
from fewshot_automl.modalities import Input

Tensors = dict[str, Tensor]
"""Named tensors: of one example (a row), or of many with a leading batch axis."""
MASK: Final = "mask"
"""Name of the tensor that says which positions of a padded batch are real."""


@runtime_checkable
class Backbone(Protocol):
    """Turns examples into vectors, whole or cut in two at any block.

    The flow is ``preprocess -> collate -> stem(cut) -> tail(cut)``; for every `cut`
    from 0 to `depth`, ``tail(stem(batch, cut), cut)`` equals ``features(batch)``.
    What comes out of `stem` can be split into rows, stored, and collated again: a
    batch of activations is padded exactly as a batch of inputs is.

    A backbone starts in eval mode with every parameter frozen
    (``requires_grad=False``); whoever adapts it forks it first.
    """

    card: Card
    """Facts about the weights."""
    module: nn.Module
    """The weights. Adapters are put into it; names in `lora_targets` are its own."""
    recipe: str
    """Everything that shapes `preprocess`, in one stable line."""
    weights_sha256: str
    """Hash of the weight file that was opened."""

    @property
    def depth(self) -> int:
        """Return the number of blocks."""
        ...

    @property
    def width(self) -> int:
        """Return the length of a feature vector."""
        ...

    def preprocess(self, inputs: Sequence[Input], view: int = 0) -> list[Tensors]:
        """Turn raw examples into rows the encoder takes.

        Args:
            inputs: Raw examples of the card's modality.
            view: 0 is the plain view. Images have a seeded family of lightly
                augmented views 1, 2, ...: the same content and view always give
                the same row. Texts have only view 0.

        Raises:
            DataError: If an example is not of the card's modality or unreadable.
        """
        ...

    def collate(self, rows: Sequence[Tensors]) -> Tensors:
        """Stack rows (inputs or activations), padding to the longest among them."""
        ...

    def split(self, batch: Tensors) -> list[Tensors]:
        """Undo `collate`: rows without their padding."""
        ...

    def stem(self, batch: Tensors, cut: int) -> Tensors:
        """Run everything before block `cut`; `cut == depth` runs all blocks."""
        ...

    def tail(self, activations: Tensors, cut: int) -> Float[Tensor, "batch width"]:
        """Run block `cut` and everything after it, and pool."""
        ...

    def features(self, batch: Tensors) -> Float[Tensor, "batch width"]:
        """Run the whole encoder and pool."""
        ...

    def tail_parameters(self, cut: int) -> Iterator[nn.Parameter]:
        """Yield the parameters that `tail(.., cut)` uses and `stem` does not.

        `cut == 0` leaves the embedding (text) or patch stem (image) out; to train
        everything, use ``module.parameters()`` and `features`.
        """
        ...

    def lora_targets(self, cut: int) -> tuple[str, ...]:
        """Return full names in `module` of the layers LoRA adapts, from `cut` on."""
        ...

    def fork(self, cut: int) -> "Backbone":
        """Return a twin that owns what `tail(.., cut)` uses and shares the rest.

        Buffers after the cut (batch-norm statistics) are owned too. ``fork(0)``
        still shares embeddings; ``fork(-1)`` owns everything.
        """
        ...

    def to(self, device: str) -> "Backbone":
        """Move the weights to a device, in place, and return the backbone."""
        ...

    def save(self, folder: Path) -> None:
        """Write all that `load_saved` needs: safetensors and JSON, no pickle."""
        ...

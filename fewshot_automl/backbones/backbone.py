"""The one interface behind which every pretrained encoder stands."""

import copy
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fewshot_automl.backbones.card import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, Card
from fewshot_automl.backbones.readers import MASK, Reader, Tensors
from fewshot_automl.errors import TrialError, UserError
from fewshot_automl.modalities import Input

__all__ = ["MASK", "Anatomy", "Backbone", "Tensors"]

HIDDEN = "hidden"
"""Name of the hidden states among activations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """The pieces of a network as names in its module, and the functions to run them.

    Functions take the module, so that one anatomy serves all forks. Names under no
    field are what runs after the last block.
    """

    width: int
    """Length of a feature vector."""
    before: tuple[str, ...]
    """Modules and parameters that run before the first block."""
    blocks: tuple[tuple[str, ...], ...]
    """Each block's modules, in the order they run; a first block of a stage has the
    downsampling before it."""
    shared: tuple[str, ...] = ()
    """What every block uses, such as relative position embeddings."""
    leftover: tuple[str, ...] = ()
    """Prefixes of tensors in weight files that belong to parts we leave out, where
    the network has a module of that name."""
    config: Mapping[str, Any] | None = None
    """The configuration that came with the weights, to be saved with them."""
    pad_id: int = 0
    """What token ids are padded with."""
    begin: Callable[[nn.Module, Tensors], Tensor]
    """From inputs to what the first block takes."""
    context: Callable[[nn.Module, Tensor, Tensor | None], Any]
    """From hidden states and mask to what all blocks take besides them."""
    step: Callable[[nn.Module, Tensor, Any, int], Tensor]
    """Run one block: module, hidden states, context, number of the block."""
    finish: Callable[[nn.Module, Tensor, Tensor | None], Tensor]
    """From the last block's output and mask to feature vectors."""
    fit: Callable[[nn.Module, dict[str, Tensor]], dict[str, Tensor]] | None = None
    """Make tensors of a weight file those of the module, as the library does it."""

    @property
    def depth(self) -> int:
        """Return the number of blocks."""
        return len(self.blocks)

    def run(
        self, module: nn.Module, hidden: Tensor, mask: Tensor | None, blocks: range
    ) -> Tensor:
        """Run some blocks."""
        if blocks:
            context = self.context(module, hidden, mask)
            for block in blocks:
                hidden = self.step(module, hidden, context, block)
        return hidden

    def is_in_tail(self, name: str, cut: int) -> bool:
        """Return whether ``tail(.., cut)`` uses a name and ``stem(.., cut)`` does not.

        A cut of -1 means that there is no stem.
        """
        if cut < 0:
            return True
        stem = (*self.before, *(path for block in self.blocks[:cut] for path in block))
        if cut > 0:
            stem = (*stem, *self.shared)
        return not any(name == path or name.startswith(f"{path}.") for path in stem)

    def modules_named(
        self, module: nn.Module, suffixes: tuple[str, ...], cut: int
    ) -> tuple[str, ...]:
        """Return names of tail layers that end in one of some dotted suffixes."""
        return tuple(
            name
            for name, _ in module.named_modules()
            if any(f".{name}".endswith(f".{suffix}") for suffix in suffixes)
            and self.is_in_tail(name, cut)
        )


@dataclass(kw_only=True, slots=True, repr=False, eq=False)
class Backbone:
    """Turns examples into vectors, whole or cut in two at any block.

    The flow is ``preprocess -> collate -> stem(cut) -> tail(cut)``; for every `cut`
    from 0 to `depth`, ``tail(stem(batch, cut), cut)`` equals ``features(batch)``.
    What comes out of `stem` can be split into rows, stored, and collated again: a
    batch of activations is padded exactly as a batch of inputs is.

    A backbone starts in eval mode with every parameter frozen
    (``requires_grad=False``); whoever adapts it forks it first. A family of networks
    gives a module and its `Anatomy`, a modality a `Reader`.
    """

    card: Card
    """Facts about the weights."""
    module: nn.Module
    """The weights. Adapters are put into it; names in `lora_targets` are its own."""
    recipe: str
    """Everything that shapes features besides the weights, in one stable line."""
    weights_sha256: str
    """Hash of the weight file that was opened."""
    anatomy: Anatomy
    reader: Reader
    checkpoints: bool = False
    """Whether blocks run again for gradients, rather than keep what they made."""
    in_file: Mapping[str, Tensor] = field(default_factory=dict)
    """Weights that found no room on the device, mapped from their file."""

    @property
    def depth(self) -> int:
        """Return the number of blocks."""
        return self.anatomy.depth

    @property
    def width(self) -> int:
        """Return the length of a feature vector."""
        return self.anatomy.width

    def preprocess(self, inputs: Sequence[Input], view: int = 0) -> list[Tensors]:
        """Turn raw examples into rows the encoder takes.

        View 0 is the plain view. Images have a seeded family of lightly augmented
        views 1, 2, ...: the same content and view always give the same row.
        """
        return self.reader.read(inputs, view)

    def collate(self, rows: Sequence[Tensors]) -> Tensors:
        """Stack rows (inputs or activations), padding to the longest among them."""
        return self.reader.collate(rows)

    def split(self, batch: Tensors) -> list[Tensors]:
        """Undo `collate`: rows without their padding, each owning its memory."""
        return self.reader.split(batch)

    def stem(self, batch: Tensors, cut: int) -> Tensors:
        """Run everything before block `cut`; `cut == depth` runs all blocks."""
        self._check(cut)
        batch = self._here(batch)
        hidden = self.anatomy.begin(self.module, batch)
        mask = {MASK: batch[MASK]} if MASK in batch else {}
        hidden = self.anatomy.run(self.module, hidden, batch.get(MASK), range(cut))
        return {HIDDEN: hidden, **mask}

    def tail(self, activations: Tensors, cut: int) -> Float[Tensor, "batch width"]:
        """Run block `cut` and everything after it, and pool."""
        self._check(cut)
        activations = self._here(activations)
        mask = activations.get(MASK)
        blocks, hidden = range(cut, self.depth), activations[HIDDEN]
        if self.checkpoints and torch.is_grad_enabled():
            for block in blocks:
                one = self.module, hidden, mask, range(block, block + 1)
                hidden = checkpoint(self.anatomy.run, *one, use_reentrant=False)
        else:
            hidden = self.anatomy.run(self.module, hidden, mask, blocks)
        return self.anatomy.finish(self.module, hidden, mask)

    def features(self, batch: Tensors) -> Float[Tensor, "batch width"]:
        """Run the whole encoder and pool."""
        return self.tail(self.stem(batch, 0), 0)

    def tail_parameters(self, cut: int) -> Iterator[nn.Parameter]:
        """Yield the parameters that `tail(.., cut)` uses and `stem` does not.

        What every block uses, such as MPNet's relative positions, belongs to the tail
        at cut 0 only. `cut == 0` leaves the embedding (text) or patch stem (image)
        out; to train everything, use ``module.parameters()`` and `features`.
        """
        self._check(cut)
        for name, parameter in self.module.named_parameters():
            if self.anatomy.is_in_tail(name, cut):
                yield parameter

    def lora_targets(self, cut: int) -> tuple[str, ...]:
        """Return full names in `module` of the layers LoRA adapts, from `cut` on."""
        self._check(cut)
        return self.anatomy.modules_named(self.module, self.card.lora_targets, cut)

    def fork(self, cut: int) -> "Backbone":
        """Return a twin that owns what `tail(.., cut)` uses and shares the rest.

        Buffers after the cut (batch-norm statistics) are owned too. ``fork(0)`` still
        shares embeddings; ``fork(-1)`` owns everything.

        Raises:
            TrialError: If only parts of it are on the device.
        """
        if self.in_file:
            raise TrialError(
                f"Backbone {self.card.id!r} does not fit on the device as a whole, so "
                "it cannot be trained. Use a smaller one, or the methods probe and "
                "prototype."
            )
        if cut != -1:
            self._check(cut)
        # deepcopy takes what it finds in the memo instead of copying it.
        memo: dict[int, object] = {}
        for tensors in (self.module.named_parameters(), self.module.named_buffers()):
            for name, tensor in tensors:
                if not self.anatomy.is_in_tail(name, cut):
                    memo[id(tensor)] = tensor
        return dataclasses.replace(self, module=copy.deepcopy(self.module, memo))

    def save(self, folder: Path) -> None:
        """Write all that `load.load_saved` needs: safetensors and JSON, no pickle."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {**self.module.state_dict(), **self.in_file}
        part = folder / f"{WEIGHTS_FILE}.part"
        save_file(
            {name: tensor.cpu().contiguous() for name, tensor in state.items()}, part
        )
        part.replace(folder / WEIGHTS_FILE)  # ours may be mapped from the file there
        (folder / CARD_FILE).write_text(self.card.to_json(), encoding="utf-8")
        if self.anatomy.config is not None:
            config = json.dumps(dict(self.anatomy.config), indent=2)
            (folder / CONFIG_FILE).write_text(config, encoding="utf-8")
        self.reader.save(folder)

    def _here(self, batch: Tensors) -> Tensors:
        """Bring a batch to the weights; stored activations may be in half precision."""
        weight = next(self.module.parameters())
        return {
            name: tensor.to(weight.device, weight.dtype)
            if tensor.is_floating_point()
            else tensor.to(weight.device)
            for name, tensor in batch.items()
        }

    def _check(self, cut: int) -> None:
        if not 0 <= cut <= self.depth:
            raise UserError(
                f"Cut must be from 0 to {self.depth}, got {cut}. "
                f"Backbone {self.card.id!r} has {self.depth} blocks."
            )

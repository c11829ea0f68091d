"""Where a network can be cut, how to run its pieces, and how to fork it."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from torch import Tensor, nn

Tensors = dict[str, Tensor]
"""Named tensors: of one example (a row), or of many with a leading batch axis."""
MASK: Final = "mask"
"""Name of the tensor that says which positions of a padded batch are real."""


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

        Args:
            name: Of a parameter, buffer or module.
            cut: -1 means that there is no stem.
        """
        if cut < 0:
            return True
        stem = (*self.before, *(path for block in self.blocks[:cut] for path in block))
        if cut > 0:
            stem = (*stem, *self.shared)
        return not any(name == path or name.startswith(f"{path}.") for path in stem)

    def tail_parameters(self, module: nn.Module, cut: int) -> Iterator[nn.Parameter]:
        """Yield the parameters of the tail."""
        for name, parameter in module.named_parameters():
            if self.is_in_tail(name, cut):
                yield parameter

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

    def fork(self, module: nn.Module, cut: int) -> nn.Module:
        """Return a copy that owns the tail and shares tensors of the stem.

        Args:
            module: The network.
            cut: -1 shares nothing.
        """
        # deepcopy takes what it finds in the memo instead of copying it.
        memo: dict[int, object] = {}
        for tensors in (module.named_parameters(), module.named_buffers()):
            for name, tensor in tensors:
                if not self.is_in_tail(name, cut):
                    memo[id(tensor)] = tensor
        return copy.deepcopy(module, memo)

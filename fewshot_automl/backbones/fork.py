"""Twins of a network that share what they do not change."""

import copy

from torch import nn

from fewshot_automl.backbones.anatomy import Anatomy


def twin(module: nn.Module, anatomy: Anatomy, cut: int) -> nn.Module:
    """Return a copy that owns the tail and shares tensors of the stem.

    Args:
        module: The network.
        anatomy: Says what is stem and what is tail.
        cut: -1 shares nothing.
    """
    # deepcopy takes what it finds in the memo instead of copying it.
    memo: dict[int, object] = {}
    for tensors in (module.named_parameters(), module.named_buffers()):
        for name, tensor in tensors:
            if not anatomy.is_in_tail(name, cut):
                memo[id(tensor)] = tensor
    return copy.deepcopy(module, memo)

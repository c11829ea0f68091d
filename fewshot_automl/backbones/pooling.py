"""From one vector a token to one vector a text."""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from fewshot_automl.backbones.card import TextInput


def pool_tokens(
    hidden: Float[Tensor, "batch tokens width"],
    mask: Int[Tensor, "batch tokens"],
    recipe: TextInput,
) -> Float[Tensor, "batch width"]:
    """Return one vector a text, as the card's authors pool.

    Args:
        hidden: The last block's output.
        mask: 1 for real tokens, 0 for padding (on the right).
        recipe: Says which tokens count and whether vectors get length 1.

    >>> hidden = torch.tensor([[[1.0], [3.0], [9.0]]])
    >>> mask = torch.tensor([[1, 1, 0]])
    >>> pool_tokens(hidden, mask, TextInput(max_tokens=3, pooling="mean")).item()
    2.0
    """
    if recipe.pooling == "mean":
        real = mask[..., None].to(hidden.dtype)
        pooled = (hidden * real).sum(1) / real.sum(1)
    elif recipe.pooling == "cls":
        pooled = hidden[:, 0]
    else:
        last = mask.sum(1) - 1
        pooled = hidden[torch.arange(len(hidden), device=hidden.device), last]
    return normalize(pooled, dim=-1) if recipe.normalize else pooled

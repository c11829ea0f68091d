"""Text encoders of transformers, cut into embeddings, blocks and a pooled end.

Each supported ``model_type`` has one row in `KINDS`. Those of `bert` need no
transformers; for the others it is imported inside the rows, which costs seconds.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fewshot_automl.backbones.anatomy import Anatomy
from fewshot_automl.backbones.backbone import Tensors
from fewshot_automl.backbones.bert import bert, mpnet, roberta, xlm_roberta
from fewshot_automl.backbones.card import Card, TextInput
from fewshot_automl.backbones.pooling import pool_tokens
from fewshot_automl.backbones.rows import MASK
from fewshot_automl.errors import CardError, unknown_name

Values = dict[str, Any]
"""A transformers configuration."""

CONFIG_FILE = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How one ``model_type`` is built and run."""

    network: Callable[[Values], nn.Module]
    """From configuration to a network with random weights; its `config` is whole."""
    blocks: str
    """Path of the list of blocks."""
    context: Callable[[nn.Module, Tensor, Tensor], Any]
    """From module, hidden states and mask to what all blocks take."""
    step: Callable[[nn.Module, nn.Module, Tensor, Any, int], Tensor]
    """Run one block: module, block, hidden states, context, number."""
    embed: Callable[[nn.Module, Tensors], Tensor]
    """From token ids to hidden states."""
    shared: tuple[str, ...] = ()
    """What every block uses."""
    final: str | None = None
    """Path of the norm after the last block."""
    stacks: bool = True
    """See `Anatomy.stacks`."""


def _path(module: nn.Module, path: str) -> nn.Module:
    return module.get_submodule(path)


def _embed(module: nn.Module, batch: Tensors) -> Tensor:
    hidden: Tensor = _path(module, "embeddings")(batch["input_ids"])
    return hidden


def _key_mask(module: nn.Module, hidden: Tensor, mask: Tensor) -> Tensor:
    return mask[:, None, None, :].bool()


def _plain_step(
    module: nn.Module, block: nn.Module, hidden: Tensor, context: Any, index: int
) -> Tensor:
    out: Tensor = block(hidden, context)
    return out


def _distilbert(values: Values) -> nn.Module:
    from transformers.models.distilbert.configuration_distilbert import (
        DistilBertConfig,
    )
    from transformers.models.distilbert.modeling_distilbert import DistilBertModel

    module: nn.Module = DistilBertModel(_attending(DistilBertConfig(**values), "sdpa"))
    return module


def _attending(config: Any, implementation: str) -> Any:
    """Choose the attention whose masks we give, by transformers' name of it."""
    config._attn_implementation = implementation
    return config


def _mpnet_context(module: nn.Module, hidden: Tensor, mask: Tensor) -> Tensor:
    # The bias is the same for every text; only the mask has a row for each.
    bias: Tensor = module.encoder.position_bias(hidden.shape[1])  # type: ignore[operator, union-attr]
    hole = torch.finfo(hidden.dtype).min
    return bias.to(hidden.dtype).masked_fill(mask[:, None, None, :] == 0, hole)


def _deberta(values: Values) -> nn.Module:
    from transformers.models.deberta_v2.configuration_deberta_v2 import DebertaV2Config
    from transformers.models.deberta_v2.modeling_deberta_v2 import DebertaV2Model

    module: nn.Module = DebertaV2Model(_attending(DebertaV2Config(**values), "eager"))
    return module


def _deberta_embed(module: nn.Module, batch: Tensors) -> Tensor:
    hidden: Tensor = _path(module, "embeddings")(batch["input_ids"], mask=batch[MASK])
    return hidden


def _deberta_context(
    module: nn.Module, hidden: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    encoder: Any = module.encoder
    return (
        mask,
        encoder.get_attention_mask(mask),
        encoder.get_rel_pos(hidden),
        encoder.get_rel_embedding(),
    )


def _deberta_step(
    module: nn.Module, block: nn.Module, hidden: Tensor, context: Any, index: int
) -> Tensor:
    mask, pairs, positions, embeddings = context
    out: Tensor = block(
        hidden, pairs, relative_pos=positions, rel_embeddings=embeddings
    )[0]
    convolution: Any = module.encoder.conv  # type: ignore[union-attr]
    if index == 0 and convolution is not None:
        out = convolution(hidden, out, mask)
    return out


def _modernbert(values: Values) -> nn.Module:
    from transformers.models.modernbert.configuration_modernbert import (
        ModernBertConfig,
    )
    from transformers.models.modernbert.modeling_modernbert import ModernBertModel

    module: nn.Module = ModernBertModel(_attending(ModernBertConfig(**values), "sdpa"))
    return module


def _modernbert_context(
    module: nn.Module, hidden: Tensor, mask: Tensor
) -> dict[str, tuple[Tensor, tuple[Tensor, Tensor]]]:
    config: Any = module.config
    rotary: Any = module.rotary_emb
    positions = torch.arange(hidden.shape[1], device=hidden.device)
    distance = (positions[:, None] - positions).abs()
    keys = mask[:, None, None, :].bool()
    # Padding far from every real token would have nothing to attend to and turn into
    # NaN, so each position may attend to itself.
    near = (keys & (distance <= config.sliding_window)) | (distance == 0)
    masks = {"full_attention": keys, "sliding_attention": near}
    return {
        name: (masks[name], rotary(hidden, positions[None], name))
        for name in set(config.layer_types)
    }


def _modernbert_step(
    module: nn.Module, block: nn.Module, hidden: Tensor, context: Any, index: int
) -> Tensor:
    mask, positions = context[block.attention_type]
    out: Tensor = block(hidden, attention_mask=mask, position_embeddings=positions)
    return out


def _bert_like(
    network: Callable[[Values], nn.Module], blocks: str = "encoder.layer"
) -> Kind:
    return Kind(
        network=network,
        blocks=blocks,
        context=_key_mask,
        step=_plain_step,
        embed=_embed,
    )


KINDS: Mapping[str, Kind] = {
    "bert": _bert_like(bert),
    "roberta": _bert_like(roberta),
    "xlm-roberta": _bert_like(xlm_roberta),
    "distilbert": _bert_like(_distilbert, "transformer.layer"),
    "mpnet": Kind(
        network=mpnet,
        blocks="encoder.layer",
        context=_mpnet_context,
        step=_plain_step,
        embed=_embed,
        shared=("encoder.relative_attention_bias",),
    ),
    "deberta-v2": Kind(
        network=_deberta,
        blocks="encoder.layer",
        stacks=False,
        context=_deberta_context,
        step=_deberta_step,
        embed=_deberta_embed,
        shared=("encoder.rel_embeddings", "encoder.LayerNorm"),
    ),
    "modernbert": Kind(
        network=_modernbert,
        blocks="layers",
        context=_modernbert_context,
        step=_modernbert_step,
        embed=_embed,
        shared=("rotary_emb",),
        final="final_norm",
    ),
}
"""One row a transformers ``model_type``."""


def build(card: Card, folder: Path | None) -> tuple[nn.Module, Anatomy]:
    """Return a text encoder with random weights, and its anatomy.

    Args:
        card: Its `config` is the transformers configuration.
        folder: Where ``config.json`` lies if the card has no `config`.

    Raises:
        CardError: If the configuration is missing or not of the card's architecture.
        UnknownNameError: If the architecture has no row in `KINDS`.
    """
    if card.architecture not in KINDS:
        raise unknown_name("model_type", card.architecture, KINDS, "fewshot zoo")
    kind = KINDS[card.architecture]
    values = _config_values(card, folder)
    module = kind.network(values)
    config: Any = module.config
    count: int = config.num_hidden_layers
    blocks: list[tuple[str, ...]] = [
        (f"{kind.blocks}.{index}",) for index in range(count)
    ]
    if getattr(getattr(module, "encoder", None), "conv", None) is not None:
        blocks[0] = (*blocks[0], "encoder.conv")
    recipe = card.input
    assert isinstance(recipe, TextInput)

    def step(module: nn.Module, hidden: Tensor, context: Any, index: int) -> Tensor:
        block = _path(module, f"{kind.blocks}.{index}")
        return kind.step(module, block, hidden, context, index)

    def context(module: nn.Module, hidden: Tensor, mask: Tensor | None) -> Any:
        assert mask is not None
        return kind.context(module, hidden, mask)

    def finish(module: nn.Module, hidden: Tensor, mask: Tensor | None) -> Tensor:
        assert mask is not None
        if kind.final is not None:
            hidden = _path(module, kind.final)(hidden)
        return pool_tokens(hidden, mask, recipe)

    return module, Anatomy(
        width=config.hidden_size,
        before=("embeddings",),
        blocks=tuple(blocks),
        shared=kind.shared,
        stacks=kind.stacks,
        leftover=("pooler.", "embeddings.position_ids"),
        config={"model_type": card.architecture, **values},
        pad_id=config.pad_token_id or 0,
        begin=kind.embed,
        context=context,
        step=step,
        finish=finish,
    )


def _config_values(card: Card, folder: Path | None) -> dict[str, Any]:
    values = dict(card.config)
    if not values:
        path = (folder or Path()) / CONFIG_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CardError(
                f"Backbone {card.id!r} must have a configuration, in its card or in "
                f"{path}, got {error}. Fetch the weights again."
            ) from error
        if values.get("model_type") != card.architecture:
            raise CardError(
                f"model_type in {path} must be {card.architecture!r} as the card says, "
                f"got {values.get('model_type')!r}. Correct the card."
            )
    # What says which class or code to load is not for us: the card names a row.
    for name in ("model_type", "architectures", "auto_map", "_name_or_path"):
        values.pop(name, None)
    return values

"""Text encoders of transformers, cut into embeddings, blocks and a pooled end.

Each supported ``model_type`` has one row in `KINDS`. Classes are imported inside the
rows: importing one architecture costs less than a second, all of them much more.
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
from fewshot_automl.backbones.card import Card, TextInput
from fewshot_automl.backbones.pooling import pool_tokens
from fewshot_automl.backbones.rows import MASK
from fewshot_automl.errors import CardError, unknown_name

Classes = tuple[type, Callable[..., nn.Module]]
"""A configuration class and a function from configuration to model."""

CONFIG_FILE = "config.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How one ``model_type`` is built and run."""

    classes: Callable[[], Classes]
    """Import and return its classes."""
    blocks: str
    """Path of the list of blocks."""
    attention: str
    """transformers' name of the attention implementation we give masks for."""
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


def _bert() -> Classes:
    from transformers.models.bert.configuration_bert import BertConfig
    from transformers.models.bert.modeling_bert import BertModel

    return BertConfig, lambda config: BertModel(config, add_pooling_layer=False)


def _roberta() -> Classes:
    from transformers.models.roberta.configuration_roberta import RobertaConfig
    from transformers.models.roberta.modeling_roberta import RobertaModel

    return RobertaConfig, lambda config: RobertaModel(config, add_pooling_layer=False)


def _xlm_roberta() -> Classes:
    from transformers.models.xlm_roberta.configuration_xlm_roberta import (
        XLMRobertaConfig,
    )
    from transformers.models.xlm_roberta.modeling_xlm_roberta import XLMRobertaModel

    return XLMRobertaConfig, lambda config: XLMRobertaModel(
        config, add_pooling_layer=False
    )


def _distilbert() -> Classes:
    from transformers.models.distilbert.configuration_distilbert import (
        DistilBertConfig,
    )
    from transformers.models.distilbert.modeling_distilbert import DistilBertModel

    return DistilBertConfig, DistilBertModel


def _mpnet() -> Classes:
    from transformers.models.mpnet.configuration_mpnet import MPNetConfig
    from transformers.models.mpnet.modeling_mpnet import MPNetModel

    return MPNetConfig, lambda config: MPNetModel(config, add_pooling_layer=False)


def _mpnet_context(
    module: nn.Module, hidden: Tensor, mask: Tensor
) -> tuple[Tensor, Tensor]:
    # The bias is the same for every text, so one is enough; it broadcasts.
    bias: Tensor = module.encoder.compute_position_bias(hidden[:1])  # type: ignore[operator, union-attr]
    hole = (1 - mask[:, None, None, :].to(hidden.dtype)) * torch.finfo(hidden.dtype).min
    return hole, bias


def _mpnet_step(
    module: nn.Module, block: nn.Module, hidden: Tensor, context: Any, index: int
) -> Tensor:
    hole, bias = context
    out: Tensor = block(hidden, hole, bias)[0]
    return out


def _deberta() -> Classes:
    from transformers.models.deberta_v2.configuration_deberta_v2 import DebertaV2Config
    from transformers.models.deberta_v2.modeling_deberta_v2 import DebertaV2Model

    return DebertaV2Config, DebertaV2Model


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


def _modernbert() -> Classes:
    from transformers.models.modernbert.configuration_modernbert import (
        ModernBertConfig,
    )
    from transformers.models.modernbert.modeling_modernbert import ModernBertModel

    return ModernBertConfig, ModernBertModel


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


def _bert_like(classes: Callable[[], Classes], blocks: str = "encoder.layer") -> Kind:
    return Kind(
        classes=classes,
        blocks=blocks,
        attention="sdpa",
        context=_key_mask,
        step=_plain_step,
        embed=_embed,
    )


KINDS: Mapping[str, Kind] = {
    "bert": _bert_like(_bert),
    "roberta": _bert_like(_roberta),
    "xlm-roberta": _bert_like(_xlm_roberta),
    "distilbert": _bert_like(_distilbert, "transformer.layer"),
    "mpnet": Kind(
        classes=_mpnet,
        blocks="encoder.layer",
        attention="eager",
        context=_mpnet_context,
        step=_mpnet_step,
        embed=_embed,
        shared=("encoder.relative_attention_bias",),
    ),
    "deberta-v2": Kind(
        classes=_deberta,
        blocks="encoder.layer",
        attention="eager",
        context=_deberta_context,
        step=_deberta_step,
        embed=_deberta_embed,
        shared=("encoder.rel_embeddings", "encoder.LayerNorm"),
    ),
    "modernbert": Kind(
        classes=_modernbert,
        blocks="layers",
        attention="sdpa",
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
    config_class, model = kind.classes()
    config: Any = config_class(**values)
    config._attn_implementation = kind.attention
    module = model(config)
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

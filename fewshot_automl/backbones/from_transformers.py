"""Text encoders of transformers, cut into embeddings, blocks and a pooled end."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoModel

from fewshot_automl.backbones.backbone import MASK, Anatomy, Tensors
from fewshot_automl.backbones.card import CONFIG_FILE, Card, TextInput
from fewshot_automl.errors import CardError, unknown_name


def _embed(module: Any, batch: Tensors) -> Tensor:
    hidden: Tensor = module.embeddings(batch["input_ids"])
    return hidden


def _key_mask(module: Any, hidden: Tensor, mask: Tensor) -> tuple[Tensor]:
    return (mask[:, None, None, :].bool(),)


def _step(module: Any, block: Any, hidden: Tensor, context: Any, index: int) -> Tensor:
    out: Tensor | tuple[Tensor, ...] = block(hidden, *context)
    return out[0] if isinstance(out, tuple) else out


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """How one ``model_type`` is run in pieces."""

    blocks: str = "encoder.layer"
    """Path of the list of blocks."""
    embed: Callable[[Any, Tensors], Tensor] = _embed
    """From token ids to hidden states."""
    context: Callable[[Any, Tensor, Tensor], Any] = _key_mask
    """From module, hidden states and mask to what all blocks take."""
    step: Callable[[Any, Any, Tensor, Any, int], Tensor] = _step
    """Run one block: module, block, hidden states, context, number."""
    shared: tuple[str, ...] = ()
    """What every block uses."""
    final: str | None = None
    """Path of the norm after the last block."""
    attention: str = "sdpa"
    """transformers' name of the attention whose masks `context` gives."""


def _mpnet_context(module: Any, hidden: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    holes = (mask[:, None, None, :] == 0) * torch.finfo(hidden.dtype).min
    return holes, module.encoder.compute_position_bias(hidden[:1])


def _deberta_embed(module: Any, batch: Tensors) -> Tensor:
    hidden: Tensor = module.embeddings(batch["input_ids"], mask=batch[MASK])
    return hidden


def _deberta_context(module: Any, hidden: Tensor, mask: Tensor) -> dict[str, Any]:
    encoder = module.encoder
    return {
        "mask": mask,
        "attention_mask": encoder.get_attention_mask(mask),
        "relative_pos": encoder.get_rel_pos(hidden),
        "rel_embeddings": encoder.get_rel_embedding(),
    }


def _deberta_step(
    module: Any, block: Any, hidden: Tensor, context: Any, index: int
) -> Tensor:
    given = {name: value for name, value in context.items() if name != "mask"}
    out: Tensor = block(hidden, **given)[0]
    if index == 0 and module.encoder.conv is not None:
        out = module.encoder.conv(hidden, out, context["mask"])
    return out


def _modernbert_context(
    module: Any, hidden: Tensor, mask: Tensor
) -> dict[str, dict[str, Any]]:
    positions = torch.arange(hidden.shape[1], device=hidden.device)
    distance = (positions[:, None] - positions).abs()
    keys = mask[:, None, None, :].bool()
    # Padding far from every real token would have nothing to attend to and turn into
    # NaN, so each position may attend to itself.
    near = (keys & (distance <= module.config.sliding_window)) | (distance == 0)
    masks = {"full_attention": keys, "sliding_attention": near}
    return {
        name: {
            "attention_mask": masks[name],
            "position_embeddings": module.rotary_emb(hidden, positions[None], name),
        }
        for name in set(module.config.layer_types)
    }


def _modernbert_step(
    module: Any, block: Any, hidden: Tensor, context: Any, index: int
) -> Tensor:
    out: Tensor = block(hidden, **context[block.attention_type])
    return out


KINDS: Mapping[str, Kind] = {
    "bert": Kind(),
    "roberta": Kind(),
    "xlm-roberta": Kind(),
    "distilbert": Kind(blocks="transformer.layer"),
    "mpnet": Kind(
        context=_mpnet_context,
        shared=("encoder.relative_attention_bias",),
        attention="eager",
    ),
    "deberta-v2": Kind(
        context=_deberta_context,
        step=_deberta_step,
        embed=_deberta_embed,
        shared=("encoder.rel_embeddings", "encoder.LayerNorm"),
        attention="eager",
    ),
    "modernbert": Kind(
        blocks="layers",
        context=_modernbert_context,
        step=_modernbert_step,
        shared=("rotary_emb",),
        final="final_norm",
    ),
}
"""One row a transformers ``model_type``."""


def build(card: Card, folder: Path | None) -> tuple[nn.Module, Anatomy]:
    """Return a text encoder with random weights, and its anatomy.

    Its configuration is the card's, or the ``config.json`` in the folder.
    """
    if card.architecture not in KINDS:
        raise unknown_name("model_type", card.architecture, KINDS, "fewshot zoo")
    kind = KINDS[card.architecture]
    values = _config_values(card, folder)
    config = AutoConfig.for_model(card.architecture, **values)
    module: Any = AutoModel.from_config(config, attn_implementation=kind.attention)
    if getattr(module, "pooler", None) is not None:
        module.pooler = None  # made for a task of pretraining; nobody runs it
    paths = [f"{kind.blocks}.{index}" for index in range(config.num_hidden_layers)]
    blocks: list[tuple[str, ...]] = [(path,) for path in paths]
    if getattr(getattr(module, "encoder", None), "conv", None) is not None:
        blocks[0] = (*blocks[0], "encoder.conv")
    recipe = card.input
    assert isinstance(recipe, TextInput)

    def step(module: nn.Module, hidden: Tensor, context: Any, index: int) -> Tensor:
        block = module.get_submodule(paths[index])
        return kind.step(module, block, hidden, context, index)

    def context(module: nn.Module, hidden: Tensor, mask: Tensor | None) -> Any:
        assert mask is not None
        return kind.context(module, hidden, mask)

    def finish(module: nn.Module, hidden: Tensor, mask: Tensor | None) -> Tensor:
        assert mask is not None
        if kind.final is not None:
            hidden = module.get_submodule(kind.final)(hidden)
        return pool_tokens(hidden, mask, recipe)

    return module, Anatomy(
        width=config.hidden_size,
        before=("embeddings",),
        blocks=tuple(blocks),
        shared=kind.shared,
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


def pool_tokens(hidden: Tensor, mask: Tensor, recipe: TextInput) -> Tensor:
    """Return one vector a text, [batch, width], as the card's authors pool."""
    if recipe.pooling == "mean":
        real = mask[..., None].to(hidden.dtype)
        pooled = (hidden * real).sum(1) / real.sum(1)
    elif recipe.pooling == "cls":
        pooled = hidden[:, 0]
    else:
        last = mask.sum(1) - 1
        pooled = hidden[torch.arange(len(hidden), device=hidden.device), last]
    return normalize(pooled, dim=-1) if recipe.normalize else pooled

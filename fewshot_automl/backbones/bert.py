"""BERT and what differs from it in a line or two: RoBERTa, XLM-R and MPNet.

Written out here because these are most text encoders, our defaults among them, and
importing transformers for one of them costs more than the first trials of a study.
Tensors have the names that transformers gives them, so its files fill these networks
and the files we write open there; a test holds each equal to transformers' own.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewshot_automl.errors import CardError

Activation = Callable[[Tensor], Tensor]

ACTIVATIONS: Final[Mapping[str, Activation]] = {
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}
"""By transformers' names."""
FARTHEST: Final = 128
"""Distance in tokens from which MPNet's position biases are the same."""
MPNET_PAD: Final = 1
"""MPNet counts positions from here, whatever its configuration says of padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BertConfig:
    """Holds what of a transformers configuration shapes the network.

    Names and defaults are transformers'.
    """

    vocab_size: int = 30_522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3_072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    relative_attention_num_buckets: int = 32
    position_embedding_type: str = "absolute"
    is_decoder: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> "BertConfig":
        """Return what a transformers configuration says, the rest left at defaults.

        Raises:
            CardError: If it asks for a network that is not here.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        config = cls(**{name: v for name, v in values.items() if name in known})
        for name, allowed in (
            ("hidden_act", tuple(ACTIVATIONS)),
            ("position_embedding_type", ("absolute",)),
            ("is_decoder", (False,)),
        ):
            if (got := getattr(config, name)) not in allowed:
                raise CardError(
                    f"{name} of a BERT-like backbone must be one of "
                    f"{', '.join(map(str, allowed))}, got {got!r}. "
                    "Use another backbone."
                )
        if config.hidden_size % config.num_attention_heads:
            raise CardError(
                f"hidden_size must be a multiple of num_attention_heads "
                f"{config.num_attention_heads}, got {config.hidden_size}. "
                "Correct the configuration."
            )
        return config


def bert(values: Mapping[str, Any]) -> nn.Module:
    """Return BERT without its pooler, positions counted from 0."""
    config = BertConfig.of(values)
    embeddings = Embeddings(config, padding=config.pad_token_id, is_offset=False)
    return Network(config, embeddings, Encoder(config, BertAttention))


def roberta(values: Mapping[str, Any]) -> nn.Module:
    """Return RoBERTa, which counts positions from the padding id."""
    config = BertConfig.of({"pad_token_id": 1, "vocab_size": 50_265, **values})
    embeddings = Embeddings(config, padding=config.pad_token_id, is_offset=True)
    return Network(config, embeddings, Encoder(config, BertAttention))


def xlm_roberta(values: Mapping[str, Any]) -> nn.Module:
    """Return XLM-R: RoBERTa with another default."""
    return roberta({"vocab_size": 30_522, **values})


def mpnet(values: Mapping[str, Any]) -> nn.Module:
    """Return MPNet, whose blocks share a bias on the distance of two tokens.

    Source:
        Song et al., MPNet, NeurIPS 2020.
    """
    config = BertConfig.of(
        {"pad_token_id": MPNET_PAD, "vocab_size": 30_527, **values}
        | {"type_vocab_size": 0}
    )
    embeddings = Embeddings(config, padding=MPNET_PAD, is_offset=True)
    return Network(config, embeddings, MPNetEncoder(config, MPNetAttention))


class Network(nn.Module):
    """Holds embeddings and encoder; `Anatomy` says how they are run."""

    def __init__(
        self, config: BertConfig, embeddings: "Embeddings", encoder: "Encoder"
    ) -> None:
        super().__init__()
        self.config = config
        self.embeddings = embeddings
        self.encoder = encoder


class Embeddings(nn.Module):
    """Adds what a token is, where it stands and, in BERT, its segment, always 0."""

    def __init__(
        self, config: BertConfig, *, padding: int | None, is_offset: bool
    ) -> None:
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width, padding)
        self.position_embeddings = nn.Embedding(
            config.max_position_embeddings, width, padding if is_offset else None
        )
        if config.type_vocab_size:
            self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self._has_segments = config.type_vocab_size > 0
        self._is_offset = is_offset

    def forward(self, ids: Tensor) -> Tensor:
        """Embed token ids of shape [batch, tokens]."""
        out = self.word_embeddings(ids)
        if self._has_segments:
            out = out + self.token_type_embeddings(torch.zeros_like(ids))
        out = out + self.position_embeddings(self._positions(ids))
        embedded: Tensor = self.dropout(self.LayerNorm(out))
        return embedded

    def _positions(self, ids: Tensor) -> Tensor:
        if not self._is_offset:
            return torch.arange(ids.shape[1], device=ids.device)[None]
        padding = self.word_embeddings.padding_idx or 0
        is_token = ids.ne(padding).long()
        return is_token.cumsum(1) * is_token + padding


class Encoder(nn.Module):
    """Holds the blocks."""

    def __init__(
        self, config: BertConfig, attention: Callable[[BertConfig], nn.Module]
    ) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            Block(config, attention(config)) for _ in range(config.num_hidden_layers)
        )


class MPNetEncoder(Encoder):
    """Holds the blocks and the position bias they share."""

    def __init__(
        self, config: BertConfig, attention: Callable[[BertConfig], nn.Module]
    ) -> None:
        super().__init__(config, attention)
        self.relative_attention_bias = nn.Embedding(
            config.relative_attention_num_buckets, config.num_attention_heads
        )

    def position_bias(self, tokens: int) -> Tensor:
        """Return what is added to attention scores, as [1, heads, tokens, tokens]."""
        weight = self.relative_attention_bias.weight
        steps = torch.arange(tokens, device=weight.device)
        # transformers counts with 32, however long the table is.
        bias: Tensor = self.relative_attention_bias(buckets(steps - steps[:, None], 32))
        return bias.permute(2, 0, 1)[None]


def buckets(offsets: Tensor, count: int) -> Tensor:
    """Return the bucket of each offset: exact when near, logarithmic when far.

    Half of them are for the tokens that follow.

    Source:
        Raffel et al., T5, JMLR 2020, sec. 2.1.
    """
    half = count // 2
    exact = half // 2
    distance = offsets.abs()
    far = torch.log(distance.float() / exact) / math.log(FARTHEST / exact)
    far = exact + (far * (half - exact)).long()
    near = torch.where(distance < exact, distance, far.clamp(max=half - 1))
    return near + (offsets > 0).long() * half


class Block(nn.Module):
    """Attends, then maps each token by itself."""

    def __init__(self, config: BertConfig, attention: nn.Module) -> None:
        super().__init__()
        self.attention = attention
        self.intermediate = Intermediate(config)
        self.output = Output(config.intermediate_size, config)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Run the block.

        Args:
            hidden: Of shape [batch, tokens, width].
            mask: Of what may be attended to: booleans, or what is added to scores.
        """
        attended = self.attention(hidden, mask)
        out: Tensor = self.output(self.intermediate(attended), attended)
        return out


class Intermediate(nn.Module):
    """Widens and bends."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)
        self._activation = ACTIVATIONS[config.hidden_act]

    def forward(self, hidden: Tensor) -> Tensor:
        """Map each token."""
        return self._activation(self.dense(hidden))


class Output(nn.Module):
    """Brings back to the width of the network and adds what came in."""

    def __init__(self, width: int, config: BertConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, before: Tensor) -> Tensor:
        """Map each token and add it to what it was."""
        out: Tensor = self.LayerNorm(self.dropout(self.dense(hidden)) + before)
        return out


class BertAttention(nn.Module):
    """Attends, with BERT's names."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.self = BertSelfAttention(config)
        self.output = Output(config.hidden_size, config)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Mix the tokens."""
        out: Tensor = self.output(self.self(hidden, mask), hidden)
        return out


class BertSelfAttention(nn.Module):
    """Mixes tokens by how well their queries and keys agree."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self._heads = config.num_attention_heads

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Mix the tokens."""
        return _attend(
            self.query(hidden),
            self.key(hidden),
            self.value(hidden),
            mask,
            heads=self._heads,
            dropout=self.dropout.p if self.training else 0.0,
        )


class MPNetAttention(nn.Module):
    """Attends, with MPNet's names."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        self.attn = MPNetSelfAttention(config)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Mix the tokens."""
        out: Tensor = self.LayerNorm(self.dropout(self.attn(hidden, mask)) + hidden)
        return out


class MPNetSelfAttention(nn.Module):
    """Mixes tokens as BERT does; the output map is part of it."""

    def __init__(self, config: BertConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.q = nn.Linear(width, width)
        self.k = nn.Linear(width, width)
        self.v = nn.Linear(width, width)
        self.o = nn.Linear(width, width)
        self.dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self._heads = config.num_attention_heads

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Mix the tokens."""
        mixed = _attend(
            self.q(hidden),
            self.k(hidden),
            self.v(hidden),
            mask,
            heads=self._heads,
            dropout=self.dropout.p if self.training else 0.0,
        )
        out: Tensor = self.o(mixed)
        return out


def _attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor,
    *,
    heads: int,
    dropout: float,
) -> Tensor:
    query, key, value = (
        each.reshape(*each.shape[:-1], heads, -1).transpose(1, 2)
        for each in (query, key, value)
    )
    mixed = F.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, dropout_p=dropout
    )
    return mixed.transpose(1, 2).flatten(2)

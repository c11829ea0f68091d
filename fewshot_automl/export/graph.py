"""A whole model as one module of torch: tensors in, logits and probabilities out.

Adapters are merged. Members of an ensemble stand side by side, on one frozen backbone
where they share it.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from fewshot_automl.adaptation.baselines import TERMS, TermHead
from fewshot_automl.adaptation.encodings import BLOCKS, LAST, pooled_features
from fewshot_automl.adaptation.fitted import Adapted
from fewshot_automl.adaptation.lora import merged
from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.adaptation.saved import Ensemble
from fewshot_automl.backbones.backbone import MASK, Backbone
from fewshot_automl.backbones.card import TOKENIZER_FILE, ImageInput
from fewshot_automl.errors import ExportError
from fewshot_automl.export.heads import HeadLayer
from fewshot_automl.tasks.calibration import LEAST

if TYPE_CHECKING:
    from fewshot_automl.predictor import Predictor

Kind = Literal["text", "windows", "image", "terms"]
Axes = dict[int, str]
FLOOR: Final = math.log(LEAST)
TERMS_FILE: Final = "terms.json"
OUTPUTS: Final = ("logits", "probabilities")
"""Names of what a graph gives. Logits are logarithms of probabilities without the floor
that calibration puts under these: of examples that a model has learnt they still tell
how far an export is off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """How examples become some inputs of a graph; members that read alike share it."""

    kind: Kind
    """A text's tokens; those of all windows of a text; pixels; TF-IDF weights."""
    inputs: tuple[str, ...]
    """Names of the graph's inputs."""
    recipe: Mapping[str, Any]
    """What `predict.py` is told besides."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Contents of files that it reads, by name."""

    def to_json(self) -> dict[str, Any]:
        """Return the feed as it stands in the manifest."""
        return {"kind": self.kind, "inputs": list(self.inputs), **self.recipe}

    def numbered(self, place: int) -> "Feed":
        """Return the feed with names of its own."""
        recipe = dict(self.recipe)
        if "file" in recipe:
            recipe["file"] = f"{place}-{recipe['file']}"
        files = {f"{place}-{name}": text for name, text in self.files.items()}
        inputs = tuple(f"{name}_{place}" for name in self.inputs)
        return Feed(kind=self.kind, inputs=inputs, recipe=recipe, files=files)

    def example(self, batch: int, length: int) -> tuple[Tensor, ...]:
        """Return inputs of the right shape, of so many examples and tokens."""
        if self.kind == "image":
            return (torch.zeros(batch, 3, self.recipe["size"], self.recipe["size"]),)
        if self.kind == "terms":
            return (torch.zeros(batch, self.recipe["width"]),)
        rows = batch + 1 if self.kind == "windows" else batch
        ids = torch.zeros(rows, length, dtype=torch.long)
        share = [torch.ones(batch, rows)] if self.kind == "windows" else []
        return ids, torch.ones_like(ids), *share

    @property
    def axes(self) -> tuple[Axes, ...]:
        """Return the names of the axes whose length varies, by input."""
        if self.kind in ("image", "terms"):
            return ({0: "batch"},)
        end = self.inputs[0].removeprefix("input_ids")
        if self.kind == "text":
            return ({0: "batch", 1: f"length{end}"},) * 2
        rows = {0: f"windows{end}", 1: f"length{end}"}
        return rows, rows, {0: "batch", 1: f"windows{end}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a member of a graph reads, and its say."""

    trunk: int | None
    """Place of its backbone; None if the head reads the feed itself."""
    feed: int
    blocks: tuple[str, ...]
    temperature: float | None
    weight: float


class Graph(nn.Module):
    """Answers as a predictor does, from what its feeds make of examples."""

    def __init__(self, predictor: "Predictor") -> None:
        super().__init__()
        self.feeds: list[Feed] = []
        self.parts: list[Part] = []
        self.backbones: list[Backbone] = []
        self.heads = nn.ModuleList()
        self._places: dict[int, int] = {}
        self.fitted = fitted = predictor.fitted
        if isinstance(fitted, Ensemble):
            total = sum(one.weight for one in fitted.members)
            for one in fitted.members:
                self._add(one.fitted, one.calibration, one.weight / total)
        else:
            self._add(fitted, {}, 1.0)
        self.feeds = [x.numbered(at) if at else x for at, x in enumerate(self.feeds)]
        self.temperature = predictor.calibration.get("temperature")
        self.trunks = nn.ModuleList(each.module for each in self.backbones)
        self.eval().requires_grad_(False)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Return the names of all inputs, in the order of `forward`."""
        return tuple(name for feed in self.feeds for name in feed.inputs)

    @property
    def axes(self) -> tuple[Axes, ...]:
        """Return the names of the axes whose length varies, by input."""
        return tuple(axes for feed in self.feeds for axes in feed.axes)

    def example(self, batch: int = 2, length: int = 7) -> tuple[Tensor, ...]:
        """Return inputs to trace with: two rows or more where a batch may vary."""
        return tuple(x for feed in self.feeds for x in feed.example(batch, length))

    def forward(self, *tensors: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits and probabilities, each [batch, classes]."""
        given = dict(zip(self.input_names, tensors, strict=True))
        mine = [[given[name] for name in feed.inputs] for feed in self.feeds]
        pooled: dict[tuple[int, int], dict[str, Tensor]] = {}
        logs, floored = [], []
        for part, head in zip(self.parts, self.heads, strict=True):
            rows = mine[part.feed][0]
            if part.trunk is not None:
                at = part.trunk, part.feed
                if at not in pooled:
                    pooled[at] = self._pooled(*at, mine[part.feed])
                vectors = [pooled[at][name] for name in part.blocks]
                if len(vectors) > 1:
                    vectors = [normalize(x, dim=1, eps=1e-12) for x in vectors]
                rows = torch.cat(vectors, dim=1)
            made = head(rows)
            say = math.log(part.weight)
            logs.append(say + _at_temperature(made, part.temperature))
            made = made if part.temperature is None else made.clamp(min=FLOOR)
            floored.append(say + _at_temperature(made, part.temperature))
        raw, known = _together(logs), _together(floored)
        if self.temperature is not None:
            known = known.clamp(min=FLOOR)
        logits = _at_temperature(raw, self.temperature)
        return logits, _at_temperature(known, self.temperature).exp()

    def _pooled(
        self, trunk: int, feed: int, tensors: list[Tensor]
    ) -> dict[str, Tensor]:
        kind = self.feeds[feed].kind
        names = ("pixels",) if kind == "image" else ("input_ids", MASK)
        batch = dict(zip(names, tensors, strict=False))  # shares are for afterwards
        found = pooled_features(self.backbones[trunk], batch)
        if kind == "windows":  # the mean over the windows of each text
            found = {name: tensors[2] @ rows for name, rows in found.items()}
        return found

    def _add(
        self, fitted: Fitted, calibration: Mapping[str, float], weight: float
    ) -> None:
        trunk: int | None = None
        blocks: tuple[str, ...] = (LAST,)
        if isinstance(fitted, Adapted):
            trunk, blocks = self._trunk(fitted.backbone), BLOCKS[fitted.blocks]
            feed = _feed_of(fitted.backbone, is_whole=fitted.is_whole)
        elif isinstance(fitted, TermHead):
            feed = _feed_of_terms(fitted)
        else:
            raise ExportError(
                "A model must read its examples to be exported, got one that gives "
                "always the same answer. Label more examples, or search on."
            )
        if feed not in self.feeds:
            self.feeds.append(feed)
        self.heads.append(HeadLayer(fitted.head))
        self.parts.append(
            Part(
                trunk=trunk,
                feed=self.feeds.index(feed),
                blocks=blocks,
                temperature=calibration.get("temperature"),
                weight=weight,
            )
        )

    def _trunk(self, backbone: Backbone) -> int:
        """Return the place of a backbone, which members may share."""
        if id(backbone) not in self._places:
            self._places[id(backbone)] = len(self.backbones)
            twin = merged(backbone)
            twin.module.cpu().to(memory_format=torch.contiguous_format)
            self.backbones.append(twin)
        return self._places[id(backbone)]


def _feed_of(backbone: Backbone, *, is_whole: bool) -> Feed:
    given = backbone.card.input
    if isinstance(given, ImageInput):
        recipe = asdict(given)
        del recipe["pooling"]
        return Feed(kind="image", inputs=("pixels",), recipe=recipe)
    with TemporaryDirectory() as home:
        backbone.reader.save(Path(home))
        text = (Path(home) / TOKENIZER_FILE).read_text("utf-8")
    return Feed(
        kind="windows" if is_whole else "text",
        inputs=("input_ids", "mask", "share") if is_whole else ("input_ids", "mask"),
        recipe={
            "file": TOKENIZER_FILE,
            "max_tokens": given.max_tokens,
            "prefix": given.prefix,
            "pad_id": backbone.anatomy.pad_id,
        },
        files={TOKENIZER_FILE: text},
    )


def _feed_of_terms(fitted: TermHead) -> Feed:
    tables = [
        {
            "analyzer": options["analyzer"],
            "lengths": list(options["ngram_range"]),
            "terms": each.get_feature_names_out().tolist(),
            "weights": each.idf_.tolist(),
        }
        for options, each in zip(TERMS, fitted.terms, strict=True)
    ]
    width = sum(len(table["terms"]) for table in tables)
    return Feed(
        kind="terms",
        inputs=("terms",),
        recipe={"file": TERMS_FILE, "width": width},
        files={TERMS_FILE: json.dumps(tables, ensure_ascii=False)},
    )


def _at_temperature(logs: Tensor, temperature: float | None) -> Tensor:
    return logs if temperature is None else torch.log_softmax(logs / temperature, 1)


def _together(logs: list[Tensor]) -> Tensor:
    """Return the logarithm of a sum, of which only the logarithms are there."""
    return logs[0] if len(logs) == 1 else torch.logsumexp(torch.stack(logs), 0)

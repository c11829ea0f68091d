"""Folders that transformers, peft, sentence-transformers and timm open by themselves.

Their classes for sequences and timm's own classifiers cannot hold our heads: between
features and logits they have a layer of tanh on the first token, or no step to length
1. So there are an encoder, which their own calls open, and beside it the head.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_tensors
from tokenizers import Tokenizer

from fewshot_automl.adaptation.fitted import Adapted
from fewshot_automl.adaptation.heads import LinearHead
from fewshot_automl.adaptation.lora import save_adapter
from fewshot_automl.backbones.card import TOKENIZER_FILE, ImageInput, TextInput
from fewshot_automl.errors import ExportError
from fewshot_automl.export.graph import Graph


def write_huggingface(graph: Graph, folder: Path) -> None:
    """Write an encoder of transformers, LoRA layers as peft's, and the head.

    Without LoRA layers sentence-transformers opens it too; it then encodes to logits.
    """
    fitted, head = _alone(graph, "transformers")
    recipe = fitted.backbone.card.input
    assert isinstance(recipe, TextInput)
    encoder: Any = (fitted.base or fitted.backbone).module
    encoder.save_pretrained(folder)
    pad_id = fitted.backbone.anatomy.pad_id
    tokenizer = Tokenizer.from_str(graph.feeds[0].files[TOKENIZER_FILE])
    _json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": recipe.max_tokens,
            "pad_token": tokenizer.id_to_token(pad_id),
            "model_input_names": ["input_ids", "attention_mask"],
        },
    )
    is_unit = head.scaling.unit or recipe.normalize
    _write_head(graph, head, folder, is_unit, recipe.pooling)
    if fitted.base is not None:
        save_adapter(fitted.backbone.module, folder / "adapter")
        return
    width, classes = fitted.backbone.width, head.weight.shape[1]
    parts = ["Transformer", "Pooling", *(["Normalize"] if is_unit else [])]
    parts.append("Dense")
    places = ["", *(f"{at}_{part}" for at, part in enumerate(parts) if at)]
    kinds = [f"sentence_transformers.models.{part}" for part in parts]
    modules = [
        {"idx": at, "name": str(at), "path": place, "type": kind}
        for at, (place, kind) in enumerate(zip(places, kinds, strict=True))
    ]
    _json(folder / "modules.json", modules)
    modes = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}
    pooling = {f"pooling_mode_{x}": recipe.pooling == mode for mode, x in modes.items()}
    pooling_file = folder / places[1] / "config.json"
    _json(pooling_file, {"word_embedding_dimension": width, **pooling})
    dense: dict[str, Any] = {
        "in_features": width,
        "out_features": classes,
        "bias": True,
    }
    dense["activation_function"] = "torch.nn.modules.linear.Identity"
    _json(folder / places[-1] / "config.json", dense)
    weight, bias = _folded(head)
    arrays = {"linear.weight": np.ascontiguousarray(weight.T), "linear.bias": bias}
    save_file(arrays, folder / places[-1] / "model.safetensors")


def write_timm(graph: Graph, folder: Path) -> None:
    """Write an encoder that timm opens as ``local-dir:``, and the head."""
    fitted, head = _alone(graph, "timm")
    backbone = graph.backbones[0]
    card, recipe = backbone.card, fitted.backbone.card.input
    assert isinstance(recipe, ImageInput)
    if odd := {"last_stride", "head_norm"} & card.config.keys():
        raise ExportError(
            f"A network must be one of timm's own to be written for it, got "
            f"{card.id}, which is changed ({', '.join(odd)}). Export it to onnx."
        )
    save_tensors(
        {n: x.contiguous() for n, x in backbone.module.state_dict().items()},
        folder / "model.safetensors",
    )
    _json(
        folder / "config.json",
        {
            "architecture": card.architecture,
            "num_classes": 0,
            "num_features": card.width,
            "model_args": {**card.config, "num_classes": 0},
            "pretrained_cfg": {
                "input_size": [3, recipe.size, recipe.size],
                "interpolation": recipe.interpolation,
                "crop_pct": recipe.crop_fraction,
                "mean": list(recipe.mean),
                "std": list(recipe.std),
                "num_classes": 0,
            },
        },
    )
    _write_head(graph, head, folder, head.scaling.unit)


def _alone(graph: Graph, family: str) -> tuple[Adapted, LinearHead]:
    """Return the one model of a graph.

    Raises:
        ExportError: If it is no linear head on the features of one such network.
    """
    fitted = graph.fitted
    feeds = [feed.kind for feed in graph.feeds]
    if (
        not isinstance(fitted, Adapted)
        or type(fitted.head) is not LinearHead
        or fitted.blocks != "last"
        or feeds not in (["text"], ["image"])
        or fitted.backbone.card.family != family
    ):
        raise ExportError(
            f"A model must be a linear head on the last features of one network of "
            f"{family} to be written as its own, got something else (several models, "
            "inner blocks, windows, or another head or network). Export it to onnx, or "
            "fit with --members 1 --narrow blocks=last --narrow head=logistic,lda."
        )
    return fitted, fitted.head


def _folded(head: LinearHead) -> tuple[np.ndarray, np.ndarray]:
    """Return weight and bias on features as they are, or of length 1 if so scaled."""
    weight = head.weight / head.scaling.scale[:, None]
    bias = head.bias - head.scaling.center.astype(np.float64) @ weight
    return weight.astype(np.float32), bias.astype(np.float32)


def _write_head(
    graph: Graph, head: LinearHead, folder: Path, is_unit: bool, pooling: str = ""
) -> None:
    weight, bias = _folded(head)
    save_file({"weight": weight, "bias": bias}, folder / "head.safetensors")
    facts = {"pooling": pooling, "is_unit": is_unit, "temperature": graph.temperature}
    _json(folder / "head.json", facts)


def _json(path: Path, values: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n", "utf-8")

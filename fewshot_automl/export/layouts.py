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
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": recipe.max_tokens,
        "pad_token": tokenizer.id_to_token(pad_id),
        "model_input_names": ["input_ids", "attention_mask"],
    }
    _json(folder / "tokenizer_config.json", about)
    is_unit = head.scaling.unit or recipe.normalize
    weight, bias = _write_head(graph, head, folder, is_unit, recipe.pooling)
    if fitted.base is not None:
        save_adapter(fitted.backbone.module, folder / "adapter")
        return
    parts = ["Transformer", "Pooling", *["Normalize"] * is_unit, "Dense"]
    modules = [
        {"idx": at, "name": str(at), "path": f"{at}_{part}" if at else ""}
        | {"type": f"sentence_transformers.models.{part}"}
        for at, part in enumerate(parts)
    ]
    _json(folder / "modules.json", modules)
    mode = {"mean": "mean_tokens", "cls": "cls_token", "last": "lasttoken"}
    width, classes = weight.shape
    pooling = {"word_embedding_dimension": width, "pooling_mode_mean_tokens": False}
    pooling[f"pooling_mode_{mode[recipe.pooling]}"] = True
    _json(folder / "1_Pooling" / "config.json", pooling)
    dense = {"in_features": width, "out_features": classes, "bias": True}
    dense["activation_function"] = "torch.nn.modules.linear.Identity"
    home = folder / str(modules[-1]["path"])
    _json(home / "config.json", dense)
    tensors = {"linear.weight": np.ascontiguousarray(weight.T), "linear.bias": bias}
    save_file(tensors, home / "model.safetensors")


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
    reading = {
        "input_size": [3, recipe.size, recipe.size],
        "interpolation": recipe.interpolation,
        "crop_pct": recipe.crop_fraction,
        "mean": recipe.mean,
        "std": recipe.std,
        "num_classes": 0,
    }
    about = {
        "architecture": card.architecture,
        "num_classes": 0,
        "num_features": card.width,
        "model_args": {**card.config, "num_classes": 0},
        "pretrained_cfg": reading,
    }
    _json(folder / "config.json", about)
    _write_head(graph, head, folder, head.scaling.unit)


def _alone(graph: Graph, family: str) -> tuple[Adapted, LinearHead]:
    """Return the one model of a graph.

    Raises:
        ExportError: If it is no linear head on the features of one such network.
    """
    fitted = graph.fitted
    feeds = [feed.kind for feed in graph.feeds]
    if ("image" in feeds) != (family == "timm"):
        kind, other = ("images", "texts") if family == "timm" else ("texts", "images")
        raise ExportError(
            f"A model must read {kind} to be written for {family}, got one of {other}. "
            "Export it to onnx."
        )
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


def _write_head(
    graph: Graph, head: LinearHead, folder: Path, is_unit: bool, pooling: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """Write and return weight and bias, for features as they are or of length 1."""
    scaled = head.weight / head.scaling.scale[:, None]
    bias = head.bias - head.scaling.center.astype(np.float64) @ scaled
    tensors = {"weight": scaled.astype(np.float32), "bias": bias.astype(np.float32)}
    save_file(tensors, folder / "head.safetensors")
    about = {"pooling": pooling, "is_unit": is_unit, "temperature": graph.temperature}
    _json(folder / "head.json", about)
    return tensors["weight"], tensors["bias"]


def _json(path: Path, values: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(values, indent=2) + "\n", "utf-8")

"""Tensors out of checkpoint files; nothing in a file can run code."""

import collections
import io
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fewshot_automl.backbones.card import Format, KeyMap
from fewshot_automl.errors import CardError


def _load_storage(content: bytes) -> object:
    return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")


_TENSOR_GLOBALS: Mapping[tuple[str, str], Callable[..., object]] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch.storage", "_load_from_bytes"): _load_storage,
}


class TensorsOnly(pickle.Unpickler):
    """Unpickles a state dict saved with plain pickle, and nothing but tensors."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a global that rebuilds tensors; refuse others without a look-up."""
        if (module, name) not in _TENSOR_GLOBALS:
            raise pickle.UnpicklingError(f"global {module}.{name} is not a tensor's")
        return _TENSOR_GLOBALS[module, name]


def _pth(path: Path) -> object:
    return torch.load(
        path, weights_only=True, map_location="cpu", mmap=zipfile.is_zipfile(path)
    )


def _pickle(path: Path) -> object:
    with path.open("rb") as file:
        return TensorsOnly(file).load()


_READERS: Mapping[Format, Callable[[Path], object]] = {
    "safetensors": load_file,
    "pth": _pth,
    "pickle": _pickle,
}


def read_tensors(path: Path, format: Format = "safetensors") -> dict[str, Tensor]:
    """Return the named tensors of a checkpoint, in the order they were saved.

    A ``model`` table inside is looked into.

    Raises:
        CardError: If it cannot be read without running code, or holds no tensors.
    """
    try:
        values = _READERS[format](path)
    except (
        pickle.UnpicklingError,
        SafetensorError,
        RuntimeError,
        EOFError,
        OSError,
    ) as error:
        # torch goes on to advise what would let the file run code.
        reason = (str(error).strip() or repr(error)).splitlines()[0].partition(". ")[0]
        raise CardError(
            f"{path} must be a readable {format} file of plain tensors, got: {reason}. "
            "Fetch it again, whole; if this comes back, do not use it."
        ) from error
    if isinstance(values, dict) and isinstance(values.get("model"), dict):
        values = values["model"]
    if not isinstance(values, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor)
        for key, value in values.items()
    ):
        raise CardError(
            f"{path.name} must be a table of named tensors, got "
            f"{type(values).__name__}. Do not use this file."
        )
    return values


def convert(
    path: Path, format: Format, key_map: KeyMap, network: nn.Module, target: Path
) -> None:
    """Write a checkpoint's tensors as safetensors under the names of a network.

    A key map of ``same`` keeps names. ``in-order`` goes by position, for checkpoints
    whose layers were made in the network's order; a classifier at the end is left
    out. ``mobile-sam`` takes the image encoder out of MobileSAM.
    """
    tensors = read_tensors(path, format)
    if key_map == "in-order":
        tensors = _in_order(tensors, network, path)
    elif key_map == "mobile-sam":
        names = {name: _mobile_sam(name) for name in tensors}
        tensors = {new: tensors[old] for old, new in names.items() if new is not None}
    # clone: safetensors refuses tensors that share memory
    save_file(
        {name: each.detach().clone().contiguous() for name, each in tensors.items()},
        target,
        metadata={"format": "pt"},
    )


def _in_order(
    tensors: dict[str, Tensor], network: nn.Module, path: Path
) -> dict[str, Tensor]:
    wanted = network.state_dict()
    given = dict(zip(wanted, tensors.values(), strict=False))
    is_short = not 0 <= len(tensors) - len(wanted) <= 2  # a classifier's two
    if is_short or any(given[name].shape != wanted[name].shape for name in given):
        raise CardError(
            f"{path.name} must hold the network's {len(wanted)} tensors in order, and "
            f"at most a classifier's two, got {len(tensors)} or other shapes. "
            "Correct key_map in the card."
        )
    return given


def _mobile_sam(key: str) -> str | None:
    """Return timm's name for a tensor of MobileSAM's TinyViT.

    The classifier and its norm were never trained after distillation; the neck and
    everything outside the encoder serve segmentation.
    """
    encoder, dropped = "image_encoder.", ("neck.", "head.", "norm_head.")
    rest = key.removeprefix(encoder)
    if rest == key or rest.startswith(dropped) or rest.endswith("attention_bias_idxs"):
        return None
    rest = rest.replace("patch_embed.seq.0.", "patch_embed.conv1.")
    rest = rest.replace("patch_embed.seq.2.", "patch_embed.conv2.")
    if match := re.fullmatch(r"layers\.(\d)\.(.+)", rest):
        # timm keeps a downsampling at the head of the next stage
        stage = int(match[1]) + match[2].startswith("downsample.")
        rest = f"stages.{stage}.{match[2]}"
    return re.sub(r"\.c\.(weight|bias)$", r".conv.\1", rest)

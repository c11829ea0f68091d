"""Tensors out of checkpoint files; nothing in a file can run code."""

import collections
import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewshot_automl.backbones.hashing import disk_full
from fewshot_automl.backbones.key_maps import rename
from fewshot_automl.backbones.onnx_tensors import onnx_tensors
from fewshot_automl.backbones.sources import Format
from fewshot_automl.errors import CardError


def _load_storage(content: bytes) -> object:
    return torch.load(io.BytesIO(content), weights_only=True, map_location="cpu")


_TENSOR_GLOBALS: Mapping[tuple[str, str], Callable[..., object]] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch.storage", "_load_from_bytes"): _load_storage,
}


class TensorsOnly(pickle.Unpickler):
    """Unpickles a state dict saved with plain pickle, and nothing but tensors.

    The closed list of globals holds tensor rebuilding only; any other global is
    refused before it is looked up.
    """

    def find_class(self, module: str, name: str) -> Any:
        """Return an allowed global.

        Raises:
            UnpicklingError: If it is not on the closed list.
        """
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


def _onnx(path: Path) -> object:
    named = onnx_tensors(path.read_bytes())
    return {name: torch.from_numpy(array.copy()) for name, array in named.items()}


def _safetensors(path: Path) -> object:
    return load_file(path)


_READERS: Mapping[Format, Callable[[Path], object]] = {
    "safetensors": _safetensors,
    "pth": _pth,
    "pickle": _pickle,
    "onnx": _onnx,
}


def read_tensors(path: Path, format: Format) -> dict[str, Tensor]:
    """Return the named tensors of a checkpoint.

    Args:
        path: A file whose sha256 was checked.
        format: How it is read; a ``model`` table inside a ``pth`` is looked into.

    Raises:
        CardError: If it cannot be read without running code, or holds no tensors.
    """
    try:
        values = _READERS[format](path)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, EOFError) as error:
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise CardError(
            f"{path.name} must be a {format} file of plain tensors, got: {reason} "
            "Do not use this file."
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


def convert(path: Path, format: Format, key_map: str, target: Path) -> None:
    """Write a checkpoint's tensors as safetensors under their new names.

    Args:
        path: A file whose sha256 was checked.
        format: How it is read.
        key_map: A row of `KEY_MAPS`.
        target: The safetensors file to write.

    Raises:
        CardError: If the file holds something else, the names do not fit, or the
            disk is full.
    """
    tensors = read_tensors(path, format)
    renamed = rename(list(tensors), key_map)
    # clone: safetensors refuses tensors that share memory, and mmap must not outlive
    # the file
    kept = {new: tensors[old].detach().clone() for old, new in renamed.items()}
    whole = {name: tensor.contiguous() for name, tensor in kept.items()}
    try:
        save_file(whole, target, metadata={"format": "pt"})
    except SafetensorError as error:
        if "No space" in str(error) or "quota" in str(error):
            raise disk_full(target.parent) from error
        raise

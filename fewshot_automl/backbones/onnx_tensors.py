"""The float tensors of an ONNX file, read without the onnx package.

ONNX is protobuf. Only the wire format and the seven field numbers below are needed to
take out the initializers and see which of them each MatMul multiplies with; see
docs/decisions for why this is not a dependency.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from fewshot_automl.errors import CardError

_MODEL_GRAPH = 7
_GRAPH_NODE, _GRAPH_INITIALIZER = 1, 5
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP = 1, 2, 4
_TENSOR_DIMS, _TENSOR_TYPE, _TENSOR_NAME, _TENSOR_RAW = 1, 2, 8, 9
_FLOAT = 1

Field = tuple[int, Any]
"""A field's number, and its whole number or its bytes."""


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a varint longer than 10 bytes")


def _fields(data: memoryview) -> Iterator[Field]:
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if wire == 2:
            length, at = _varint(data, at)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:
            raise ValueError(f"wire type {wire}")
        if at + length > len(data):
            raise ValueError("the file ends in the middle of a field")
        yield number, data[at : at + length]
        at += length


def _dims(value: Any) -> Iterator[int]:
    if isinstance(value, int):
        yield value
        return
    at = 0
    while at < len(value):
        size, at = _varint(value, at)
        yield size


def _tensor(data: memoryview) -> tuple[str, np.ndarray | None]:
    shape: list[int] = []
    name, kind, raw = "", 0, memoryview(b"")
    for number, value in _fields(data):
        if number == _TENSOR_DIMS:
            shape.extend(_dims(value))
        elif number == _TENSOR_TYPE:
            kind = value
        elif number == _TENSOR_NAME:
            name = str(value, "utf-8")
        elif number == _TENSOR_RAW:
            raw = value
    if kind != _FLOAT or not raw:
        return name, None
    return name, np.frombuffer(raw, "<f4").reshape(shape)


def _node(data: memoryview) -> tuple[str, list[str], list[str]]:
    op, inputs, outputs = "", [], []
    for number, value in _fields(data):
        if number == _NODE_INPUT:
            inputs.append(str(value, "utf-8"))
        elif number == _NODE_OUTPUT:
            outputs.append(str(value, "utf-8"))
        elif number == _NODE_OP:
            op = str(value, "utf-8")
    return op, inputs, outputs


def _read(content: bytes) -> dict[str, np.ndarray]:
    graph = next(v for n, v in _fields(memoryview(content)) if n == _MODEL_GRAPH)
    tensors: dict[str, np.ndarray] = {}
    partner: dict[str, str] = {}
    products: list[tuple[str, str]] = []
    for number, value in _fields(graph):
        if number == _GRAPH_INITIALIZER:
            name, tensor = _tensor(value)
            if tensor is not None:
                tensors[name] = tensor
        elif number == _GRAPH_NODE:
            op, inputs, outputs = _node(value)
            if op == "Add" and len(inputs) == 2:
                partner[inputs[0]], partner[inputs[1]] = inputs[1], inputs[0]
            elif op == "MatMul" and len(inputs) == 2:
                products.append((inputs[1], outputs[0]))
    named = {
        key: tensor
        for key, tensor in tensors.items()
        if key.endswith((".weight", ".bias"))
    }
    for matrix, output in products:
        bias = partner.get(output, "")
        if matrix in tensors and bias.endswith(".bias"):
            named[bias.removesuffix("bias") + "weight"] = tensors[matrix].T
    return named


def onnx_tensors(content: bytes) -> dict[str, np.ndarray]:
    """Return the weights of a PyTorch model's fp32 ONNX export by their own names.

    The export folds each Linear's matrix into a nameless MatMul operand; the Add that
    follows names the Linear by its bias. Biases that are never added, and tensors of
    other types, are left out.

    Raises:
        CardError: If the bytes are no ONNX file.
    """
    try:
        return _read(content)
    except (ValueError, IndexError, StopIteration, AttributeError, TypeError) as error:
        raise CardError(
            f"An ONNX file must be protobuf with float tensors, got {error!r}. "
            "Fetch it again."
        ) from error

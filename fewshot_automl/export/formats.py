"""The formats of export, one row each."""

import contextlib
import io
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Final

import torch
from torch.export import Dim, ExportedProgram

from fewshot_automl.errors import ExportError, UserError, unknown_name
from fewshot_automl.export.alone.predict import Array
from fewshot_automl.export.graph import OUTPUTS, Graph
from fewshot_automl.export.layouts import write_huggingface, write_timm
from fewshot_automl.export.web import write_page

OPSET: Final = 18
"""The newest that every runtime here reads; 23 was no faster."""
LENGTHS: Final = (16, 32, 64, 128, 256, 512)
"""Tokens to which texts are padded where a format has no lengths that vary."""
TOLERANCE: Final = 1e-4
"""Most that a probability may differ from the source's, in 32-bit floats."""
CALIBRATED_ON: Final = 40
"""Images by which the ranges of an int8 model are set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A way to write a graph, and what runs it."""

    name: str
    title: str
    """The runtime, in words."""
    convert: Callable[[Graph, Path], None]
    """Writes the files of a graph into a folder."""
    requires: tuple[str, ...]
    """Packages that a folder needs besides numpy, tokenizers and pillow."""
    needs: tuple[str, ...] = ()
    """Modules that must be there to write it."""
    extra: str | None = None
    """What has to be installed with this package for them."""
    tolerance: float = TOLERANCE
    batch: int | None = None
    """Examples in a call; None for any number."""
    has_lengths: bool = False
    """Whether texts are padded to one of `LENGTHS`."""
    quantize: Callable[[Graph, Path, Sequence[dict[str, Array]]], None] | None = None
    """Makes the model in a folder int8, given inputs of examples; None if nobody has
    written that."""

    def check(self) -> None:
        """Check that what writes the format is installed."""
        for name in self.needs:
            if find_spec(name.partition(".")[0]) is None:
                raise UserError(
                    f"Format {self.name!r} needs {name}, which is not installed. "
                    f"Install it with: pip install 'fewshot-automl[{self.extra}]'"
                )


def _program(graph: Graph, batch: int | None = None) -> ExportedProgram:
    """Return the program that torch.export makes; None for any batch."""
    dynamic = tuple(
        {at: Dim.DYNAMIC for at, name in axes.items() if name != "batch" or not batch}
        for axes in graph.axes
    )
    example = graph.example(batch or 2)
    return torch.export.export(graph, example, dynamic_shapes=(dynamic,), strict=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep converters from writing to stdout and from warning of their own matters."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _onnx(graph: Graph, folder: Path) -> None:
    made = torch.onnx.export(
        graph,
        graph.example(),
        dynamo=True,
        opset_version=OPSET,
        input_names=list(graph.input_names),
        output_names=list(OUTPUTS),
        dynamic_shapes=(graph.axes,),
        verbose=False,
    )
    assert made is not None
    made.save(folder / "model.onnx", external_data=False)


def _int8(graph: Graph, folder: Path, inputs: Sequence[dict[str, Array]]) -> None:
    """Make an ONNX model int8: texts by their weights, images by ranges seen too."""
    from onnxruntime import quantization as ort

    path, whole = folder / "model.onnx", folder / "whole.onnx"
    path.rename(whole)
    few = inputs[:CALIBRATED_ON]
    with quiet():
        if "pixels" in graph.input_names:
            ort.quantize_static(
                whole,
                path,
                SimpleNamespace(get_next=partial(next, iter(few), None)),
                quant_format=ort.QuantFormat.QDQ,
                per_channel=True,
                activation_type=ort.QuantType.QUInt8,
                weight_type=ort.QuantType.QInt8,
                op_types_to_quantize=["Conv", "MatMul", "Gemm", "Add", "Mul"],
            )
        else:
            ort.quantize_dynamic(
                whole,
                path,
                per_channel=True,
                op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            )
    whole.unlink()


def _web(graph: Graph, folder: Path) -> None:
    _only_one_axis(graph, "web")
    if any(feed.recipe.get("interpolation") == "nearest" for feed in graph.feeds):
        raise ExportError("A page must read images smoothly, got nearest. Use onnx.")
    _onnx(graph, folder)
    write_page(folder)


def _mlflow(graph: Graph, folder: Path) -> None:
    from mlflow.models import ModelSignature
    from mlflow.pyfunc import save_model
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Map

    kind = DataType.binary if graph.feeds[0].kind == "image" else DataType.string
    answer = ColSpec(DataType.string, "answer", required=False)
    answers = Schema([answer, ColSpec(Map(DataType.double), "probabilities")])
    signature = ModelSignature(Schema([ColSpec(kind, "input")]), answers)
    code = Path(__file__).parent / "alone" / "scored.py"
    names = ("mlflow-skinny", "pandas", "onnxruntime", "numpy", "tokenizers", "pillow")
    needs = [f"{name}=={version(name)}" for name in names]
    unheard = contextlib.redirect_stderr(io.StringIO())  # mlflow asks for type hints
    with TemporaryDirectory() as home, quiet(), unheard:
        made = Path(home) / "model"
        save_model(made, python_model=code, signature=signature, pip_requirements=needs)
        for path in made.iterdir():  # but not requirements.txt, which is ours
            shutil.copy(path, folder)
    place = folder / "MLmodel"  # it says where it was made
    place.write_text(place.read_text("utf-8").replace(str(code), code.name), "utf-8")
    _onnx(graph, folder)


def _torch(graph: Graph, folder: Path) -> None:
    torch.export.save(_program(graph), folder / "model.pt2")


def _openvino(graph: Graph, folder: Path) -> None:
    import openvino

    with TemporaryDirectory() as home:
        _onnx(graph, Path(home))
        model = openvino.convert_model(Path(home) / "model.onnx")
        openvino.save_model(model, folder / "model.xml", compress_to_fp16=False)


def _executorch(graph: Graph, folder: Path) -> None:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
        XnnpackPartitioner,
    )
    from executorch.exir import to_edge_transform_and_lower

    _only_one_axis(graph, "executorch")
    lowered = to_edge_transform_and_lower(
        _program(graph, batch=1), partitioner=[XnnpackPartitioner()]
    )
    (folder / "model.pte").write_bytes(lowered.to_executorch().buffer)


def _litert(graph: Graph, folder: Path) -> None:
    import litert_torch

    _only_one_axis(graph, "litert")
    if lengths := lengths_of(graph):
        made = litert_torch
        for length in lengths:
            inputs = graph.example(1, length)
            made = made.signature(f"length_{length}", graph, inputs)
        model = made.convert()
    else:
        model = litert_torch.convert(graph, graph.example(1))
    model.export(str(folder / "model.tflite"))


def lengths_of(graph: Graph) -> list[int]:
    """Return the lengths of texts that a model with fixed ones is written for."""
    most = [feed.recipe["max_tokens"] for feed in graph.feeds if feed.kind == "text"]
    if not most:
        return []
    return [*(n for n in LENGTHS if n < max(most)), max(most)]


def _only_one_axis(graph: Graph, name: str) -> None:
    if any(feed.kind == "windows" for feed in graph.feeds):
        raise ExportError(
            f"A model for {name} must read texts cut to one length, got one that reads "
            "long texts in windows. Export it to onnx, or fit again with --narrow "
            "long_texts=beginning."
        )


_ONNX: Final = Format(
    name="onnx",
    title="ONNX, run by onnxruntime",
    extra="onnx",
    needs=("onnx", "onnxscript", "onnxruntime"),
    convert=_onnx,
    requires=("onnxruntime",),
    quantize=_int8,
)
_ROWS: Final = (
    _ONNX,
    replace(_ONNX, name="web", title="a page for a browser", convert=_web, batch=1),
    replace(
        _ONNX,
        name="mlflow",
        title="a pyfunc model of MLflow",
        extra="mlflow",
        needs=(*_ONNX.needs, "mlflow"),
        convert=_mlflow,
        requires=("onnxruntime", "mlflow-skinny", "pandas"),
    ),
    Format(
        name="torch",
        title="torch.export, run by PyTorch",
        convert=_torch,
        requires=("torch",),
    ),
    Format(
        name="openvino",
        title="OpenVINO",
        extra="openvino",
        needs=("openvino", "onnx", "onnxscript"),
        convert=_openvino,
        requires=("openvino",),
    ),
    Format(
        name="executorch",
        title="ExecuTorch with XNNPACK, for phones",
        extra="executorch",
        needs=("executorch",),
        convert=_executorch,
        requires=("executorch", "torch"),
        batch=1,
    ),
    Format(
        name="litert",
        title="LiteRT, for phones",
        extra="litert",
        needs=("litert_torch", "ai_edge_litert"),
        convert=_litert,
        requires=("ai-edge-litert",),
        batch=1,
        has_lengths=True,
    ),
    Format(
        name="huggingface",
        title="an encoder that transformers, peft and sentence-transformers open",
        convert=write_huggingface,
        requires=("torch", "transformers", "peft", "safetensors"),
    ),
    Format(
        name="timm",
        title="an encoder that timm opens",
        convert=write_timm,
        requires=("torch", "timm", "safetensors"),
    ),
)
FORMATS: Final[dict[str, Format]] = {row.name: row for row in _ROWS}
"""By name; add to it. Command, docs and tests follow."""


def format_named(name: str) -> Format:
    """Return the row of that name; the error of another lists the nearest."""
    if name not in FORMATS:
        raise unknown_name("format", name, FORMATS, "fewshot export --help")
    return FORMATS[name]

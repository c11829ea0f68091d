"""From a predictor to a folder that stands alone and was proven equal."""

import json
import platform
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from fewshot_automl.backbones.sources import file_sha256
from fewshot_automl.errors import DataError, ExportError, UserError
from fewshot_automl.export.alone import predict
from fewshot_automl.export.alone.predict import Model
from fewshot_automl.export.card import model_card
from fewshot_automl.export.formats import Format, format_named, lengths_of
from fewshot_automl.export.graph import OUTPUTS, Graph
from fewshot_automl.export.reading import MANIFEST
from fewshot_automl.export.verify import Proof, prove
from fewshot_automl.modalities import Input
from fewshot_automl.tasks import Task

if TYPE_CHECKING:
    from fewshot_automl.predictor import Predictor

SCHEMA: Final = 1
"""Version of the manifest."""
VERIFICATION: Final = "verification.json"
CARD: Final = "MODEL_CARD.md"
MAX_LOSS: Final = 0.01
"""Score that int8 may cost."""
DOCKERFILE: Final = """\
FROM python:{python}-slim
WORKDIR /model
COPY requirements.txt .
RUN pip install --no-cache-dir -r requirements.txt
COPY . .
USER nobody
ENTRYPOINT ["python", "predict.py"]
CMD ["--json", "request.json"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What an export is compared on: examples of the study, and what is known there."""

    inputs: tuple[Input, ...]
    targets: np.ndarray | None = None
    """Their labels; None if nobody knows them."""
    honest: np.ndarray | None = None
    """The model's calibrated out-of-fold outputs, [repeats, examples, width]; NaN in
    rows that have none. The change that int8 makes is judged on them, for of examples
    that a model has learnt from it is too sure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """A finished export."""

    folder: Path
    proof: Proof
    """How equal it is to its source, how fast and how large."""


def write_export(
    predictor: "Predictor",
    name: str,
    out: Path | str,
    evidence: Evidence,
    *,
    quantize: str | None = None,
    max_loss: float = MAX_LOSS,
    study: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Export:
    """Write a predictor in a format, run it there, and keep it if it answers alike.

    Args:
        predictor: The source.
        name: Of the format, a row of `FORMATS`.
        out: A folder that is new, empty or an export, which is replaced.
        evidence: Examples that both are compared on.
        quantize: ``int8``, or None for 32-bit floats.
        max_loss: Most that int8 may cost in the task's metric.
        study: What `result.json` says, for the model card; the facts of the predictor
            if None.
        say: Hears what is done.

    Raises:
        UserError: If the format is not there, or the folder holds something else.
        ExportError: If the model cannot be expressed in it, or answers otherwise there.
    """
    row, folder = format_named(name), Path(out)
    _check(row, folder, quantize, evidence)
    row.check()
    draft = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        graph = Graph(predictor)
        say(f"Writing the model as {row.title}.")
        _convert(row, graph, draft)
        _write_reader(predictor.task, graph, row, draft, quantize)
        if quantize is not None:
            assert row.quantize is not None
            model = Model(draft)
            say("Making it int8.")
            seen = evidence.inputs
            row.quantize(graph, draft, [model.prepare([x]) for x in seen])
            _seal(draft)
        say(f"Comparing it with its source on {len(evidence.inputs)} examples.")
        model = Model(draft)
        proof = prove(predictor, graph, model, draft, evidence)
        proof.check(row, quantize, max_loss)
        (draft / VERIFICATION).write_text(proof.to_json(), "utf-8")
        known = predictor.facts if study is None else study
        (draft / CARD).write_text(
            model_card(predictor.task, known, graph, row, proof, quantize), "utf-8"
        )
        told = {
            name: known[name] for name in ("class_counts", "score") if name in known
        }
        _seal(draft, {**model.manifest, **told})
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Export(folder=folder, proof=proof)


def _convert(row: Format, graph: Graph, folder: Path) -> None:
    try:
        row.convert(graph, folder)
    except ExportError:
        raise
    except Exception as error:  # converters raise whatever their libraries do
        said = " ".join(str(error).split())[:300]
        raise ExportError(
            f"The model must be one that {row.name} can express, got "
            f"{type(error).__name__}: {said} Choose another format."
        ) from error


def _check(row: Format, folder: Path, quantize: str | None, evidence: Evidence) -> None:
    is_export = (folder / MANIFEST).exists()
    is_empty = folder.is_dir() and not any(folder.iterdir())
    if folder.exists() and not is_export and not is_empty:
        raise UserError(
            f"The folder of an export must be new, empty or an export, got {folder}. "
            "Choose another."
        )
    if not evidence.inputs:
        raise DataError(
            "An export must be compared with its source on examples, got none. Give "
            "those of the fit."
        )
    if quantize not in (None, "int8"):
        raise UserError(f"quantize must be int8 or left out, got {quantize!r}.")
    if quantize is not None and row.quantize is None:
        raise UserError(
            f"quantize must be left out for {row.name}, got {quantize!r}. Only onnx "
            "has it."
        )
    if quantize is not None and evidence.targets is None:
        raise DataError(
            "int8 must be judged by labelled examples, got none with a label."
        )


def _write_reader(
    task: Task, graph: Graph, row: Format, folder: Path, quantize: str | None
) -> None:
    """Write all that turns raw examples into answers, and the manifest."""
    shutil.copyfile(predict.__file__, folder / "predict.py")
    kinds = {feed.kind for feed in graph.feeds}
    packages = [*row.requires, "numpy"]
    if kinds & {"text", "windows"}:
        packages.append("tokenizers")
    request = ["An example of a text.", "Another one."]
    if "image" in kinds:
        packages.append("pillow")
        request = ["example.png"]
        ramp = np.add.outer(np.arange(64), np.arange(96)).astype(np.uint8)
        Image.fromarray(np.stack([ramp, ramp // 2, 255 - ramp], 2)).save(
            folder / "example.png"
        )
    pinned = [f"{name}=={version(name)}" for name in packages]  # as was checked
    (folder / "requirements.txt").write_text("\n".join(pinned) + "\n", "utf-8")
    (folder / "request.json").write_text(json.dumps(request) + "\n", "utf-8")
    python = ".".join(platform.python_version_tuple()[:2])
    (folder / "Dockerfile").write_text(DOCKERFILE.format(python=python), "utf-8")
    lengths = lengths_of(graph) if row.has_lengths else []
    feeds = []
    for feed in graph.feeds:
        for name, text in feed.files.items():
            (folder / name).write_text(text, "utf-8")
        feeds.append({**feed.to_json(), **({"lengths": lengths} if lengths else {})})
    manifest = {
        "schema": SCHEMA,
        "format": row.name,
        "quantize": quantize,
        "task": task.to_json(),
        "classes": list(task.names),
        "feeds": feeds,
        "outputs": list(OUTPUTS),
        # int8 texts are rounded by the largest value in a batch.
        "batch": row.batch if quantize is None or "image" in kinds else 1,
        "decision": decision_of(task),
        "versions": {
            name: version(name) for name in ("fewshot-automl", "torch", *row.requires)
        },
    }
    _seal(folder, manifest)


def decision_of(task: Task) -> dict[str, Any] | None:
    """Return what makes an answer of probabilities; None for the most probable class.

    Probabilities are multiplied by `ratios` and brought to a sum of 1, multiplied by
    `factors` and then by the matrix `costs`: the cheapest answer is given, unless it
    costs more than `limit`.
    """
    costs = task.costs
    if costs is None:
        return None
    ones = [1.0] * len(costs.matrix)
    return {
        "ratios": list(costs.ratios) or ones,
        "factors": list(costs.factors) or ones,
        "costs": [list(row) for row in costs.matrix],
        "limit": costs.limit,
    }


def _seal(folder: Path, manifest: dict[str, Any] | None = None) -> None:
    """Write the manifest, with the hash of every other file."""
    path = folder / MANIFEST
    values = json.loads(path.read_text("utf-8")) if manifest is None else manifest
    files = sorted(x for x in folder.rglob("*") if x.is_file() and x != path)
    hashes = {x.relative_to(folder).as_posix(): file_sha256(x) for x in files}
    whole = json.dumps({**values, "files": hashes}, indent=2, ensure_ascii=False)
    path.write_text(whole + "\n", "utf-8")

"""From a predictor to a folder that stands alone and was proven equal."""

import json
import platform
import runpy
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jinja2 import Environment, PackageLoader
from PIL import Image

from fewshot_automl.backbones.sources import file_sha256
from fewshot_automl.errors import DataError, ExportError, UserError
from fewshot_automl.export.alone.predict import Model
from fewshot_automl.export.formats import Format, format_named, lengths_of, quiet
from fewshot_automl.export.graph import OUTPUTS, Graph
from fewshot_automl.export.reading import MANIFEST
from fewshot_automl.export.script import script_of
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
    row, folder, task = format_named(name), Path(out).resolve(), predictor.task
    _check(row, folder, quantize, evidence)
    draft = folder.with_name(f".{folder.name}.writing")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        graph = Graph(predictor)
        say(f"Writing the model as {row.title}.")
        _convert(row, graph, draft)
        _write_reader(task, graph, row, draft, quantize)
        if row.quantize is not None and quantize is not None:
            model = Model(draft)
            say("Making it int8.")
            row.quantize(graph, draft, [model.prepare([x]) for x in evidence.inputs])
            _seal(draft, model.manifest)
        say(f"Comparing it with its source on {len(evidence.inputs)} examples.")
        model = _as_written(draft)
        proof = prove(predictor, graph, model, draft, evidence)
        proof.check(row, quantize, max_loss)
        (draft / VERIFICATION).write_text(
            json.dumps(asdict(proof), indent=2) + "\n", "utf-8"
        )
        known = predictor.facts if study is None else study
        page = Environment(  # noqa: S701  Markdown
            loader=PackageLoader("fewshot_automl.export", ""),
            keep_trailing_newline=True,
        ).get_template("card.md.j2")
        card = page.render(
            task=task,
            study=known,
            abstains=task.costs is not None and task.costs.limit is not None,
            feeds=graph.feeds,
            cards={each.card.id: each.card for each in graph.backbones}.values(),
            row=row,
            proof=proof,
            quantize=quantize,
        )
        (draft / CARD).write_text(card, "utf-8")
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
        with quiet():
            row.convert(graph, folder)
    except ExportError:
        raise
    except Exception as error:  # converters raise whatever their libraries do
        said = " ".join(str(error).split())[:300]
        raise ExportError(
            f"The model must be one that {row.name} can express, got "
            f"{type(error).__name__}: {said} Choose another format."
        ) from error


def _as_written(folder: Path) -> Any:
    """Return the model as the folder's own predict.py reads it."""
    return runpy.run_path(str(folder / "predict.py"))["Model"](folder)


def _check(row: Format, folder: Path, quantize: str | None, evidence: Evidence) -> None:
    row.check()
    is_export = (folder / MANIFEST).exists() and (folder / VERIFICATION).exists()
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
    kinds = {feed.kind for feed in graph.feeds}
    (folder / "predict.py").write_text(script_of({row.name, *kinds}), "utf-8")
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
        "decision": _decision(task),
        "versions": {
            name: version(name) for name in ("fewshot-automl", "torch", *row.requires)
        },
    }
    _seal(folder, manifest)


def _decision(task: Task) -> dict[str, Any] | None:
    """Return what makes an answer of probabilities; None for the most probable class.

    Probabilities are multiplied by `ratios` and brought to a sum of 1, multiplied by
    `factors` and then by the matrix `costs`: the cheapest answer is given, unless it
    costs more than `limit`.
    """
    if (costs := task.costs) is None:
        return None
    ones = [1.0] * len(costs.matrix)
    return {
        "ratios": costs.ratios or ones,
        "factors": costs.factors or ones,
        "costs": costs.matrix,
        "limit": costs.limit,
    }


def _seal(folder: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, with the hash of every other file."""
    path = folder / MANIFEST
    files = sorted(x for x in folder.rglob("*") if x.is_file() and x != path)
    hashes = {x.relative_to(folder).as_posix(): file_sha256(x) for x in files}
    whole = json.dumps({**manifest, "files": hashes}, indent=2, ensure_ascii=False)
    path.write_text(whole + "\n", "utf-8")

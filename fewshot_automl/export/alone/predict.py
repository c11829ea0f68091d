"""Answer as the model in this folder does.

Needs what `requirements.txt` names: the runtime, numpy, and tokenizers or pillow.

    python predict.py "a text" "another text"       (of images: names of files)
    python predict.py --json request.json           (a list of them)

Prints one JSON object a line: the answer, which is null where the model leaves an
example to a person, and the probability of each class.
"""

import hashlib
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fewshot_automl.modalities.image import open_image
from fewshot_automl.modalities.text import windows_of

Array = np.ndarray
Feed = dict[str, Any]
"""How examples become inputs of the model: an entry of manifest.json."""
Run = Callable[[dict[str, Array]], Any]
"""Takes inputs by name; returns logits and probabilities, each [batch, classes]."""
HERE = Path(__file__).resolve().parent


class Model:
    """The model in a folder: raw examples in, probabilities and answers out."""

    def __init__(self, folder: Path | str = HERE) -> None:
        folder = Path(folder)
        self.manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        if self.manifest["schema"] != 1:
            raise ValueError("manifest.json is of a newer version than predict.py.")
        for name, expected in self.manifest["files"].items():
            if hashlib.sha256((folder / name).read_bytes()).hexdigest() != expected:
                raise ValueError(f"{name} was damaged or changed. Copy it again.")
        self.names: list[str] = self.manifest["classes"]
        self.feeds: list[Feed] = self.manifest["feeds"]
        self._readers = [READERS[feed["kind"]](feed, folder) for feed in self.feeds]
        self._run = RUNTIMES[self.manifest["format"]](folder)

    def prepare(self, examples: Sequence[Any]) -> dict[str, Array]:
        """Return the model's inputs for some examples."""
        made: dict[str, Array] = {}
        for feed, read in zip(self.feeds, self._readers, strict=True):
            made |= dict(zip(feed["inputs"], read(examples), strict=True))
        return made

    def outputs(self, examples: Sequence[Any]) -> tuple[Array, Array]:
        """Return logits and probabilities, each [examples, classes].

        Examples are texts; or images as paths, bytes, arrays of uint8 or Pillow's.
        """
        step = self.manifest["batch"] or 32
        parts = [
            self._run(self.prepare(examples[start : start + step]))
            for start in range(0, len(examples), step)
        ]
        empty = np.zeros((2, 0, len(self.names)), np.float32)
        logits, proba = np.concatenate([empty, *parts], axis=1)
        return logits, proba

    def decide(self, proba: Array) -> list[str | None]:
        """Return the answer to each row of probabilities; None where there is none."""
        decision = self.manifest["decision"]
        if decision is None:
            return [self.names[at] for at in proba.argmax(1)]
        weighed = self._in_use(proba) * np.array(decision["factors"])
        expected = weighed @ np.array(decision["costs"])
        limit = np.inf if decision["limit"] is None else decision["limit"]
        return [
            self.names[row.argmin()] if row.min() <= limit else None for row in expected
        ]

    def predict(self, examples: Sequence[Any]) -> list[dict[str, Any]]:
        """Return answer and probabilities, by class, of each example."""
        proba = self.outputs(examples)[1]
        shown = self._in_use(proba).tolist()
        return [
            {"answer": answer, "probabilities": dict(zip(self.names, row, strict=True))}
            for answer, row in zip(self.decide(proba), shown, strict=True)
        ]

    def _in_use(self, proba: Array) -> Array:
        """Return probabilities where classes are as frequent as they will be."""
        decision = self.manifest["decision"] or {"ratios": 1.0}
        moved = proba.astype(np.float64) * np.array(decision["ratios"])
        return np.asarray(moved / moved.sum(1, keepdims=True))


def _tokenizer(feed: Feed, folder: Path) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / feed["file"]))
    tokenizer.no_padding()
    tokenizer.enable_truncation(feed["max_tokens"])
    return tokenizer


def _prefixed(texts: Sequence[str], feed: Feed) -> list[str]:
    # Half of a character, as JSON may hold it, becomes a question mark.
    return [feed["prefix"] + x.encode("utf-8", "replace").decode() for x in texts]


def _padded(texts: list[str], tokenizer: Any, feed: Feed) -> tuple[Array, Array]:
    """Return ids and the mask of real ones, padded to the longest or to a length."""
    rows = [x.ids or [feed["pad_id"]] for x in tokenizer.encode_batch(texts)]
    longest = max(map(len, rows))
    length = min((n for n in feed.get("lengths", []) if n >= longest), default=longest)
    ids = np.full((len(rows), length), feed["pad_id"], dtype=np.int64)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
    mask = np.arange(length) < np.array([[len(row)] for row in rows])
    return ids, mask.astype(np.int64)


def _texts(feed: Feed, folder: Path) -> Callable[..., Any]:
    tokenizer = _tokenizer(feed, folder)
    return lambda texts: _padded(_prefixed(texts, feed), tokenizer, feed)


def _windows(feed: Feed, folder: Path) -> Callable[..., Any]:
    tokenizer, start = _tokenizer(feed, folder), len(feed["prefix"])

    def read(texts: Sequence[str]) -> tuple[Array, ...]:
        whole = _prefixed(texts, feed)
        pieces = windows_of(whole, start, tokenizer, feed["max_tokens"])
        owner = np.repeat(np.arange(len(texts)), [len(x) for x in pieces])
        share = (owner == np.arange(len(texts))[:, None]).astype(np.float32)
        rows = [feed["prefix"] + x for several in pieces for x in several]
        return *_padded(rows, tokenizer, feed), share / share.sum(1, keepdims=True)

    return read


def _weights(feed: Feed, folder: Path) -> Callable[..., Any]:
    tables = json.loads((folder / feed["file"]).read_text("utf-8"))
    for table in tables:
        table["places"] = {term: at for at, term in enumerate(table["terms"])}

    def read(texts: Sequence[str]) -> tuple[Array]:
        """Return the TF-IDF weights of texts, each row of length 1."""
        parts = []
        for table in tables:
            rows = np.zeros((len(texts), len(table["terms"])))
            for row, text in zip(rows, texts, strict=True):
                for term, count in Counter(_terms(text.lower(), table)).items():
                    if (at := table["places"].get(term)) is not None:
                        row[at] = (1 + np.log(count)) * table["weights"][at]
            parts.append(_of_length_1(rows))
        return (_of_length_1(np.hstack(parts)).astype(np.float32),)

    return read


def _terms(text: str, table: dict[str, Any]) -> Iterator[str]:
    low, high = table["lengths"]
    if table["analyzer"] == "word":
        words = re.findall(r"\b\w+\b", text)
        for size in range(low, high + 1):
            for at in range(len(words) - size + 1):
                yield " ".join(words[at : at + size])
        return
    for word in (f" {word} " for word in text.split()):  # characters within words
        for size in range(low, high + 1):
            # A short word counts once.
            yield from (word[at : at + size] for at in range(len(word) - size + 1))
            if size >= len(word):
                if size > len(word):
                    yield word
                break


def _of_length_1(rows: Array) -> Array:
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms == 0, 1.0, norms)


def _images(feed: Feed, folder: Path) -> Callable[..., Any]:
    return lambda images: (np.stack([_pixels(x, feed) for x in images]),)


def _pixels(image: Any, feed: Feed) -> Array:
    """Return an image's centre, resized and normalised, [3, size, size]."""
    # Twice the side that is wanted: a large JPEG need not be read whole.
    size, named = feed["size"], Path(image) if isinstance(image, str) else image
    picture = open_image(named, 2 * size)
    side = min(picture.size) * size / int(size / feed["crop_fraction"])
    left, top = (picture.width - side) / 2, (picture.height - side) / 2
    box = (left, top, left + side, top + side)
    how = Image.Resampling[feed["interpolation"].upper()]
    values = np.asarray(picture.resize((size, size), how, box), np.float32) / 255
    mean, std = np.float32(feed["mean"]), np.float32(feed["std"])
    return np.ascontiguousarray(((values - mean) / std).transpose(2, 0, 1))


def _onnx(folder: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    path, providers = str(folder / "model.onnx"), ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(path, options, providers=providers)
    return lambda inputs: session.run(["logits", "probabilities"], inputs)


def _torch(folder: Path) -> Run:
    import torch

    module = torch.export.load(folder / "model.pt2").module()

    def run(inputs: dict[str, Array]) -> Any:
        with torch.no_grad():
            made = module(*map(torch.from_numpy, inputs.values()))
        return [each.numpy() for each in made]

    return run


def _openvino(folder: Path) -> Run:
    import openvino

    # Left to itself it computes in bfloat16 where the CPU has that: 0.17 off.
    hints = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    model = openvino.Core().compile_model(folder / "model.xml", "CPU", hints)

    def run(inputs: dict[str, Array]) -> Any:
        made = model(inputs)
        return made["logits"].copy(), made["probabilities"].copy()

    return run


def _executorch(folder: Path) -> Run:
    import torch
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(folder / "model.pte")
    method = program.load_method("forward")

    def run(inputs: dict[str, Array]) -> Any:
        assert program is not None  # the method dies with its program
        made = method.execute([torch.from_numpy(x) for x in inputs.values()])
        return [x.numpy().copy() for x in made]

    return run


def _litert(folder: Path) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(folder / "model.tflite"))
    names = list(interpreter.get_signature_list())

    def run(inputs: dict[str, Array]) -> Any:
        values = list(inputs.values())
        # Of texts there is a signature for each length.
        name = names[0] if len(names) == 1 else f"length_{values[0].shape[1]}"
        runner = interpreter.get_signature_runner(name)
        wanted = runner.get_input_details()
        given = {f"args_{at}": value for at, value in enumerate(values)}
        made = runner(**{n: x.astype(wanted[n]["dtype"]) for n, x in given.items()})
        return made["output_0"].copy(), made["output_1"].copy()

    return run


def _huggingface(folder: Path) -> Run:
    from transformers import AutoModel

    model: Any = AutoModel.from_pretrained(folder).eval()
    if (folder / "adapter").is_dir():
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, folder / "adapter").eval()

    def features(inputs: Any, pooling: str) -> Any:
        ids, mask = inputs["input_ids"], inputs["mask"]
        hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state
        if pooling == "mean":
            return (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return hidden[range(len(ids)), mask.sum(1) - 1 if pooling == "last" else 0]

    return _with_head(folder, features)


def _timm(folder: Path) -> Run:
    import timm

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    return _with_head(folder, lambda inputs, pooling: model(inputs["pixels"]))


def _with_head(folder: Path, features: Callable[[Any, str], Any]) -> Run:
    import torch
    from safetensors.torch import load_file

    head = load_file(folder / "head.safetensors")
    how = json.loads((folder / "head.json").read_text("utf-8"))

    def run(inputs: dict[str, Array]) -> Any:
        with torch.no_grad():
            tensors = {name: torch.from_numpy(x) for name, x in inputs.items()}
            rows = features(tensors, how["pooling"])
            if how["is_unit"]:
                rows = torch.nn.functional.normalize(rows, dim=1)
            logs = torch.log_softmax(rows @ head["weight"] + head["bias"], 1)
            if (temperature := how["temperature"]) is None:
                return logs.numpy(), logs.exp().numpy()
            # Calibration puts a floor under probabilities.
            floored = logs.clamp(min=float(np.log(1e-6))) / temperature
            logits = torch.log_softmax(logs / temperature, 1)
            return logits.numpy(), floored.softmax(1).numpy()

    return run


READERS: dict[str, Callable[[Feed, Path], Callable[..., Any]]] = {
    "text": _texts,
    "windows": _windows,
    "terms": _weights,
    "image": _images,
}
"""What reads examples for a feed, by its kind."""
RUNTIMES: dict[str, Callable[[Path], Run]] = {
    "onnx": _onnx,
    "web": _onnx,
    "mlflow": _onnx,
    "torch": _torch,
    "openvino": _openvino,
    "executorch": _executorch,
    "litert": _litert,
    "huggingface": _huggingface,
    "timm": _timm,
}
"""What loads the model of a folder, by format."""


def main() -> None:
    """Print the answers to what stands on the command line."""
    words: Any = sys.argv[1:]
    if not words or "--help" in words or "-h" in words:
        print(__doc__)
        return
    try:
        if words[0] == "--json":
            words = json.loads(Path(*words[1:2]).read_text("utf-8"))
        if not isinstance(words, list) or not all(isinstance(x, str) for x in words):
            raise ValueError("A request must be a JSON list of texts, or of files.")
        for answer in Model().predict(words):
            print(json.dumps(answer, ensure_ascii=False))
    except (OSError, ValueError) as error:
        sys.exit(f"predict.py: {error}")


if __name__ == "__main__":
    main()

"""Compare ways to run a backbone: as it is, compiled, left in its file, in 8 bits.

Each way runs in a process of its own with one thread: loading, the features of texts
or pictures (twice; the first time contains what is compiled), and for two of them
steps of a training of the last half. Shown are CPU seconds, the most memory that is not
mapped from a file, how far the features are from those of the plain way, and, with
`--data`, the accuracy of a logistic head on half of the examples.

- `plain`: the backbone as a study loads it.
- `compiled`: by `torch.compile`, for any length of a batch. It needs a C++ compiler.
- `in_file`: every block stays in the weight file, and is in memory while it runs.
- `int8`: weights of linear layers in 8 bits by torchao, which must be installed.

It falls short if features of parts left in the file differ from the plain ones.

Examples:
    python benchmarks/ways.py --quick
    python benchmarks/ways.py --data trec6/train.csv --ways plain int8
"""

import argparse
import json
import multiprocessing
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

WAYS = ("plain", "compiled", "in_file", "int8")
BACKBONES = ("minilm-l6", "mobilenetv2-100")
TRAINED = ("plain", "compiled")
"""Ways whose training is timed, too."""
STEPS = 10
"""Of a training, after the first."""
ROWS, TOKENS = 32, 64
"""Of a batch that is trained on."""
EXAMPLES = 500
CLOSE = 1e-5
WORDS = ("what", "is", "the", "name", "of", "river", "film", "city", "good")


def examples(modality: str, count: int, data: str | None) -> tuple[list[Any], Any]:
    """Return inputs, and labels if they are real."""
    chance = np.random.default_rng(0)
    if modality == "text" and data is not None:
        import pandas as pd

        table = pd.read_csv(data).sample(frac=1.0, random_state=0)[:count]
        return table["text"].tolist(), table["label"].to_numpy()
    if modality == "text":
        lengths = chance.integers(4, 60, count)
        return [" ".join(chance.choice(WORDS, n)) for n in lengths], None
    shape = (count, 64, 64, 3)
    return list(chance.integers(0, 256, shape, dtype=np.uint8)), None


class Unmapped:
    """Watches the memory of this process that no file can give back."""

    def __enter__(self) -> "Unmapped":
        """Begin to watch."""
        self.most_bytes, self._is_over = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self._is_over.set()
        self._thread.join()

    def _watch(self) -> None:
        status = Path("/proc/self/status")
        while not self._is_over.wait(0.01):
            words = status.read_text().partition("RssAnon:")[2].split()
            self.most_bytes = max(self.most_bytes, 1024 * int(words[0]))


def tried(job: tuple[str, str, int, str | None]) -> dict[str, Any]:
    """Return what a way takes and makes."""
    name, way, count, data = job
    import torch

    from fewshot_automl.backbones import weights
    from fewshot_automl.backbones.load import load
    from fewshot_automl.backbones.zoo import Zoo

    torch.set_num_threads(1)
    card = Zoo.shipped()[name]
    inputs, labels = examples(card.modality, count, data)
    with Unmapped() as memory:
        start = time.process_time()
        most = 0 if way == "in_file" else None
        backbone = load(card, weights.get(card), most_bytes=most)
        if way == "int8":
            from torchao.quantization import Int8WeightOnlyConfig, quantize_

            quantize_(backbone.module, Int8WeightOnlyConfig())
        run = backbone.features
        if way == "compiled":
            run = torch.compile(run, dynamic=True)
        found = {"backbone": name, "way": way, "load_s": time.process_time() - start}

        def read() -> np.ndarray:
            order = sorted(range(count), key=lambda at: len(inputs[at]))
            out = np.empty((count, backbone.width), np.float32)
            with torch.no_grad():
                for begin in range(0, count, ROWS):
                    chosen = order[begin : begin + ROWS]
                    rows = backbone.preprocess([inputs[at] for at in chosen])
                    out[chosen] = run(backbone.collate(rows)).float().numpy()
            return out

        for which in ("first_s", "again_s"):
            start = time.process_time()
            features = read()
            found[which] = time.process_time() - start
    found["unmapped_mb"] = memory.most_bytes / 1e6
    if labels is not None and card.modality == "text":
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import normalize

        half, unit = count // 2, normalize(features)
        head = LogisticRegression(C=10.0, max_iter=2000).fit(unit[:half], labels[:half])
        found["accuracy"] = head.score(unit[half:], labels[half:])
    if way in TRAINED:
        found |= trained(backbone, way)
    return {**found, "features": features}


def trained(backbone: Any, way: str) -> dict[str, float]:
    """Return the CPU seconds of the first step of a training, and of another."""
    import torch

    from fewshot_automl.backbones.backbone import MASK

    fork = backbone.fork(cut := backbone.depth // 2)
    learnt = list(fork.tail_parameters(cut))
    for weight in learnt:
        weight.requires_grad_(weight.is_floating_point())
    optimizer = torch.optim.AdamW(learnt, lr=1e-5)
    batch = {"pixels": torch.rand(ROWS, 3, 224, 224)}
    if backbone.card.modality == "text":
        ids = torch.randint(1000, 2000, (ROWS, TOKENS))
        batch = {"input_ids": ids, MASK: torch.ones_like(ids)}
    with torch.no_grad():
        held = fork.stem(batch, cut)

    def tail(rows: Any) -> Any:
        return fork.tail(rows, cut)

    run = torch.compile(tail, dynamic=True) if way == "compiled" else tail
    times = []
    for _ in range(STEPS + 1):
        start = time.process_time()
        run(held).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.process_time() - start)
    return {"first_step_s": times[0], "step_s": float(np.median(times[1:]))}


def main() -> None:
    """Print a table and a JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="100 examples")
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS[:3])
    parser.add_argument("--data", help="a CSV with the columns text and label")
    asked = parser.parse_args()
    count = 100 if asked.quick else EXAMPLES
    figures, short, plain = [], [], {}
    names = "load_s first_s again_s unmapped_mb first_step_s step_s off accuracy"
    print(f"{'backbone':18}{'way':10}" + "".join(f"{n:>13}" for n in names.split()))
    spawn = multiprocessing.get_context("spawn")
    for name in asked.backbones:
        for way in asked.ways:
            with spawn.Pool(1) as pool:
                row = pool.apply(tried, ((name, way, count, asked.data),))
            features = row.pop("features")
            plain.setdefault(name, features)
            row["off"] = float(np.abs(features - plain[name]).max())
            if way == "in_file" and row["off"] > CLOSE:
                short.append(f"{name} left in its file is {row['off']:.1e} off")
            shown = (row.get(n, float("nan")) for n in names.split())
            print(f"{name:18}{way:10}" + "".join(f"{x:13.4g}" for x in shown))
            figures.append(row)
    print(json.dumps({"benchmark": "ways", "figures": figures, "falls_short": short}))
    sys.exit(1 if short else 0)


if __name__ == "__main__":
    main()

"""Write down what replays must know of the recorded tasks besides their trials.

The search space and the arithmetic of prices depend on the labelled examples. Their
numbers stand in `benchmarks/landscapes/tasks.json`, so that replays need no dataset.

Examples:
    python benchmarks/parts/replay_facts.py
"""

import json
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

BENCHMARKS = Path(__file__).resolve().parent.parent
FILE = BENCHMARKS / "landscapes" / "tasks.json"


@dataclass(frozen=True)
class Facts:
    """The labelled examples of one task, in numbers."""

    modality: str
    counts: tuple[int, ...]
    """Examples of each class."""
    characters: float
    """Mean length of a text, 0 for images."""
    folds: tuple[int, int]
    """Fits in a cheap and in a training trial."""


def known() -> dict[str, Facts]:
    """Return the facts of all tasks that were written down."""
    rows = json.loads(FILE.read_text("utf-8"))
    return {
        name: Facts(
            modality=row["modality"],
            counts=tuple(row["counts"]),
            characters=row["characters"],
            folds=(row["folds"][0], row["folds"][1]),
        )
        for name, row in rows.items()
    }


def looked_up(name: str) -> Facts:
    """Return the facts of a task, drawn as `landscape.py` draws it."""
    from landscape import FOLDS, QUICK_REPEATS, SEED, drawn_and_test, modality_of

    from fewshot_automl.evaluation.folds import choose_folds
    from fewshot_automl.modalities import content_hashes

    drawn, _ = drawn_and_test(name)
    names = sorted(set(drawn["label"]))
    counts = Counter(drawn["label"])
    folds = choose_folds(
        np.array([names.index(label) for label in drawn["label"]]),
        groups=content_hashes(drawn["input"]),
        seed=SEED,
        max_folds=FOLDS,
        max_repeats=QUICK_REPEATS,
    )
    return Facts(
        modality=modality_of(name),
        counts=tuple(counts[label] for label in names),
        characters=round(float(np.mean([len(x) for x in drawn["input"]])), 2)
        if modality_of(name) == "text"
        else 0.0,
        folds=(len(folds), len(folds.first)),
    )


def main() -> None:
    """Write the facts of every task that `landscape.py` records."""
    from landscape import SHOTS

    rows = {name: asdict(looked_up(name)) for name in SHOTS}
    FILE.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    print(FILE.read_text("utf-8"))


if __name__ == "__main__":
    sys.path.insert(0, str(BENCHMARKS))
    main()

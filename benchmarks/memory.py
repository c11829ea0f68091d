"""Compare forecasts of peak memory and of time with what trials really took.

Memory: for pairs of backbone and method a trial of three steps and two folds runs in a
process of its own, on texts and pictures that are made up (only their sizes matter).
Its highest resident set is compared with the forecast, which is counted on tensors
without memory; the goal is within 25 %.

Time: in the recorded trials of `benchmarks/landscapes`, the cost model learns from
three trainings on a task and forecasts the next, for each pair of backbone and method.
They differ in batch, steps, frozen blocks, rank. Nothing is run for that. The goal is
that the median forecast of a pair is within 40 %.

Examples:
    python benchmarks/memory.py --quick
    OMP_NUM_THREADS=1 python benchmarks/memory.py
"""

import argparse
import json
import multiprocessing
import statistics
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

BENCHMARKS = Path(__file__).resolve().parent
MEMORY_GOAL = 0.25
TIME_GOAL = 0.40
LEARNT = 3
"""Trials from which the cost model learns."""
RATE = 4e10
"""Of a machine nobody measured; the cost model learns how wrong it is."""
EXAMPLES = 48
WORDS = ("what", "is", "the", "name", "of", "river", "film", "city", "good")
PAIRS = (
    ("minilm-l6", "partial_freeze", 32, 0.5),
    ("minilm-l6", "lora", 32, 0.0),
    ("minilm-l6", "contrastive", 32, 0.67),
    ("minilm-l6", "full", 16, 0.0),
    ("mpnet-base", "partial_freeze", 8, 0.75),
    ("mpnet-base", "lora", 8, 0.5),
    ("mobilenetv2-100", "full", 16, 0.0),
    ("mobilenetv2-100", "partial_freeze", 32, 0.8),
    ("efficientnet-lite0", "contrastive", 16, 0.5),
    ("efficientnet-lite0", "lora", 8, 0.5),
)
"""Backbone, method, size of a batch, frozen fraction."""
QUICK = (0, 1, 7)
"""Of them, with `--quick`."""
VALUES = {
    "steps": 3,
    "learning_rate": 1e-4,
    "lora_learning_rate": 1e-4,
    "full_learning_rate": 1e-5,
    "probe_share": 0.1,
    "label_smoothing": 0.0,
    "schedule": "constant",
    "warmup_fraction": 0.0,
    "weight_decay": 0.01,
    "temperature": 0.1,
    "rank": 8,
    "alpha_ratio": 2.0,
    "lora_dropout": 0.0,
}


def context_for(backbone: str, folder: Path) -> Any:
    """Return a trial's context on made-up examples."""
    from fewshot_automl.backbones.zoo import Zoo
    from fewshot_automl.evaluation.folds import choose_folds
    from fewshot_automl.features.store import FeatureStore
    from fewshot_automl.tasks import Task
    from fewshot_automl.training import Placement
    from fewshot_automl.trial import Problem, TrialContext

    card = Zoo.shipped()[backbone]
    rng = np.random.default_rng(0)
    if card.modality == "text":
        lengths = rng.integers(5, 60, size=EXAMPLES)
        inputs = tuple(" ".join(rng.choice(WORDS, size=n)) for n in lengths)
    else:
        shape = (EXAMPLES, 96, 96, 3)
        inputs = tuple(rng.integers(0, 255, shape, dtype=np.uint8))
    task = Task(modality=card.modality, names=tuple("abcd"))
    labels = np.arange(EXAMPLES) % len(task.names)
    strata = task.rules.strata(labels)
    return TrialContext(
        problem=Problem(
            task=task,
            inputs=inputs,
            targets=labels,
            folds=choose_folds(strata, seed=0, max_folds=2, max_repeats=1),
        ),
        cards=(card,),
        store=FeatureStore(folder),
        placement=Placement(device="cpu"),
    )


def one(kind: str, pair: tuple[str, str, int, float], pipe: Any) -> None:
    """Forecast or measure one pair, in a process of its own."""
    from fewshot_automl.space import Config
    from fewshot_automl.trial import evaluate, forecast

    backbone, method, batch, frozen = pair
    values = {"batch_size": batch, "frozen_fraction": frozen, **VALUES}
    config = Config.of({"method": method, "backbone": backbone, **values})
    with tempfile.TemporaryDirectory(prefix="fewshot-benchmark-") as name:
        context = context_for(backbone, Path(name))
        if kind == "forecast":
            pipe.send(forecast(context, config).memory_bytes / 1e6)
        else:
            pipe.send(evaluate(context, config).measures["peak_memory_mb"])


def in_a_child(kind: str, pair: tuple[str, str, int, float]) -> float:
    """Return what `one` finds in a new process."""
    there, here = multiprocessing.Pipe()
    # A fork of a process that has only imported what a trial needs.
    child = multiprocessing.get_context("fork").Process(
        target=one, args=(kind, pair, here)
    )
    child.start()
    here.close()
    found: float = there.recv()
    child.join()
    return found


def forecast_times() -> dict[str, list[tuple[float, float]]]:
    """Return forecast and true seconds of a fold by pair, of all trials from a fourth.

    They are learnt from the three before them on the same task.
    """
    sys.path.insert(0, str(BENCHMARKS / "parts"))
    from replay_facts import known
    from replay_landscape import recorded_cards

    from fewshot_automl.outcome import Outcome
    from fewshot_automl.policy import CostModel
    from fewshot_automl.space import Config
    from fewshot_automl.trial import Workload

    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for task, facts in known().items():
        path = BENCHMARKS / "landscapes" / f"{task}.jsonl"
        if not path.exists():
            continue
        workload = Workload(
            cards=tuple(recorded_cards(facts.modality)),
            examples=sum(facts.counts),
            characters=facts.characters,
            width=len(facts.counts),
            rate=RATE,
        )
        costs = CostModel(arithmetic=workload, training_folds=facts.folds[1])
        histories = defaultdict(list)
        for line in path.read_text("utf-8").splitlines():
            row = json.loads(line)
            config = Config.of(row["config"])
            if row["status"] != "done" or not workload.trains(config):
                continue
            pair = f"{config.text('backbone')} {config.text('method')}"
            history = histories[pair]
            if len(history) >= LEARNT:
                learnt = costs.after(history[-LEARNT:])
                truth = statistics.mean(row["seconds"])
                found[pair].append((learnt.refit_seconds(config), truth))
            outcome = Outcome(
                status="done",
                scores=tuple(row["scores"]),
                mean=row["mean"],
                cost_seconds=sum(row["seconds"]) + row["prepared"],
            )
            history.append((config, outcome))
    return found


def main() -> None:
    """Run both parts, print their tables and one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="three pairs of ten")
    chosen = QUICK if parser.parse_args().quick else range(len(PAIRS))
    sys.path.insert(0, str(BENCHMARKS.parent))
    import peft  # noqa: F401
    import timm  # noqa: F401
    import transformers  # noqa: F401

    import fewshot_automl.trial  # noqa: F401

    figures: dict[str, float] = {}
    falls_short = []
    print(f"{'peak memory, MB':<36} {'batch':>5} {'forecast':>9} {'measured':>9} off")
    for pair in (PAIRS[which] for which in chosen):
        name, batch = " ".join(pair[:2]), pair[2]
        said, was = (in_a_child(kind, pair) for kind in ("forecast", "measured"))
        off = figures[f"memory {name}"] = round(said / was - 1, 3)
        print(
            f"{name:<36} {batch:>5} {said:>9,.0f} {was:>9,.0f} {off:+.0%}", flush=True
        )
        if abs(off) > MEMORY_GOAL:
            falls_short.append(f"memory of {name}: {off:+.0%}")
    print(f"\n{'seconds of a fold':<36} {'trials':>6} {'median off':>10} within 40 %")
    for name, rows in sorted(forecast_times().items()):
        errors = [abs(said / was - 1) for said, was in rows]
        middle = figures[f"time {name}"] = round(statistics.median(errors), 3)
        share = statistics.mean(error <= TIME_GOAL for error in errors)
        print(f"{name:<36} {len(rows):>6} {middle:>10.0%} {share:.0%}")
        if middle > TIME_GOAL:
            falls_short.append(f"time of {name}: {middle:.0%}")
    report = {"benchmark": "memory", "figures": figures, "falls_short": falls_short}
    print(json.dumps(report))


if __name__ == "__main__":
    main()

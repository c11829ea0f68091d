"""Our rows of a comparison, run as any other: ``python -m fewshot_automl.bench.ours``.

`ours` is what users have: ``fewshot fit``, then predictions by its model. The probes
are logistic heads, tuned by cross-validation, on frozen embedded backbones.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from fewshot_automl.bench.suite import INPUT, LABEL

DEFAULTS: Final = {"text": "minilm-l6", "image": "mobilenetv2-100"}
"""The embedded default backbone of a modality."""
FOLDS, REPEATS = 4, 5


def ours(asked: argparse.Namespace, facts: dict[str, Any]) -> dict[str, Any]:
    """Fit as a command does, then predict; options go to ``fewshot fit``."""
    folder = Path(asked.out).parent
    start = time.monotonic()
    command = [sys.executable, "-m", "fewshot_automl", "fit", asked.train]
    command += ["--target", LABEL, f"--{facts['modality']}", INPUT, "--json"]
    command += ["--metric", facts["metric"], "--budget", f"{asked.budget:g}s"]
    command += ["--seed", str(asked.seed), "--prior", str(folder / "prior.json")]
    command += ["--out", str(folder / "fit"), *asked.options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise SystemExit(done.stderr)
    summary = json.loads(done.stdout.splitlines()[-1])
    fitted = time.monotonic()
    from fewshot_automl.data import read_inputs
    from fewshot_automl.predictor import Predictor

    predictor = Predictor.load(folder / "fit")
    rules = predictor.task.rules
    examples = read_inputs(asked.test, predictor.task, predictor.columns)
    before, _ = replace(predictor, calibration={}).answers(examples.inputs)
    proba = rules.calibrate(before, predictor.calibration)
    write(asked.out, rules.names, proba, before)
    score, config = summary["score"], summary["winner"]["config"]
    return {
        # what is told first; versions that are compared with may lack it
        "expected": score.get("expected", score["corrected"]),
        "low": score["low"],
        "high": score["high"],
        "fit_seconds": round(fitted - start, 2),
        "predict_seconds": round(time.monotonic() - fitted, 2),
        "latency_ms": summary["measures"].get("latency_ms"),
        "members": len(summary["members"]),
        "winner": " ".join(filter(None, (config["method"], config.get("backbone")))),
        "version": summary["versions"]["fewshot-automl"],
    }


def probe(asked: argparse.Namespace, facts: dict[str, Any]) -> dict[str, Any]:
    """Fit tuned probes on some backbones, average their predictions."""
    from fewshot_automl.adaptation.encodings import Encoder, Encodings
    from fewshot_automl.backbones.zoo import Zoo
    from fewshot_automl.data import read, read_inputs
    from fewshot_automl.evaluation.folds import choose_folds
    from fewshot_automl.features.store import FeatureStore
    from fewshot_automl.modalities import content_hashes
    from fewshot_automl.places import cache_folder
    from fewshot_automl.space import Config
    from fewshot_automl.training.placement import choose_placement
    from fewshot_automl.trial import Problem, TrialContext, evaluate, refit

    modality = facts["modality"]
    data = read(asked.train, target=LABEL, inputs={modality: INPUT})
    inputs, targets = data.examples.inputs, data.examples.targets
    keys = content_hashes(inputs)
    folds = choose_folds(
        data.task.rules.strata(targets),
        groups=keys,
        seed=asked.seed,
        max_folds=FOLDS,
        max_repeats=REPEATS,
    )
    zoo = Zoo.shipped()
    context = TrialContext(
        problem=Problem(
            task=data.task, inputs=inputs, targets=targets, folds=folds, keys=keys
        ),
        cards=tuple(card for card in zoo.cards(modality) if zoo.is_at_hand(card)),
        store=FeatureStore(cache_folder() / "features"),
        placement=choose_placement(),
        seed=asked.seed,
    )
    plain = {"method": "probe", "head": "logistic", "scaling": "unit"}
    configs = [Config.of({**plain, "backbone": card.id}) for card in context.cards]
    if asked.name == "probe":
        configs = [Config.of({**plain, "backbone": DEFAULTS[modality]})]
    elif asked.name == "probe-cv":
        losses = [evaluate(context, x).measures["log_loss"] for x in configs]
        configs = [configs[int(np.argmin(losses))]]
    tested = read_inputs(asked.test, data.task, data.columns).inputs
    proba = []
    for config in configs:
        backbone = context.backbone(config.text("backbone"))
        encoder = Encoder(
            backbone=backbone, store=context.store, device=context.placement.device
        )
        fitted = refit(context, config)
        proba.append(fitted.outputs(Encodings(inputs=tested, encoder=encoder)))
    write(asked.out, data.task.names, np.mean(proba, axis=0))
    names = " ".join(config.text("backbone") for config in configs)
    return {"members": len(configs), "winner": f"probe {names}"}


def write(
    out: str,
    names: tuple[str, ...],
    proba: np.ndarray,
    before: np.ndarray | None = None,
) -> None:
    """Write predictions and probabilities, those before calibration too."""
    import pandas as pd

    columns: dict[str, Any] = {"prediction": [names[i] for i in proba.argmax(axis=1)]}
    for kind, rows in (("proba", proba), ("before", before)):
        if rows is not None:
            columns |= {f"{kind}_{n}": rows[:, i] for i, n in enumerate(names)}
    pd.DataFrame(columns).to_csv(out, index=False)


ROWS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    "ours": ours,
    "probe": probe,
    "probe-cv": probe,
    "probes-mean": probe,
}


def main() -> None:
    """Run one row: read the files, write predictions and what there is to tell."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=ROWS)
    for name in ("train", "test", "out"):
        parser.add_argument(name)
    parser.add_argument("budget", type=float)
    parser.add_argument("seed", type=int)
    asked, options = parser.parse_known_args()
    asked.options = options
    facts = json.loads(Path(asked.train).with_name("task.json").read_text("utf-8"))
    told = ROWS[asked.name](asked, facts)
    Path(asked.out).with_suffix(".json").write_text(json.dumps(told), "utf-8")


if __name__ == "__main__":
    main()

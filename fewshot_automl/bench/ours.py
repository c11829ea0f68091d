"""Our rows of a comparison, as any other: ``fewshot fit``, then its predictions.

Example:
    python -m fewshot_automl.bench.ours train.csv test.csv out.csv 60 20 --members 1
"""

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

from fewshot_automl.bench.suite import INPUT, LABEL


def main() -> None:
    """Fit, predict, write both kinds of probabilities and what there is to tell."""
    train, test, out, budget, seed, *options = sys.argv[1:]
    folder, start = Path(out).parent, time.monotonic()
    facts = json.loads((folder / "task.json").read_text("utf-8"))
    command = [sys.executable, "-m", "fewshot_automl", "fit", train, "--json"]
    command += ["--target", LABEL, "--task", "classes", "--seed", seed]
    command += [f"--{facts['modality']}", INPUT, "--metric", facts["metric"]]
    command += ["--prior", str(folder / "prior.json"), "--out", str(folder / "fit")]
    done = subprocess.run(  # noqa: S603
        [*command, "--budget", f"{budget}s", *options], stdout=subprocess.PIPE
    )
    if done.returncode not in (0, 3):  # 3: there is a model, if of little use
        raise SystemExit(done.returncode)
    summary = json.loads(done.stdout.splitlines()[-1])
    fitted = time.monotonic()
    import pandas as pd

    from fewshot_automl.adaptation.saved import Ensemble
    from fewshot_automl.data import read_inputs
    from fewshot_automl.predictor import Predictor

    model = Predictor.load(folder / "fit")
    inputs = read_inputs(test, model.task, model.columns).inputs
    before, _ = replace(model, calibration={}).answers(inputs)
    rules = model.task.rules
    proba = rules.calibrate(before, model.calibration)
    columns = {"prediction": rules.decode(proba), **rules.columns(proba)}
    columns |= {f"before_{n}": before[:, i].tolist() for i, n in enumerate(rules.names)}
    predicted = time.monotonic()
    beside, parts = summary["beside_best"], summary["members"]
    if beside:
        # What the best member says alone, of the same study.
        place = [one["number"] for one in parts].index(beside["number"])
        ensemble = model.fitted
        assert isinstance(ensemble, Ensemble)
        one = replace(ensemble, members=(ensemble.members[place],))
        alone = replace(model, fitted=one, calibration={}).answers(inputs)[0]
        named = zip(rules.names, alone.T, strict=True)
        columns |= {f"alone_{name}": column.tolist() for name, column in named}
    pd.DataFrame(columns).to_csv(out, index=False)
    score, config = summary["score"], summary["winner"]["config"]
    told = {
        # what is told first; versions that are compared with may lack it
        "expected": score.get("expected", score["corrected"]),
        "low": score["low"],
        "high": score["high"],
        "fit_seconds": round(fitted - start, 2),
        "predict_seconds": round(predicted - fitted, 2),
        "latency_ms": summary["measures"].get("latency_ms"),
        "latency_alone_ms": beside.get("latency_ms", [None, None])[1],
        "members": len(parts),
        "winner": " ".join(filter(None, (config["method"], config.get("backbone")))),
        "version": summary["versions"]["fewshot-automl"],
    }
    Path(out).with_suffix(".json").write_text(json.dumps(told), "utf-8")


if __name__ == "__main__":
    main()

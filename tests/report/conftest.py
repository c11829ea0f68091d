"""Finished studies made by hand: a folder, its summary and its history."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewshot_automl.ledger import write_outputs
from fewshot_automl.outcome import Outcome
from fewshot_automl.report.write import write_report
from fewshot_automl.space import Config
from fewshot_automl.tasks import metric_named

METHODS = ("majority", "tfidf", "probe", "prototype", "lora", "contrastive")
SKILL = (0.0, 1.0, 2.5, 2.0, 3.0, 2.8)


@dataclass
class Study:
    """One finished study; change it, then write its report."""

    folder: Path
    summary: dict[str, Any]
    history: list[tuple[Config, Outcome]] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)

    def write(self) -> str:
        path = write_report(self.folder, self.summary, self.history, self.inputs)
        assert path == self.folder / "report.html"
        return path.read_text("utf-8")


@pytest.fixture
def make_study(tmp_path):
    """Return a function that makes a `Study`; see its arguments."""

    def make(names, per_class=6, trials=6, failed=(), metric="accuracy") -> Study:
        rng = np.random.default_rng(0)
        labels = np.repeat(np.arange(len(names)), per_class)
        study = Study(folder=tmp_path, summary={})
        for number in range(trials):
            config = _config(number)
            if number in failed:
                outcome = Outcome(status="failed", reason=f"Reason {number}: a < b & c")
            else:
                skill = SKILL[number % len(SKILL)]
                proba = _proba(rng, labels, len(names), skill, repeats=1 + number % 2)
                outcome = _outcome(tmp_path, config, labels, proba, metric)
            study.history.append((config, outcome))
        study.summary = _summary(study.history, names, labels, metric)
        study.inputs = [f"the text of row {i + 2}" for i in range(len(labels))]
        record = {"data": "my reviews.csv", "test": None}
        (tmp_path / "study.json").write_text(json.dumps(record))
        return study

    return make


def _config(number: int) -> Config:
    method = METHODS[number % len(METHODS)]
    values: dict[str, Any] = {"method": method}
    if method not in ("majority", "tfidf"):
        values["backbone"] = "minilm-l6"
    if method in ("lora", "contrastive"):
        values |= {"lr": 1e-4 * (number + 1), "rank": 8}
    elif number >= len(METHODS):
        values["copy"] = number
    return Config.of(values)


def _proba(rng, labels, classes, skill, repeats):
    logits = rng.normal(size=(repeats, len(labels), classes))
    logits[:, np.arange(len(labels)), labels] += skill
    odds = np.exp(logits)
    return odds / odds.sum(axis=2, keepdims=True)


def _outcome(folder, config, labels, proba, metric) -> Outcome:
    measured = metric_named(metric)
    place = f"predictions/{config.key}.safetensors"
    write_outputs(folder / place, proba.astype(np.float32))
    mean = float(np.mean([measured.value(labels, run) for run in proba]))
    return Outcome(
        status="done",
        scores=(mean, float("nan")),
        mean=measured.orient(mean),
        standard_error=0.05,
        cost_seconds=0.5,
    )


def _summary(history, names, labels, metric) -> dict[str, Any]:
    measured = metric_named(metric)
    done = [i for i, (_, outcome) in enumerate(history) if outcome.is_done]
    winner = max(done, key=lambda i: history[i][1].mean)
    raw = measured.orient(history[winner][1].mean)
    worse = -0.04 if measured.direction == "maximize" else 0.04
    return {
        "data": "reviews.csv",
        "labelled": len(labels),
        "unlabelled": 3,
        "class_counts": {
            name: int((labels == i).sum()) for i, name in enumerate(names)
        },
        "inferred": ["Target: 'topic'."],
        "findings": ["warning: 2 empty texts left out. (a.csv:7)"],
        "placement": "CPU",
        "plan": "1 backbone",
        "date": "2026-11-24T21:00:00+00:00",
        "skipped": {"bge-small": 132_000_000, "bge-base": 436_000_000},
        "asked": "--target topic --budget 60",
        "task": {
            "modality": "text",
            "names": list(names),
            "metric": metric,
        },
        "score": {
            "metric": metric,
            "expected": raw + worse,
            "raw": raw,
            "corrected": raw + worse,
            "low": max(raw - 0.1, 0.0),
            "high": min(raw + 0.1, 1.0),
            "examples": len(labels),
            "majority": 1 / len(names),
            "against_majority": "better",
        },
        "winner": {"number": winner, "config": history[winner][0].to_json()},
        "indistinguishable": [winner],
        "baselines": [
            {
                "method": history[i][0].text("method"),
                "config": history[i][0].to_json(),
                "score": measured.orient(history[i][1].mean),
                "standard_error": history[i][1].standard_error,
            }
            for i in done
            if i < 4
        ],
        "labels": labels.tolist(),
        "predictions": f"predictions/{history[winner][0].key}.safetensors",
        "origins": [f"reviews.csv:{i + 2}" for i in range(len(labels))],
        "seed": 0,
        "folds": [5, 2],
        "members": [
            {"number": winner, "weight": 1.0, "config": history[winner][0].to_json()}
        ],
        "beside_best": {},
        "objectives": ["score"],
        "limits": [],
        "front": [],
        "over": [],
        "keeping": len(done),
        "standard_error": history[winner][1].standard_error,
        "versions": {"torch": "9.9.9"},
        "calibration": {"temperature": 1.5},
        "ending": "seconds",
        "test": {"accuracy": 0.8, "macro_f1": 0.79, "log_loss": 0.5, "n": 200.0},
        "seconds": 30.0,
        "timeline": [
            {"stage": "imports", "start": 0.0, "seconds": 4.0},
            {"stage": "cheap trials", "start": 4.0, "seconds": 26.0},
        ],
        "budget_seconds": 60.0,
    }

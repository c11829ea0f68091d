"""A kind of target and a modality, each added from outside in two or three places."""

import json
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from sklearn.linear_model import Ridge

from fewshot_automl import fit
from fewshot_automl.adaptation.heads import Arrays, Head, Scaling
from fewshot_automl.adaptation.kinds import FLOAT, HEADS, HeadRow
from fewshot_automl.adaptation.method import Method
from fewshot_automl.adaptation.saved import FITTED_KINDS
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.cells import label_text, number
from fewshot_automl.modalities import MODALITIES, Look, content_hash
from fewshot_automl.predictor import Predictor
from fewshot_automl.tasks import TASK_KINDS, Mean, Metric, TaskKind

BINS = 4


# A kind of target, first place: what a number is.


class Numbers(TaskKind):
    name: ClassVar[str] = "number"
    metrics: ClassVar = {
        "mae": Metric(
            name="mae",
            description="Mean distance from the truth.",
            measure=Mean(lambda targets, outputs: abs(targets - outputs[:, 0])),
            best=0.0,
            worst=np.inf,
        )
    }
    default_metric: ClassVar[str] = "mae"
    reported: ClassVar = ("mae",)

    @staticmethod
    def claims(column):
        values = [number(str(cell)) for cell in column.filled()]
        return len(set(values)) > 10 and None not in values

    @staticmethod
    def read(column, names, *, is_sure):
        texts = map(label_text, column.cells)
        values = [np.nan if text is None else number(text) for text in texts]
        return np.array(values, dtype=np.float64), ()

    @property
    def width(self):
        return 1

    def no_targets(self, examples):
        return np.full(examples, np.nan)

    def is_labelled(self, targets):
        return np.isfinite(targets)

    def describe(self, targets):
        return f"Target: numbers from {np.nanmin(targets):g} to {np.nanmax(targets):g}."

    def say(self, target):
        return f"{target:g}"

    def strata(self, targets):
        ranks = targets.argsort().argsort()
        return np.eye(BINS, dtype=np.int64)[ranks * BINS // len(targets)]

    def no_information(self, targets):
        return np.median(targets, keepdims=True)

    def decode(self, outputs):
        return outputs[:, 0].tolist()


# Second place: the heads that predict it.


@dataclass(frozen=True, slots=True, kw_only=True)
class RidgeHead(Head):
    scaling: Scaling
    weight: np.ndarray
    bias: np.ndarray
    kind: ClassVar[str] = "ridge"

    def outputs(self, features):
        return self.scaling.apply(features) @ self.weight + self.bias


def fit_ridge(features, targets, task, config, seed):
    scaling = Scaling.fit(features, config.get("scaling", "unit"))
    found = Ridge(alpha=0.1).fit(scaling.apply(features), targets)
    return RidgeHead(
        scaling=scaling,
        weight=found.coef_[:, None].astype(np.float32),
        bias=np.array([found.intercept_], dtype=np.float32),
    )


RIDGE = HeadRow(
    heads=("ridge",),
    fit=fit_ridge,
    classes=(RidgeHead,),
    numbers=lambda head, width, task, examples: [(width + 1, FLOAT)],
)


@pytest.fixture
def number_kind(monkeypatch):
    monkeypatch.setitem(TASK_KINDS, "number", Numbers)
    monkeypatch.setitem(HEADS, "number", RIDGE)


# A modality, first place: what a short list of numbers is.


class Vectors:
    name = "vector"
    plural = "vectors"
    unusable = "empty vector"
    is_fault_an_error = True
    preference = "the first column of vectors"
    augmentations = ("none",)
    blocks = ("last",)
    efficiency = 1.0
    first_trained = ()

    def holds(self, cells):
        return all(isinstance(cell, str) and cell.startswith("[") for cell in cells)

    def read(self, cell, folder, origin):
        return np.array(json.loads(cell), dtype=np.float64)

    def worth(self, name, cells):
        return ()

    def look(self, inputs):
        return tuple(
            Look(key=content_hash(item) if item.size else "") for item in inputs
        )

    def findings(self, inputs, looks, origins):
        return []

    def preview(self, item):
        return str(item)


# Second place: a method that can learn from them, and what it leaves behind.


@dataclass(frozen=True, slots=True, kw_only=True)
class RawHead:
    head: Head

    @property
    def is_finite(self):
        return all(np.isfinite(array).all() for array in self.head.arrays().values())

    def outputs(self, encodings):
        return self.head.outputs(np.stack(encodings.inputs))

    def save(self, folder):
        arrays: Arrays = self.head.arrays()
        save_file(arrays, folder / "raw.safetensors")
        return {"head": self.head.kind}

    @classmethod
    def load(cls, folder, state):
        from fewshot_automl.adaptation.kinds import head_from_state

        arrays = load_file(folder / "raw.safetensors")
        return cls(head=head_from_state(state["head"], arrays))


@dataclass(frozen=True, slots=True, kw_only=True)
class OnVectors(Method):
    name: str = "vectors"
    title: str = "Head on vectors"
    meaning: str = "puts a head on the vectors as they are"
    needs_backbone: bool = False
    modalities: tuple[str, ...] = field(default=("vector",))

    def dimensions(self, profile):
        return ()

    def numbers(self, config, width, task, inputs):
        row = HEADS[task.kind]
        return row.numbers(row.heads[0], len(inputs[0]), task, len(inputs))

    def fit(self, train, targets, job):
        return RawHead(head=job.fit_head(np.stack(train.inputs), targets))


@pytest.fixture
def vectors(monkeypatch):
    monkeypatch.setitem(MODALITIES, "vector", Vectors())
    monkeypatch.setitem(METHODS, "vectors", OnVectors())
    monkeypatch.setitem(FITTED_KINDS, "vectors", RawHead)


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))


def test_numbers_are_learnt_from_texts(number_kind, tmp_path):
    texts = [f"{'very ' * (i % 12)}good place number {i}" for i in range(36)]
    grades = [i % 12 + 0.25 for i in range(36)]
    result = fit(
        texts,
        labels=grades,
        methods=("majority", "tfidf"),
        budget="none",
        trials=2,
        out=tmp_path / "run",
    )
    assert (result.task.kind, result.task.metric, result.task.width) == (
        "number",
        "mae",
        1,
    )
    by_method = {c.text("method"): o.mean for c, o in result.history}
    assert by_method["tfidf"] > by_method["majority"]
    assert result.score.low <= result.score.corrected <= result.score.high
    assert result.report().exists()
    loaded = Predictor.load(tmp_path / "run")
    few, many = loaded.predict(["good place", f"{'very ' * 10}good place"])
    assert few + 2 < many


def test_classes_and_numbers_are_learnt_from_vectors(vectors, number_kind, tmp_path):
    rng = np.random.default_rng(0)
    points = rng.normal(size=(40, 3)).round(3)
    table = {"point": [json.dumps(point.tolist()) for point in points]}
    for name, cells in (
        ("side", np.where(points[:, 0] > 0, "right", "left").tolist()),
        ("height", (2 * points[:, 1]).tolist()),
    ):
        out = tmp_path / name
        data = {**table, name: cells}
        methods = ["majority", "vectors"]
        result = fit(
            data, target=name, methods=methods, budget="none", trials=2, out=out
        )
        assert result.task.modality == "vector"
        used = {config.text("method") for config, _ in result.history}
        assert used == {"majority", "vectors"}
        assert result.config.text("method") == "vectors"
        found = Predictor.load(out).predict(table)
        if name == "side":
            assert np.mean(np.array(found) == cells) > 0.9
        else:
            assert abs(np.array(found) - cells).mean() < 0.5

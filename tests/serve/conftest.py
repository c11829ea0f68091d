"""Small models in folders: of texts and of images, as a fit and as an export."""

import numpy as np
import pytest

from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.adaptation.method import Job
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.export.write import Evidence, write_export
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.predictor import Predictor
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task
from fewshot_automl.training.placement import choose_placement

TEXTS = ("a good film", "the good city", "a bad film", "the bad city") * 2
LABELS = np.array([0, 0, 1, 1] * 2)
CONFIGS = {
    "text": {"method": "tfidf", "head": "logistic"},
    "image": {"method": "probe", "scaling": "unit", "head": "logistic"},
}


@pytest.fixture(scope="session")
def make_model(tiny_backbone):
    """Return ``(modality, labels) -> predictor``."""

    def make(modality, labels=LABELS, names=("good", "bad")):
        inputs, encoder = TEXTS, None
        if modality == "image":
            backbone = tiny_backbone("tiny-resnet")
            encoder = Encoder(backbone=backbone, store=FeatureStore(None))
            rng = np.random.default_rng(0)
            inputs = tuple(rng.integers(0, 255, (8, 40, 56, 3), dtype=np.uint8))
        job = Job(
            task=Task(modality=modality, names=names),
            config=Config.of(CONFIGS[modality]),
            seed=0,
            placement=choose_placement("cpu"),
        )
        encodings = Encodings(inputs=inputs, encoder=encoder)
        fitted = METHODS[CONFIGS[modality]["method"]].fit(encodings, labels, job)
        return Predictor(
            task=job.task,
            config=job.config,
            fitted=fitted,
            calibration={"temperature": 1.5},
            facts={"class_counts": {"good": 4, "bad": 4}, "license": "Apache-2.0"},
        )

    return make


@pytest.fixture(scope="session")
def folders(make_model, tmp_path_factory):
    """Return ``"text", "image", "export" -> folder``."""
    home = tmp_path_factory.mktemp("models")
    found = {name: home / name for name in ("text", "image", "export")}
    for modality in ("text", "image"):
        make_model(modality).save(found[modality])
    evidence = Evidence(inputs=TEXTS)
    write_export(Predictor.load(found["text"]), "torch", found["export"], evidence)
    return found

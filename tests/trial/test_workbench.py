import pickle

import numpy as np
import pytest

from fewshot_automl.errors import UnknownNameError
from fewshot_automl.trial import workbench as module
from fewshot_automl.trial.evaluate import Evaluate


def test_a_backbone_is_loaded_once_and_the_oldest_leaves(workbench, monkeypatch):
    assert workbench.backbone("tiny-bert") is workbench.backbone("tiny-bert")
    monkeypatch.setattr(module, "MAX_LOADED", 0)
    kept = workbench.backbone("tiny-bert")
    assert kept is workbench.backbone("tiny-bert")


def test_an_unknown_backbone_is_named(workbench):
    with pytest.raises(UnknownNameError, match="'tiny-bert'"):
        workbench.card("tiny-bart")


def test_goes_to_another_process_without_its_backbones(workbench, space):
    config = space.default(method="probe")
    expected = Evaluate(workbench=workbench)(config, None)
    sent = pickle.dumps(Evaluate(workbench=workbench))
    assert len(sent) < 20_000
    again = pickle.loads(sent)
    assert not again.workbench._loaded
    found = again(config, None)
    assert found.scores == expected.scores
    assert again.workbench.store.stats().misses == 0  # it found them on disk


def test_encodings_have_a_backbone_only_where_the_config_names_one(workbench, space):
    bare = workbench.encodings(space.default(method="tfidf"))
    assert bare.encoder is None
    full = workbench.encodings(space.default(method="probe"))
    assert full.backbone.card.id == "tiny-bert"
    assert full.keys == workbench.problem.keys


def test_the_profile_counts_the_classes(texts_problem):
    profile = texts_problem.profile
    assert profile.class_counts == (5, 5, 5)
    assert profile.examples == 15
    assert not profile.is_imbalanced
    assert len(set(texts_problem.keys)) == 15
    assert np.bincount(texts_problem.labels).tolist() == [5, 5, 5]

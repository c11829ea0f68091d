import pickle
from dataclasses import replace

import numpy as np
import pytest

from fewshot_automl.adaptation.method import Profile
from fewshot_automl.errors import UnknownNameError
from fewshot_automl.trial import context as module
from fewshot_automl.trial import evaluate


def test_a_backbone_is_loaded_once_and_the_oldest_leaves(context, monkeypatch):
    assert context.backbone("tiny-bert") is context.backbone("tiny-bert")
    monkeypatch.setattr(module, "MAX_LOADED", 0)
    kept = context.backbone("tiny-bert")
    assert kept is context.backbone("tiny-bert")


def test_an_unknown_backbone_is_named(context):
    with pytest.raises(UnknownNameError, match="'tiny-bert'"):
        context.card("tiny-bart")


def test_goes_to_another_process_without_its_backbones(context, space):
    config = space.default(method="probe")
    expected = evaluate(context, config)
    sent = pickle.dumps(context)
    assert len(sent) < 20_000
    again = pickle.loads(sent)
    assert not again._loaded
    assert evaluate(again, config).scores == expected.scores
    assert again.store.misses == 0  # it found them on disk


def test_no_path_and_no_gpu_of_one_machine_goes_to_another(context, tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(b"pixels")
    context.problem = replace(context.problem, inputs=(picture, "a text"), keys=())
    context.placement = replace(context.placement, device="cuda:3")
    sent = context.portable()
    assert sent.problem.inputs == (b"pixels", "a text")
    assert sent.problem.keys == context.problem.keys
    assert sent.placement.device == "cuda"


def test_encodings_have_a_backbone_only_where_the_config_names_one(context, space):
    bare = context.encodings(space.default(method="tfidf"))
    assert bare.encoder is None
    full = context.encodings(space.default(method="probe"))
    assert full.backbone.card.id == "tiny-bert"
    assert full.keys == context.problem.keys


def test_the_profile_counts_the_classes(texts_problem):
    profile = Profile.of(texts_problem.task, texts_problem.targets)
    assert profile.strata == (5, 5, 5)
    assert not profile.is_imbalanced
    assert len(set(texts_problem.keys)) == 15
    assert np.bincount(texts_problem.targets).tolist() == [5, 5, 5]

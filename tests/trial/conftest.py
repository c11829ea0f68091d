"""A small problem of texts with one tiny backbone."""

import numpy as np
import pytest

from fewshot_automl.adaptation.method import Profile
from fewshot_automl.evaluation.folds import choose_folds
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.tasks import Task
from fewshot_automl.training.placement import choose_placement
from fewshot_automl.trial import Problem, TrialContext, space_for

TASK = Task(modality="text", names=("film", "place", "name"))
WORDS = ("good film", "river city", "who name")


@pytest.fixture
def texts_problem():
    inputs = tuple(f"{w} {'is ' * n}" for w in WORDS for n in range(5))
    labels = np.repeat([0, 1, 2], 5)
    return Problem(
        task=TASK,
        inputs=inputs,
        targets=labels,
        folds=choose_folds(
            TASK.rules.strata(labels), seed=0, max_folds=4, max_repeats=2
        ),
    )


@pytest.fixture
def context(texts_problem, tiny_cards, random_weights, tmp_path, monkeypatch):
    card = tiny_cards["tiny-bert"]
    monkeypatch.setenv("FEWSHOT_ZOO_PATH", str(random_weights(card).parent))
    return TrialContext(
        problem=texts_problem,
        cards=(card,),
        store=FeatureStore(tmp_path / "features"),
        placement=choose_placement("cpu"),
    )


@pytest.fixture
def space(context):
    return space_for(
        Profile.of(context.problem.task, context.problem.targets), context.cards
    )

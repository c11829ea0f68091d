"""A small problem of texts with one tiny backbone."""

import numpy as np
import pytest
from fewshot_automl.trial.design import space_for
from fewshot_automl.trial.workbench import Problem, Workbench

from fewshot_automl.evaluation.folds import choose_folds
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.tasks import Task
from fewshot_automl.training.placement import choose_placement

WORDS = ("good film", "river city", "who name")


@pytest.fixture
def texts_problem():
    inputs = tuple(f"{w} {'is ' * n}" for w in WORDS for n in range(5))
    labels = np.repeat([0, 1, 2], 5)
    return Problem(
        task=Task(modality="text", names=("film", "place", "name")),
        inputs=inputs,
        labels=labels,
        folds=choose_folds(labels, seed=0, max_folds=4, max_repeats=2),
    )


@pytest.fixture
def workbench(texts_problem, tiny_cards, random_weights, tmp_path, monkeypatch):
    card = tiny_cards["tiny-bert"]
    monkeypatch.setenv("FEWSHOT_ZOO_PATH", str(random_weights(card).folder.parent))
    return Workbench(
        problem=texts_problem,
        cards=(card,),
        store=FeatureStore(tmp_path / "features"),
        placement=choose_placement("cpu"),
        folder=tmp_path,
    )


@pytest.fixture
def space(workbench):
    return space_for(workbench.problem.profile, workbench.cards)

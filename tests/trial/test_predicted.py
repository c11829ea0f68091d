"""First looks at Configs: what is kept of them, and gone on from."""

import dataclasses

import numpy as np
import pytest

from fewshot_automl.evaluation.folds import Fold, Folds, choose_folds
from fewshot_automl.evaluation.predictions import (
    Predictions,
    load_predictions,
    save_predictions,
)
from fewshot_automl.outcome import FIRST_REFINEMENT, REFINEMENT, Outcome
from fewshot_automl.tasks.calibration import refinement_loss
from fewshot_automl.trial import evaluate as module
from fewshot_automl.trial.evaluate import Evaluate
from fewshot_automl.trial.predicted import predicted_before


@pytest.fixture
def evaluate(workbench):
    return Evaluate(workbench=workbench)


@pytest.fixture
def dear(space):
    return space.default(method="lora", steps=10, batch_size=8)


@pytest.fixture
def fits(monkeypatch):
    """Return the list of the folds' sizes that were fitted, as it grows."""
    seen = []
    real = module.fit_on

    def fit_on(bench, encodings, config, chosen, deadline):
        seen.append(chosen.tolist())
        return real(bench, encodings, config, chosen, deadline)

    monkeypatch.setattr(module, "fit_on", fit_on)
    return seen


def kept(workbench, outcome):
    return load_predictions(workbench.folder / outcome.predictions)


@pytest.mark.parametrize(
    ("folds", "repeats", "dear_repeats", "expected"),
    [
        (2, 1, 1, 2),  # whole
        (2, 2, 2, 2),
        (3, 1, 1, 1),
        (4, 5, 1, 1),
        (3, 2, 2, 2),
        (4, 1, 2, 1),
        (5, 1, 1, 2),
    ],
)
def test_a_first_look_is_at_one_or_two_folds(
    texts_problem, folds, repeats, dear_repeats, expected
):
    labels = texts_problem.labels
    splits = choose_folds(labels, seed=0, max_folds=folds, max_repeats=repeats)
    assert len(splits.first) == folds
    problem = dataclasses.replace(
        texts_problem, folds=splits, dear_repeats=dear_repeats
    )
    assert problem.first_folds == expected


def test_a_first_look_keeps_what_it_predicted(evaluate, workbench, dear, fits):
    outcome = evaluate.first_look(dear, None)
    folds = workbench.problem.folds
    assert fits == [folds.first[0].train.tolist()]
    assert outcome.is_done
    assert not outcome.is_whole
    assert (len(outcome.scores), outcome.folds_left) == (1, 3)
    assert outcome.mean == outcome.scores[0] == outcome.objectives["accuracy"]
    assert outcome.standard_error > 0
    found = kept(workbench, outcome)
    held = np.zeros(15, dtype=bool)
    held[folds.first[0].validation] = True
    assert np.isfinite(found.proba[0, held]).all()
    assert np.isnan(found.proba[0, ~held]).all()
    np.testing.assert_array_equal(found.folds, folds.assignment[:1])


@pytest.mark.parametrize("dear_repeats", [1, 2])
def test_two_steps_give_what_one_gives(evaluate, workbench, dear, fits, dear_repeats):
    workbench.problem = dataclasses.replace(
        workbench.problem, dear_repeats=dear_repeats
    )
    once = evaluate(dear, None)
    in_one = kept(workbench, once)
    whole, fits[:] = list(fits), []
    look = evaluate.first_look(dear, None)
    twice = evaluate(dear, None)
    assert fits == whole
    assert len(look.scores) == dear_repeats
    np.testing.assert_array_equal(kept(workbench, twice).proba, in_one.proba)
    assert twice.is_whole
    assert twice.cost_seconds > 0
    for name in ("scores", "mean", "standard_error", "objectives"):
        assert getattr(twice, name) == getattr(once, name)
    assert twice.scores[:dear_repeats] == look.scores
    first = look.objectives[FIRST_REFINEMENT]
    assert first == twice.objectives[FIRST_REFINEMENT]
    assert first == look.objectives[REFINEMENT] != twice.objectives[REFINEMENT]
    losses = [refinement_loss(row, workbench.problem.labels) for row in in_one.proba]
    assert twice.objectives[REFINEMENT] == pytest.approx(np.mean(losses))


def test_quick_configs_run_whole_at_first(evaluate, space, fits):
    outcome = evaluate.first_look(space.default(method="probe"), None)
    assert outcome.is_whole
    assert len(fits) == len(outcome.scores) == 8


def test_a_whole_trial_is_run_again_from_its_start(evaluate, dear, fits):
    evaluate(dear, None)
    evaluate(dear, None)
    assert len(fits) == 8


def cut_short(path, predictions):
    path.write_bytes(path.read_bytes()[:-9])


def of_other_folds(path, predictions):
    folds = predictions.folds[:, ::-1].copy()
    save_predictions(path, Predictions(proba=predictions.proba, folds=folds))


def of_other_classes(path, predictions):
    proba = predictions.proba[:, :, :2].copy()
    save_predictions(path, Predictions(proba=proba, folds=predictions.folds))


def of_no_probabilities(path, predictions):
    save_predictions(
        path, Predictions(proba=3 * predictions.proba, folds=predictions.folds)
    )


def gone(path, predictions):
    path.unlink()


@pytest.mark.parametrize(
    "harm", [cut_short, of_other_folds, of_other_classes, of_no_probabilities, gone]
)
def test_what_cannot_be_gone_on_from_is_run_again(
    evaluate, workbench, dear, fits, harm
):
    look = evaluate.first_look(dear, None)
    harm(workbench.folder / look.predictions, kept(workbench, look))
    assert np.isnan(predicted_before(workbench, dear)).all()
    fits.clear()
    outcome = evaluate(dear, None)
    assert len(fits) == 4
    assert outcome.is_whole
    assert np.isfinite(kept(workbench, outcome).proba).all()


def test_a_score_that_one_fold_leaves_undefined_gets_another_fold(
    evaluate, workbench, dear, fits
):
    """Folds that hold one class have no ROC AUC, two of them have."""
    labels = workbench.problem.labels
    folds = tuple(
        Fold(
            train=np.flatnonzero(labels != held),
            validation=np.flatnonzero(labels == held),
            repeat=0,
        )
        for held in range(3)
    )
    workbench.problem = dataclasses.replace(
        workbench.problem,
        folds=Folds(repeats=(folds,)),
        task=dataclasses.replace(workbench.problem.task, metric="roc_auc"),
    )
    outcome = evaluate.first_look(dear, None)
    assert (len(outcome.scores), outcome.folds_left) == (2, 1)
    assert np.isnan(outcome.scores).all()
    assert np.isfinite(outcome.mean)


def test_old_outcomes_have_no_folds_left():
    old = Outcome(status="done", scores=(0.5,), mean=0.5).to_json()
    del old["folds_left"]
    assert Outcome.from_json(old).is_whole

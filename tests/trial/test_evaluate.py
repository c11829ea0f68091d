import dataclasses
import importlib
import time
from types import SimpleNamespace

import numpy as np
import pytest

from fewshot_automl.adaptation import encodings
from fewshot_automl.adaptation import fitted as saving
from fewshot_automl.adaptation.baselines import Constant
from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.saved import own_encoder
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.errors import OutOfTime, TrialError
from fewshot_automl.evaluation.folds import Fold, Folds
from fewshot_automl.evaluation.measures import MEASURES
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.space import Config
from fewshot_automl.tasks import metric_named
from fewshot_automl.trial import Problem, TrialContext, evaluate, refit

module = importlib.import_module("fewshot_automl.trial.evaluate")

QUICK = {"steps": 10, "batch_size": 8}


def config_of(space, name, **values):
    cheap = QUICK if METHODS[name].trains else {}
    return space.default(method=name, **{**cheap, **values})


@pytest.mark.parametrize("name", ["majority", "tfidf", "probe", "contrastive", "full"])
def test_predicts_every_example_from_models_that_never_saw_it(context, space, name):
    config = config_of(space, name)
    outcome = evaluate(context, config)
    problem = context.problem
    outputs = outcome.outputs
    repeats = 1 if METHODS[name].trains else len(problem.folds.repeats)
    assert outputs.shape == (repeats, 15, 3)
    assert outputs.dtype == np.float32
    assert np.isfinite(outputs).all()
    np.testing.assert_allclose(outputs.sum(axis=2), 1, atol=1e-6)
    assert outcome.is_done
    assert len(outcome.scores) == sum(map(len, problem.folds.repeats[:repeats]))
    expected = np.mean(
        [metric_named("accuracy").score(problem.targets, p) for p in outputs]
    )
    assert outcome.mean == pytest.approx(expected)
    assert outcome.standard_error > 0 or name != "majority"
    assert {"accuracy", "balanced_accuracy", "macro_f1", "log_loss"} <= set(
        outcome.measures
    )
    assert outcome.measures["log_loss"] > 0  # in its own direction
    assert set(MEASURES) <= set(outcome.measures)
    assert (outcome.measures["flops"] > 0) == ("backbone" in config)
    assert outcome.cost_seconds > 0


def test_each_model_is_fitted_to_its_own_part_alone(context, space, monkeypatch):
    """A leak would show as training inputs that a fold holds for validation."""
    seen = []

    class Spy:
        name, trains = "majority", False

        def fit(self, train, labels, job):
            seen.append((set(train.inputs), labels.tolist()))
            return METHODS["majority"].fit(train, labels, job)

    monkeypatch.setattr(module, "method", lambda name: Spy())
    evaluate(context, config_of(space, "majority"))
    inputs = context.problem.inputs
    for (texts, labels), fold in zip(seen, context.problem.folds, strict=True):
        assert texts == {inputs[i] for i in fold.train}
        assert not texts & {inputs[i] for i in fold.validation}
        assert labels == context.problem.targets[fold.train].tolist()


@pytest.mark.parametrize("metric", ["macro_f1", "log_loss", "balanced_accuracy"])
def test_the_mean_is_the_metric_that_is_searched(context, space, metric):
    task = dataclasses.replace(context.problem.task, metric=metric)
    context.problem = dataclasses.replace(context.problem, task=task)
    outcome = evaluate(context, config_of(space, "probe"))
    outputs = outcome.outputs
    labels = context.problem.targets
    assert outcome.mean == pytest.approx(
        np.mean([metric_named(metric).score(labels, proba) for proba in outputs])
    )
    assert (outcome.mean < 0) == (metric == "log_loss")


def test_a_trial_repeats_to_the_last_digit(context, space):
    for name in ("probe", "contrastive", "lora"):
        config = config_of(space, name)
        first, second = (evaluate(context, config) for _ in "ab")
        assert first.scores == second.scores
        assert first.standard_error == second.standard_error


def test_trials_leave_the_global_random_state_alone(context, space):
    import torch

    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    evaluate(context, config_of(space, "lora"))
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("name", ["majority", "probe", "contrastive"])
def test_a_deadline_that_has_passed_stops_any_trial(context, space, name):
    with pytest.raises(OutOfTime):
        evaluate(context, config_of(space, name), -1.0)


class Slow:
    """A method that takes a second a fold on a clock that only it moves."""

    name, first_trained = "majority", staticmethod(lambda *at: 0)

    def __init__(self, monkeypatch, trains=True):
        self.trains = trains
        self.now = time.monotonic() + 1000
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr(module, "method", lambda name: self)
        monkeypatch.setattr(Problem, "trains", staticmethod(lambda config: trains))
        monkeypatch.setattr(module, "time", clock)

    def fit(self, train, labels, job):
        self.now += 1.0
        if job.deadline is not None and self.now > job.deadline:
            raise OutOfTime("late")
        return METHODS["majority"].fit(train, labels, job)


def test_gives_up_when_its_folds_show_that_it_will_be_late(context, space, monkeypatch):
    Slow(monkeypatch, trains=False)
    with pytest.raises(OutOfTime, match=r"2 of 8 folds took 2\.0 s.* larger budget"):
        evaluate(context, config_of(space, "majority"), 4.0)


@pytest.mark.parametrize(
    ("allowance", "enough", "folds"),
    [
        (100.0, None, 4),
        (2.5, None, 2),  # there is no time for another
        (1.85, None, 1),  # there seemed to be
        (100.0, 2.5, 2),  # another trial may use the rest
        (2.9, 1.5, 2),  # none could
    ],
)
def test_a_training_is_scored_on_the_folds_there_is_time_for(
    context, space, monkeypatch, allowance, enough, folds
):
    Slow(monkeypatch)
    config = config_of(space, "majority")
    outcome = evaluate(context, config, allowance, enough_seconds=enough)
    every = context.problem.folds.first
    held = np.concatenate([fold.validation for fold in every[:folds]])
    assert len(outcome.scores) == folds
    (predicted,) = ~np.isnan(outcome.outputs).any(axis=2)
    assert set(np.flatnonzero(predicted)) == set(held)
    right = outcome.outputs[0, held].argmax(axis=1) == context.problem.targets[held]
    assert outcome.mean == outcome.measures["accuracy"] == pytest.approx(right.mean())
    assert np.isfinite([*outcome.measures.values(), outcome.standard_error]).all()


def test_unlabelled_examples_are_not_read_again_for_each_fold(
    context, space, monkeypatch
):
    more = Encodings(inputs=tuple(f"text {i}" for i in range(60)), encoder=None)
    context.problem = dataclasses.replace(context.problem, unlabelled=more)
    values = dict(config_of(space, "probe").items)
    config = Config.of({**values, "head": "mixture", "class_names": "none"})
    hashed, real = [], encodings.content_hashes
    monkeypatch.setattr(
        encodings,
        "content_hashes",
        lambda items: hashed.append(len(items)) or real(items),
    )
    assert evaluate(context, config).is_done
    assert 60 not in hashed


def test_folds_too_few_for_the_metric_are_no_score(context, space, monkeypatch):
    task = dataclasses.replace(context.problem.task, metric="roc_auc")
    lone = tuple(
        Fold(train=np.delete(np.arange(15), v), validation=np.array(v), repeat=0)
        for v in ([0, 1], list(range(2, 15)))
    )
    context.problem = dataclasses.replace(
        context.problem, task=task, folds=Folds(repeats=(lone,))
    )
    Slow(monkeypatch)
    with pytest.raises(OutOfTime, match="1 of 2 folds"):
        evaluate(context, config_of(space, "majority"), 1.5)


def test_a_model_of_nan_is_refused(context, space, monkeypatch):
    class Broken:
        name, trains = "majority", False

        def fit(self, train, labels, job):
            return Constant(output=np.full(3, np.nan))

    monkeypatch.setattr(module, "method", lambda name: Broken())
    with pytest.raises(TrialError, match="NaN"):
        evaluate(context, config_of(space, "majority"))


def test_refit_learns_from_every_example(context, space):
    fitted = refit(context, config_of(space, "probe"))
    proba = fitted.outputs(context.encodings(config_of(space, "probe")))
    assert (proba.argmax(axis=1) == context.problem.targets).all()
    with pytest.raises(OutOfTime):
        refit(context, config_of(space, "lora"), time.monotonic() - 1)


def test_heads_need_no_whole_backbone_in_memory(context, space, tmp_path, monkeypatch):
    probe = config_of(space, "probe")
    whole = evaluate(context, probe)
    place = dataclasses.replace(context.placement, weights_bytes=0)
    parts = TrialContext(
        problem=context.problem,
        cards=context.cards,
        store=FeatureStore(tmp_path / "others"),
        placement=place,
    )
    assert parts.backbone("tiny-bert").in_file
    outcome = evaluate(parts, probe)
    assert (outcome.outputs == whole.outputs).all()
    sizes = ("parameters", "memory_mb")
    assert [outcome.measures[n] for n in sizes] == [whole.measures[n] for n in sizes]
    with pytest.raises(TrialError, match="does not fit on the device as a whole"):
        evaluate(parts, config_of(space, "partial_freeze"))
    fitted = refit(parts, probe)
    state = fitted.save(tmp_path / "model")
    monkeypatch.setattr(saving, "weights_room", lambda device: 0)
    again = type(fitted).load(tmp_path / "model", state)
    assert again.backbone.in_file
    inputs = context.problem.inputs
    predicted = again.outputs(Encodings(inputs=inputs, encoder=own_encoder(again)))
    expected = fitted.outputs(parts.encodings(probe))
    np.testing.assert_allclose(predicted, expected, atol=1e-6)

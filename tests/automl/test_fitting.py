"""Which models are fitted at the end, and whether they survive being saved."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from fewshot_automl.adaptation.baselines import Constant
from fewshot_automl.automl import fitting
from fewshot_automl.automl.scoring import Tried
from fewshot_automl.automl.search import Prepared
from fewshot_automl.errors import ExportError, RunError, TrialError
from fewshot_automl.oracle import Limit
from fewshot_automl.outcome import Outcome
from fewshot_automl.predictor import Predictor
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task
from fewshot_automl.trial import TrialContext

TRAINED, CHEAP, MAJORITY = (
    Config.of({"method": m}) for m in ("full", "tfidf", "majority")
)
HISTORY = [
    (config, Outcome(status="done", mean=mean))
    for config, mean in ((TRAINED, 0.9), (CHEAP, 0.7), (MAJORITY, 0.8))
]
SCORING_SECONDS = 150.0


def bare(kind, **values):
    """Return an object that has some attributes and no others."""
    made = kind.__new__(kind)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


@pytest.fixture
def tried():
    """The greater its score, the more likely a trial makes each of 20 labels."""
    evidence = {i: np.full(20, np.log(o.mean)) for i, (_, o) in enumerate(HISTORY)}
    values = {"history": HISTORY, "outputs": range(3), "_evidence": evidence}
    return bare(Tried, **values)


@pytest.fixture
def ready(notes):
    """What a study knows: refits take no time, scoring takes `SCORING_SECONDS`."""
    costs = SimpleNamespace(
        scoring_seconds=lambda config, tested: SCORING_SECONDS,
        refit_seconds=lambda config: 0.0,
    )
    return bare(
        Prepared,
        follows=None,
        carried=None,
        ranks=None,
        context=bare(TrialContext, cards=()),
        listener=notes,
        test=None,
        leader=SimpleNamespace(aims=SimpleNamespace(limits=())),
        costs=SimpleNamespace(after=lambda history: costs),
    )


@pytest.fixture
def broken(monkeypatch):
    """Return the Configs that cannot be fitted; all others can."""
    names = set()

    def refit(context, config, deadline=None):
        if config in names:
            raise TrialError("The moon is full.")
        return Constant(output=np.array([0.5, 0.5]))

    monkeypatch.setattr(fitting, "refit", refit)
    return names


def made(ready, tried, pool, seconds=None):
    """Return the weights of the committee that can be fitted."""
    deadline = None if seconds is None else time.monotonic() + seconds
    found = fitting.fitted_committee(ready, tried, pool, 3, 0.0, deadline)
    left, weights, fitted = found
    assert weights.keys() == fitted.keys() <= set(left)
    assert sum(weights.values()) == pytest.approx(1)
    return weights


def test_a_member_that_cannot_be_fitted_gives_way_and_says_so(
    ready, tried, broken, notes
):
    assert list(made(ready, tried, [0, 1])) == [0, 1]
    broken.add(TRAINED)
    assert made(ready, tried, [0, 1]) == {1: 1.0}
    assert notes.heard("could not be fitted to all examples (The moon is full.)")


def test_without_a_model_in_the_order_any_cheap_one_will_do(ready, tried, broken):
    broken.add(TRAINED)
    assert made(ready, tried, [0]) == {2: 1.0}
    broken.update((CHEAP, MAJORITY))
    with pytest.raises(RunError, match="Give a larger budget"):
        made(ready, tried, [0])


def test_the_scoring_of_members_is_not_forgotten(ready, tried, broken):
    """Of 400 s, each asks 150 for scoring: two are in time, three are not."""
    assert list(made(ready, tried, [0, 1, 2], 400.0)) == [0, 2]
    assert made(ready, tried, [0, 1, 2], -1.0) == {0: 1.0}  # rather late than none


def test_members_over_a_limit_once_fitted_leave(ready, tried, broken, monkeypatch):
    """Each model here holds two numbers, and one in its folds."""
    monkeypatch.setattr(Tried, "measures", lambda tried, weights: {"parameters": 1.0})
    for most, kept in ((3.0, [0]), (5.0, [0, 2])):
        aims = SimpleNamespace(limits=(Limit("parameters", most=most),))
        object.__setattr__(ready, "leader", SimpleNamespace(aims=aims))
        assert list(made(ready, tried, [0, 1, 2])) == kept


@pytest.mark.parametrize(("off", "device"), [(1e-4, "cpu"), (0.01, "cuda")])
def test_rounding_is_no_damage(off, device, tmp_path, monkeypatch):
    model = shifting(off, monkeypatch)
    fitting.deliver(model, tmp_path / "model", ("a",), device)


@pytest.mark.parametrize(("off", "device"), [(0.01, "cpu"), (0.2, "cuda")])
def test_a_model_that_changes_when_saved_is_refused(off, device, tmp_path, monkeypatch):
    model = shifting(off, monkeypatch)
    with pytest.raises(ExportError, match="before it was saved"):
        fitting.deliver(model, tmp_path / "model", ("a",), device)


def shifting(off, monkeypatch):
    """Return a model that predicts something else once it was read back."""
    model = Predictor(
        task=Task(modality="text", names=("a", "b")),
        config=MAJORITY,
        fitted=Constant(output=np.array([0.5, 0.5])),
    )
    real = Predictor.load

    def shifted(folder):
        loaded = real(folder)
        moved = Constant(output=loaded.fitted.output + np.array([off, -off]))
        object.__setattr__(loaded, "fitted", moved)
        return loaded

    monkeypatch.setattr(Predictor, "load", shifted)
    return model

import numpy as np
import pytest

from fewshot_automl.adaptation.baselines import Constant
from fewshot_automl.automl import fitting
from fewshot_automl.automl.prepare import Prepared
from fewshot_automl.automl.tried import Tried
from fewshot_automl.errors import TrialError
from fewshot_automl.oracle import Limit
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config
from fewshot_automl.trial import TrialContext

TRAINED, CHEAP, OVER = (Config.of({"method": m}) for m in ("full", "tfidf", "majority"))
HISTORY = [
    (config, Outcome(status="done", mean=mean))
    for config, mean in ((TRAINED, 0.9), (CHEAP, 0.7), (OVER, 0.8))
]
LIMITS = (Limit("parameters", most=10.0),)


@pytest.fixture
def fitted_from(monkeypatch, notes):
    """Return `fitted_winner` where trained models fail, and all outgrow the limit."""

    def refit(context, config, deadline=None):
        if config == TRAINED:
            raise TrialError("It is broken.")
        return Constant(output=np.array([0.5, 0.5]))

    def winner(order):
        context = TrialContext.__new__(TrialContext)
        context.cards = ()
        tried, ready = Tried.__new__(Tried), Prepared.__new__(Prepared)
        object.__setattr__(tried, "history", HISTORY)
        object.__setattr__(ready, "context", context)
        object.__setattr__(ready, "listener", notes)
        return fitting.fitted_winner(ready, tried, order, None, LIMITS)[0]

    monkeypatch.setattr(fitting, "refit", refit)
    monkeypatch.setattr(
        fitting, "fitted_measures", lambda parts, *_: {"parameters": 11.0}
    )
    return winner


def test_a_cheap_model_that_outgrows_a_limit_is_better_than_one_that_broke_it(
    fitted_from,
):
    """The third trial broke the limit when it was tried, so it is not in the order."""
    assert fitted_from([0, 1]) == 1


def test_without_a_model_in_the_order_any_cheap_one_will_do(fitted_from):
    assert fitted_from([0]) == 2

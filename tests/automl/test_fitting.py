import numpy as np
import pytest
from fewshot_automl.oracle.goals import Limit
from fewshot_automl.trial.workbench import Workbench

from fewshot_automl.adaptation.majority import Constant
from fewshot_automl.automl import fitting
from fewshot_automl.errors import TrialError
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config

DEAR, QUICK, OVER = (Config.of({"method": m}) for m in ("full", "tfidf", "majority"))
HISTORY = [
    (config, Outcome(status="done", mean=mean))
    for config, mean in ((DEAR, 0.9), (QUICK, 0.7), (OVER, 0.8))
]
LIMITS = (Limit("parameters", most=10.0),)


@pytest.fixture
def workbench(monkeypatch):
    """Return one on which dear models cannot be fitted, and all outgrow the limit."""

    def refit(workbench, config, deadline=None):
        if config == DEAR:
            raise TrialError("It is broken.")
        return Constant(output=np.array([0.5, 0.5]))

    monkeypatch.setattr(fitting, "refit", refit)
    monkeypatch.setattr(
        fitting, "fitted_measures", lambda parts, *_: {"parameters": 11.0}
    )
    bench = Workbench.__new__(Workbench)
    bench.cards = ()
    return bench


def test_a_quick_model_that_outgrows_a_limit_is_better_than_one_that_broke_it(
    workbench, notes
):
    """The third trial broke the limit when it was tried, so it is not in the order."""
    place, _ = fitting.fitted_winner(workbench, HISTORY, [0, 1], None, notes, LIMITS)
    assert place == 1


def test_without_a_model_in_the_order_any_quick_one_will_do(workbench, notes):
    place, _ = fitting.fitted_winner(workbench, HISTORY, [0], None, notes, LIMITS)
    assert place == 2

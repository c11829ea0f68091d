import math

import pytest

from fewshot_automl.errors import UserError
from fewshot_automl.study import Budget, parse_budget


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("120s", 120), ("5min", 300), ("2h", 7200), ("90", 90), (" 1.5 H ", 5400),
     ("10m", 600), (".5min", 30), ("1d", 86400)],
)  # fmt: skip
def test_lengths_of_time_in_words(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", "0s", "-5min", "5 parsecs", "min", "inf", "nan", "1e9", "5min2s"]
)
def test_what_is_no_length_of_time_is_a_user_error(text):
    with pytest.raises(UserError, match="budget must be a positive time"):
        parse_budget(text)


def test_a_budget_of_trials_has_no_end():
    budget = Budget(started=5.0, trials=3)
    assert budget.end is None
    assert budget.remaining(1e9) == math.inf
    assert budget.used(7.0) == 2.0
    assert Budget(started=0.0, seconds=10.0).remaining(12.0) == -2.0


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf])
def test_a_budget_is_positive(seconds):
    with pytest.raises(UserError):
        Budget(started=0.0, seconds=seconds)

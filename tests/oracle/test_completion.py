import pytest

from fewshot_automl.oracle.completion import (
    Completion,
    leading,
    leading_quickly,
)
from fewshot_automl.oracle.oracle import Oracle
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config, Int, Space

SPACE = Space((Int(name="x", low=0, high=9),))


def config(x):
    return Config.of({"x": x})


def done(*scores, left=0, **objectives):
    return Outcome(
        status="done",
        scores=scores,
        mean=sum(scores) / len(scores),
        standard_error=0.01,
        folds_left=left,
        objectives=objectives,
    )


WHOLE = [
    (config(0), done(0.6, 0.6, 0.6, size=1.0)),
    (config(1), done(0.7, 0.7, 0.7, size=1.0)),
]
BETTER = (config(2), done(0.9, left=2, size=9.0))
WORSE = (config(3), done(0.5, left=2, size=1.0))
GOOD = (config(4), done(0.8, left=2, size=1.0))


@pytest.fixture
def suggest():
    def suggest(history, n=5, within=None, **settings):
        oracle = Completion(**settings)
        return [c["x"] for c in oracle.suggest(SPACE, history, n, 0, within)]

    return suggest


def test_it_is_an_oracle():
    assert isinstance(Completion(), Oracle)


def test_only_what_leads_is_gone_on_with_the_best_first(suggest):
    assert suggest([*WHOLE, GOOD, WORSE, BETTER]) == [2, 4]
    assert suggest([*WHOLE, GOOD, WORSE, BETTER], n=1) == [2]
    assert suggest([*WHOLE, WORSE]) == []
    assert suggest(WHOLE) == suggest([]) == []


def test_without_any_whole_trial_all_that_have_folds_left_lead(suggest):
    assert suggest([WORSE, BETTER]) == [2, 3]


@pytest.mark.parametrize("status", ["running", "stopped", "failed"])
def test_what_is_under_way_or_ended_is_not_gone_on_with(suggest, status):
    again = (BETTER[0], Outcome(status=status))
    assert suggest([*WHOLE, GOOD, BETTER, again]) == [4]


def test_a_leader_that_is_whole_leaves_the_rest_behind(suggest):
    again = (BETTER[0], done(0.9, 0.9, 0.9))
    assert suggest([*WHOLE, GOOD, BETTER, again]) == []


def test_parts_are_kept_to(suggest):
    history = [*WHOLE, GOOD, BETTER]
    assert suggest(history, within=SPACE.narrow("x", (3, 9))) == [4]
    assert suggest(history, within=[config(2)]) == [2]
    outside = (config(99), done(0.95, left=2))
    assert suggest([*WHOLE, outside]) == []


def test_what_may_not_win_neither_leads_nor_bars(suggest):
    def is_small(outcome):
        return outcome.objectives["size"] < 5

    history = [*WHOLE, GOOD, BETTER]
    assert suggest(history, is_allowed=is_small) == [4]
    bar = (config(5), done(0.99, 0.99, 0.99, size=9.0))
    assert suggest([*history, bar], is_allowed=is_small) == [4]


def test_leading_is_by_the_scores_it_is_given():
    history = [*WHOLE, GOOD, BETTER]
    assert leading(history, {0: 0.5, 1: 0.8, 2: 0.9, 3: 0.7}) == [config(4)]


def test_quickly_means_the_effects_of_folds_taken_off():
    """All score 0.2 more on the first fold; only one is ahead without that."""
    whole = [(config(x), done(0.8 + x / 50, 0.5, 0.5)) for x in range(4)]
    looks = [(config(5), done(0.82, left=2)), (config(6), done(0.99, left=2))]
    assert leading_quickly([*whole, *looks]) == [config(6)]
    assert leading_quickly([]) == []

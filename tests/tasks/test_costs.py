import numpy as np
import pytest

from fewshot_automl.errors import TaskError
from fewshot_automl.tasks import Task
from fewshot_automl.tasks.costs import NO_ANSWER, Costs

NAMES = ("ham", "spam")
PROBA = np.array([[0.9, 0.1], [0.6, 0.4], [0.25, 0.75], [0.05, 0.95]])
LABELS = np.array([0, 0, 1, 1])


def task(**about):
    costs = Costs.of(NAMES, about.pop("cost", {}), counts=(2, 2), **about)
    return Task(modality="text", names=NAMES, metric="cost", costs=costs)


def test_without_costs_the_mean_cost_is_the_share_of_mistakes():
    plain = Task(modality="text", names=NAMES, metric="cost")
    assert plain.measured.value(np.array([1, 0, 1, 1]), PROBA) == 0.25
    assert task().measured.value(np.array([1, 0, 1, 1]), PROBA) == 0.25


def test_a_costly_mistake_is_made_less_often():
    careful = task(cost={"ham->spam": 5.0})
    assert careful.rules.decode(PROBA) == ["ham", "ham", "ham", "spam"]
    assert careful.measured.value(LABELS, PROBA) == 0.25  # one spam let through
    assert careful.measured.direction == "minimize"


def test_no_answer_where_that_is_cheaper():
    shy = task(no_answer=0.3)
    assert shy.rules.decode(PROBA) == ["ham", None, "spam", "spam"]
    assert shy.measured.value(LABELS, PROBA) == pytest.approx(0.3 / 4)
    scores = shy.rules.scores(LABELS, PROBA, ["accuracy", "cost"])
    assert scores["coverage"] == 0.75
    assert scores["accuracy"] == 1.0


def test_a_share_of_examples_is_answered():
    three = Task(modality="text", names=NAMES).answering(0.75, PROBA)
    assert three.metric == "accuracy"
    assert three.rules.decode(PROBA).count(None) == 1
    assert Task(modality="text", names=NAMES).answering(1.0, PROBA).rules.decode(
        PROBA
    ) == ["ham", "ham", "spam", "spam"]


def test_what_is_asked_of_decisions_leaves_prices_as_they_are():
    careful = task(cost={"ham->spam": 5.0})
    labels, proba = np.array([0, 0, 1, 1]), PROBA[[0, 3, 1, 2]]
    found = careful.finding({"spam": 1.0}, labels, proba)
    assert found.rules.decode(proba[2:]) == ["spam", "spam"]
    assert found.measured.value(labels, proba) == 5.0 / 4  # and not more
    some = careful.answering(0.75, PROBA)
    assert some.rules.decode(PROBA).count(None) == 1
    assert some.measured.value(LABELS, PROBA) == 0.0  # the mean of what is answered
    assert Task.from_json(some.to_json()) == some


def test_several_classes_are_found_as_often_as_asked():
    names, rng = ("a", "b", "c"), np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], 40)
    logits = rng.normal(size=(120, 3)) + 1.5 * np.eye(3)[labels]
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    three = Task(modality="text", names=names)
    asked = {"a": 0.8, "b": 0.8}
    answers = three.finding(asked, labels, proba).rules.decide(proba)
    assert [(answers[labels == k] == k).mean() >= 0.8 for k in (0, 1)] == [True, True]


def test_rare_classes_in_use_need_surer_answers_and_weigh_less():
    rare = task(shares={"spam": 0.02})
    assert rare.rules.decode(PROBA) == ["ham", "ham", "ham", "ham"]
    assert rare.measured.value(LABELS, PROBA) == pytest.approx(0.02)
    columns = rare.rules.columns(PROBA)
    odds = 0.95 * 0.02 / 0.5 / (0.05 * 0.98 / 0.5)
    assert columns["proba_spam"][3] == pytest.approx(odds / (1 + odds))


def test_costs_are_kept_in_the_task():
    careful = task(cost={"ham->spam": 5.0}, no_answer=0.4, shares={"spam": 0.1})
    assert Task.from_json(careful.to_json()) == careful
    assert "costs" not in Task(modality="text", names=NAMES).to_json()


def test_nothing_known_of_an_example_is_no_error():
    assert task(no_answer=0.1).rules.decide(np.full((1, 2), np.nan)) is not NO_ANSWER


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"cost": {"ham->eggs": 2.0}}, "'eggs'"),
        ({"cost": {"ham->ham": 2.0}}, "of a mistake"),
        ({"cost": {"ham->spam": -1.0}}, "0 or more"),
        ({"shares": {"ham": 0.7, "spam": 0.7}}, "leave something"),
        ({"no_answer": 0.0}, "more than 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(wrong, words):
    with pytest.raises(TaskError, match=words):
        task(**wrong)

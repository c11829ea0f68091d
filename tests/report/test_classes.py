from dataclasses import replace

import numpy as np
import pytest

from fewshot_automl.errors import ShapeError
from fewshot_automl.report.classes import from_predictions
from fewshot_automl.tasks import Task
from fewshot_automl.tasks.costs import Costs

TASK = Task(modality="text", names=("no", "yes"))
LABELS = np.array([0, 0, 0, 1, 1, 1])
ANSWERS = [0, 0, 1, 1, 0, 0]


def stack(*answers, sure=0.9):
    proba = np.full((len(answers), len(LABELS), 2), 1 - sure)
    for repeat, given in enumerate(answers):
        proba[repeat, np.arange(len(LABELS)), given] = sure
    return proba


def told(labels, proba, task=TASK, typical=()):
    rows = [f"row {i}" for i in range(len(labels))]
    return from_predictions(labels, proba, task, rows, "text {}".format, typical)


def test_recall_and_precision_are_those_of_the_counts():
    found = told(LABELS, stack(ANSWERS))
    assert found.counts == [[2.0, 1.0], [2.0, 1.0]]
    no, yes = found.rows
    assert (no.recall.value, no.precision.value) == (pytest.approx(2 / 3), 0.5)
    assert (yes.recall.value, yes.precision.value) == (pytest.approx(1 / 3), 0.5)
    assert no.recall.low < no.recall.value < no.recall.high
    assert [row.name for row in found.weakest_first] == ["yes", "no"]


def test_repeats_are_averaged_not_added():
    found = told(LABELS, stack(ANSWERS, LABELS))
    assert found.counts == [[2.5, 0.5], [1.0, 2.0]]
    assert found.repeats == 2
    assert found.rows[0].recall.of == 3
    assert found.calibration.accuracy == pytest.approx(np.mean([0.5, 1.0]))


def test_mistakes_are_named_by_origin_the_surest_first():
    proba = stack(ANSWERS)
    proba[0, 5] = [0.99, 0.01]
    proba[0, 1] = [0.95, 0.05]
    found = told(LABELS, proba)
    assert [m["origin"] for m in found.mistakes] == ["row 5", "row 2", "row 4"]
    first = found.mistakes[0]
    assert (first["label"], first["predicted"]) == ("yes", "no")
    assert (first["confidence"], first["label_proba"]) == (0.99, 0.01)
    assert [m["shown"] for m in found.mistakes] == ["text 5", "text 2", "text 4"]
    assert [m["shown"] for m in found.right] == ["text 1", "text 3"]  # one a class


def test_typical_examples_are_shown_if_they_were_predicted():
    proba = stack(ANSWERS)
    proba[:, 0] = np.nan
    found = told(LABELS, proba, typical=[0, 2, 3])
    assert [m["shown"] for m in found.typical] == ["text 2", "text 3"]
    assert [m["label"] for m in found.typical] == ["no", "yes"]


def test_what_is_not_answered_is_no_mistake_and_sureness_is_of_the_answer():
    proba = stack([0, 0, 0, 1, 1, 0], sure=0.8)
    proba[0, 0] = [0.5, 0.5]
    costs = Costs.of(TASK.names, {"yes->no": 9.0}, no_answer=0.49)
    found = told(LABELS, proba, replace(TASK, costs=costs))
    assert found.counts == [[0.0, 0.0], [0.0, 2.0]]  # a no must be surer
    assert found.rows[0].recall is None
    assert found.rows[1].recall.of == 2
    assert (found.mistaken, found.answered) == (0, 2 / 6)
    costs = replace(costs, no_answer=None)
    found = told(LABELS, proba, replace(TASK, costs=costs))
    assert found.mistaken == 3
    assert found.mistakes[0]["predicted"] == "yes"
    assert [case["confidence"] for case in found.mistakes] == pytest.approx(
        [0.5, 0.2, 0.2]
    )


def test_a_mix_up_that_happened_once_is_no_pattern():
    found = told(LABELS, stack(ANSWERS))
    (pair,) = found.pairs
    assert (pair["label"], pair["predicted"], pair["count"]) == ("yes", "no", 2)


def test_calibration_speaks_up_only_beyond_chance():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 300)
    sure = np.full((1, 300, 2), 0.3)
    right = rng.random(300) < 0.7
    sure[0, np.arange(300), np.where(right, labels, 1 - labels)] = 0.7
    honest = told(labels, sure).calibration
    assert "nothing speaks against" in honest.verdict
    boast = np.where(sure > 0.5, 0.98, 0.02)
    loud = told(labels, boast).calibration
    assert "too sure" in loud.verdict
    assert loud.error == pytest.approx(0.98 - right.mean())


def test_nothing_predicted_is_an_error():
    with pytest.raises(ShapeError, match="At least one"):
        told(LABELS, np.full((1, 6, 2), np.nan))

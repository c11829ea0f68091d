import numpy as np
import pytest

from fewshot_automl.data import Examples
from fewshot_automl.errors import ShapeError
from fewshot_automl.tasks import Task


def test_lengths_must_agree():
    with pytest.raises(ShapeError, match="got 1, 2 and 1"):
        Examples(inputs=("a",), targets=np.array([0, 1]), origins=("x",))


def test_a_part_keeps_what_belongs_together():
    few = Examples(
        inputs=("a", "b", "c"),
        targets=np.array([1, -1, 0]),
        origins=("x:1", "x:2", "x:3"),
    )
    assert few.labelled(Task(modality="text", names=("n", "p"))).inputs == ("a", "c")
    assert few.take(np.array([2, 0])).targets.tolist() == [0, 1]
    assert len(few.take([])) == 0

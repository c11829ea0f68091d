import numpy as np
import pytest

from fewshot_automl.data import Examples
from fewshot_automl.errors import ShapeError


def test_lengths_must_agree():
    with pytest.raises(ShapeError, match="got 1, 2 and 1"):
        Examples(inputs=("a",), labels=np.array([0, 1]), origins=("x",))


def test_labelled_and_unlabelled_part_the_examples():
    few = Examples(
        inputs=("a", "b", "c"),
        labels=np.array([1, -1, 0]),
        origins=("x:1", "x:2", "x:3"),
    )
    assert few.labelled().inputs == ("a", "c")
    assert few.unlabelled().inputs == ("b",)
    assert few.take(np.array([2, 0])).labels.tolist() == [0, 1]
    assert len(few.take([])) == 0

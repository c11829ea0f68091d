import pytest

from fewshot_automl.data import read
from fewshot_automl.errors import DataError, TaskError, UnknownNameError


def texts(count):
    return [f"text number {i}" for i in range(count)]


def test_names_are_sorted_naturally():
    names = [str(i) for i in range(11)] * 2
    dataset = read(texts(22), labels=names)
    assert dataset.task.names == tuple(str(i) for i in range(11))
    assert dataset.task.kind == "classes"


def test_labels_in_files_survive_as_written(tmp_path):
    rows = [f"t {i},{y}" for i, y in enumerate(["007", "1.0", "NA", "True", "null"])]
    (tmp_path / "a.csv").write_text("\n".join(["t,y", *rows]))
    names = read(tmp_path / "a.csv", target="y").task.names
    assert set(names) == {"007", "1.0", "NA", "True", "null"}


@pytest.mark.parametrize(
    "labels",
    [
        [f"{1 + i / 10:.1f}" for i in range(11)] * 5,
        [i * 0.37 for i in range(40)],
        list(range(30)) * 2,
    ],
)
def test_measures_are_not_classes(labels):
    with pytest.raises(TaskError, match="Predicting numbers is not supported yet"):
        read(texts(len(labels)), labels=labels)
    kept = read(texts(len(labels)), labels=labels, target_kind="classes")
    assert kept.task.width == len({str(label) for label in labels})


@pytest.mark.parametrize(
    "labels",
    [[3, 4, 5, 6, 7, 8] * 3, list(range(64)) * 8, ["1.0", "2.0", "3.0"], [-1, 1, 1]],
)
def test_codes_are_classes(labels):
    assert read(texts(len(labels)), labels=labels).task.width == len(set(labels))


def test_joined_labels_are_noticed_with_their_row():
    labels = ["anger", "joy", "anger|joy", "joy", "anger"]
    with pytest.raises(TaskError, match=r"got 'anger\|joy' in row 2"):
        read(texts(5), labels=labels)
    kept = read(texts(5), labels=labels, target_kind="classes")
    assert kept.task.names == ("anger", "anger|joy", "joy")


def test_a_comma_in_a_class_name_joins_nothing():
    labels = ["Food, drink", "Food, drink", "Health, care", "Sport"]
    assert read(texts(4), labels=labels).task.width == 3


def test_given_names_set_the_order_and_are_complete():
    dataset = read(texts(3), labels=["lo", "hi", "hi"], class_names=["lo", "hi"])
    assert dataset.examples.targets.tolist() == [0, 1, 1]
    with pytest.raises(DataError, match=r"one of 'lo', 'hi', got 'mid' in row 1"):
        read(texts(2), labels=["lo", "mid"], class_names=["lo", "hi"])


@pytest.mark.parametrize(
    ("labels", "says"), [([None, None], "no labels at all"), (["a", "a"], "only 'a'")]
)
def test_one_class_is_none(labels, says):
    with pytest.raises(DataError, match=says):
        read(texts(2), labels=labels)


def test_an_unknown_kind_is_named():
    with pytest.raises(UnknownNameError, match="No target kind named 'class'"):
        read(texts(3), labels=["a", "b", "c"], target_kind="class")

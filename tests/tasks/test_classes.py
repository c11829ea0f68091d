import pytest

from fewshot_automl.data import audit, read, read_like
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


@pytest.mark.parametrize(
    ("spellings", "name"),
    [
        (["Spam", "spam", "spam", " SPAM\u00a0"], "spam"),
        (["n\u00e9e", "ne\u0301e", "ne\u0301e"], "n\u00e9e"),
        (["ok\u200b", "ok\u200b", "\ufeffok"], "ok\u200b"),
        (["1", "1.00", 1.0], "1"),
    ],
)
def test_spellings_of_one_class_are_named_and_joined_if_asked(spellings, name):
    labels = [*spellings, *["x"] * len(spellings)]
    dataset = read(texts(len(labels)), labels=labels)
    (found,) = (f for f in audit(dataset).findings if f.kind == "similar class names")
    assert "--tidy-labels" in found.message
    tidy = read(texts(len(labels)), labels=labels, tidy_labels=True)
    assert tidy.task.names == (name, "x")
    assert any(f"as {name!r}" in note for note in tidy.inferred)
    assert not [f for f in audit(tidy).findings if f.severity == "warning"]


@pytest.mark.parametrize(
    "word", ["NaN", "N/A", "#N/A", "null", "None", "\\N", "-", "?"]
)
def test_spellings_of_nothing_are_named_and_dropped_if_asked(word):
    labels = ["a", "b", word, "a", "b", word]
    (found,) = audit(read(texts(6), labels=labels)).findings
    assert (found.kind, found.where) == ("label for nothing", ("row 2", "row 5"))
    tidy = read(texts(6), labels=labels, tidy_labels=True)
    assert tidy.examples.targets.tolist() == [0, 1, -1, 0, 1, -1]
    assert f"Labels read: {word!r} (2) as no label." in tidy.inferred


@pytest.mark.parametrize(
    "labels", [["+", "-"], ["007", "7"], ["C", "C++"], ["\U0001f44d", "\U0001f44e"]]
)
def test_names_that_differ_stay_apart(labels):
    dataset = read(texts(4), labels=labels * 2, tidy_labels=True)
    assert set(dataset.task.names) == set(labels)
    assert audit(dataset).findings == ()


def test_test_labels_are_tidied_as_the_training_labels_were():
    rows = {"t": texts(4), "y": ["Spam", "ham", "Spam", "N/A"]}
    dataset = read(rows, target="y", tidy_labels=True)
    test = {"t": texts(3), "y": ["SPAM ", "null", "ham"]}
    read_again = read_like(test, dataset.task, dataset.columns)
    assert read_again.targets.tolist() == [1, -1, 0]


def test_grades_with_gaps_are_still_numbers():
    labels = [*[f"{i / 10:.1f}" for i in range(30)], "N/A"]
    with pytest.raises(TaskError, match="--task classes"):
        read(texts(31), labels=labels)

import pytest

from fewshot_automl.data import Columns, read, read_inputs, read_like
from fewshot_automl.errors import DataError, TaskError, UserError
from fewshot_automl.tasks import Task

TITLED = {
    "id": ["1", "2", "3"],
    "title": ["Good", "Bad", "Hm"],
    "body": ["I liked it a lot", "I did not like it", "I do not know"],
    "stars": ["p", "n", "p"],
}


def test_the_input_and_the_next_best_are_named():
    dataset = read(TITLED, target="stars")
    assert dataset.columns == Columns(input="body", target="stars")
    assert dataset.inferred[0] == (
        "Input: texts in column 'body' (by name, wording and length); "
        "left out, the next best first: 'title' (choose with --text or --image)."
    )
    assert (
        read(TITLED, target="stars", inputs={"text": "title"}).examples.inputs[0]
        == "Good"
    )


RIVALS = {
    "tweet_id": ["b1f7c3d2-0000-4c59-8e1f-33ac", "c9d8e7f6-0000-4a41-9c2e-77bd"],
    "href": ["see https://example.org/p/83", "https://example.org/about/this-page"],
    "created": ["Mon Jan 05 10:03:22 +0000 2026", "2026-01-05T10:03:22+00:00"],
    "meta": ['{"lang": "en", "kind": "a longer story"}', '{"lang": "de"}'],
    "mail": ["somebody.with.a.long.name@example.org", "another.one@example.org"],
    "notice": ["This message may be confidential, please delete it."] * 2,
    "author": ["Johann Wolfgang von Goethe", "Friederike Caroline Neuber"],
    "tweetSource": ["Some App for the Phone", "Another One on the Web, the Beta"],
}


@pytest.mark.parametrize("rival", RIVALS)
@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("text", ["so good", "so bad"]),
        ("user_review", ["\u5f88\u597d", "\u4e0d\u597d"]),
    ],
)
def test_short_texts_win_over_longer_cells_that_are_none(rival, name, cells):
    rows = {rival: RIVALS[rival], name: cells, "y": ["p", "n"]}
    rows = {key: values * 3 for key, values in rows.items()}
    assert read(rows, target="y").columns.input == name


@pytest.mark.parametrize(
    "names", [("title", "article"), ("subject", "message"), ("text", "text_clean")]
)
def test_the_longer_of_two_texts_is_the_input(names):
    rows = dict(zip(names, (TITLED["title"], TITLED["body"]), strict=True))
    assert read(rows, labels=["p", "n", "p"]).columns.input == names[1]


def test_image_paths_win_over_texts_unless_the_user_chooses(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.jpg").touch()
    table = {"file": ["a.jpg", "b.jpg"], "alt": ["a cat", "a dog"], "y": ["c", "d"]}
    assert read(table, target="y").columns.input == "file"
    assert read(table, target="y", modality="text").columns.input == "alt"
    assert (
        read(table, target="y", inputs={"text": "file"}).examples.inputs[0] == "a.jpg"
    )


@pytest.mark.parametrize(
    ("choice", "says"),
    [
        ({"inputs": {"text": "title", "image": "id"}}, "must be one column"),
        (
            {"inputs": {"text": "title"}, "modality": "image"},
            "must be 'text' for a text column",
        ),
        ({"modality": "image"}, "must have a column of images"),
        ({"modality": "sound"}, "No modality named 'sound'"),
    ],
)
def test_wishes_that_cannot_be_met_are_refused(choice, says):
    with pytest.raises(UserError, match=says):
        read(TITLED, target="stars", **choice)


def test_tables_of_numbers_are_refused():
    with pytest.raises(TaskError, match="Tables of numbers are not supported yet"):
        read({"a": ["1", "2"], "b": [0.5, 1.5], "y": ["p", "n"]}, target="y")


def test_without_a_target_one_is_guessed_but_not_taken():
    table = {"text": ["a b", "c d", "e f", "g"], "Label": ["p", "n", "p", "n"]}
    with pytest.raises(DataError, match=r"'Label' looks like one \(2 distinct values"):
        read(table)


def test_a_misspelt_column_shows_the_closest():
    with pytest.raises(DataError, match=r"got 'Star'.*Closest: 'stars'"):
        read(TITLED, target="Star")
    with pytest.raises(DataError, match="Text must be a column of mapping"):
        read(TITLED, target="stars", inputs={"text": "boddy"})


def test_a_model_finds_its_column_again_or_says_so():
    dataset = read(TITLED, target="stars", inputs={"text": "title"})
    rows = {"title": ["Fine"], "body": ["a much longer text"]}
    examples = read_inputs(rows, dataset.task, dataset.columns)
    assert examples.inputs == ("Fine",)
    with pytest.raises(DataError, match="Text must be a column of mapping"):
        read_inputs({"body": ["x"]}, dataset.task, dataset.columns)


def test_a_model_from_a_list_reads_tables_and_the_other_way_round():
    from_list = read(["so good", "so bad"], labels=["p", "n"])
    examples = read_inputs({"t": ["hm"], "n": [1]}, from_list.task, from_list.columns)
    assert examples.inputs == ("hm",)
    from_table = read(TITLED, target="stars")
    examples = read_inputs(["hm", "eh"], from_table.task, from_table.columns)
    assert examples.targets.tolist() == [-1, -1]


def test_a_text_model_refuses_images(tmp_path):
    task = Task(modality="text", names=("n", "p"))
    with pytest.raises(TaskError, match="must have a column of texts"):
        read_inputs([tmp_path / "a.png"], task, Columns())


def test_test_labels_become_the_tasks_indices():
    dataset = read(TITLED, target="stars")
    test = {"body": ["x y", "z", "w"], "y": ["n", "p", None]}
    examples = read_like(test, dataset.task, dataset.columns, "y")
    assert examples.targets.tolist() == [0, 1, -1]


def test_test_labels_that_are_missing_or_unknown_are_refused():
    dataset = read(TITLED, target="stars")
    test = {"body": ["x y", "z"], "stars": ["n", "great"]}
    with pytest.raises(DataError, match=r"one of 'n', 'p', got 'great' in row 1"):
        read_like(test, dataset.task, dataset.columns)
    with pytest.raises(DataError, match="got none in column 'stars' of mapping"):
        read_like({**test, "stars": [None, ""]}, dataset.task, dataset.columns)

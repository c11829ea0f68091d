import csv
import io
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from fewshot_automl.cli.entry import run
from fewshot_automl.cli.models import with_predictions, write_table
from fewshot_automl.tasks import Task

TASK = Task(modality="text", names=("no", "yes"))
COLUMNS = {
    "text": ['with, comma and "quotes"', "line\nbreak", "é"],
    "stars": ["1", None, "3"],
    "photo": [Path("a/b.jpg"), None, {"bytes": b"x", "path": "c.png"}],
}
PROBA = np.array([[0.25, 0.75], [0.5, 0.5], [1.0, 0.0]])


@pytest.fixture
def columns():
    return with_predictions(COLUMNS, TASK, PROBA, True, {})


def test_input_columns_come_first_and_stay(columns):
    assert list(columns) == [*COLUMNS, "prediction", "proba_no", "proba_yes"]
    assert columns["prediction"] == ["yes", "no", "no"]
    assert columns["text"] is COLUMNS["text"]


def test_columns_of_the_data_are_kept_under_their_names():
    old = {"prediction": ["x"] * 3, "prediction_2": ["y"] * 3}
    made = with_predictions(old, TASK, PROBA, False, {})
    assert made == {**old, "prediction_3": ["yes", "no", "no"]}


def test_a_row_that_cannot_be_read_says_so(tmp_path):
    made = with_predictions(COLUMNS, TASK, PROBA, False, {1: "it is empty"})
    assert made["prediction"] == ["yes", None, "no"]
    assert made["problem"] == [None, "it is empty", None]


def test_what_is_not_utf_8_can_be_written(tmp_path):
    names = [Path(os.fsdecode(b"th\xe9.png")), "half a pair \ud83d"]
    for suffix in (".csv", ".jsonl", ".parquet"):
        write_table({"name": names}, tmp_path / f"out{suffix}")
    assert "thé.png" in (tmp_path / "out.csv").read_text("utf-8")


@pytest.mark.parametrize(("suffix", "delimiter"), [(".csv", ","), (".TSV", "\t")])
def test_delimited(columns, suffix, delimiter, tmp_path):
    path = tmp_path / f"out{suffix}"
    write_table(columns, path)
    with path.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter=delimiter))
    assert [row["text"] for row in rows] == COLUMNS["text"]
    assert [row["stars"] for row in rows] == ["1", "", "3"]
    assert [row["photo"] for row in rows] == [str(Path("a/b.jpg")), "", "c.png"]
    assert [float(row["proba_yes"]) for row in rows] == [0.75, 0.5, 0.0]


def test_json_lines(columns, tmp_path):
    write_table(columns, tmp_path / "out.jsonl")
    lines = (tmp_path / "out.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert rows[1]["stars"] is None
    assert rows[2]["text"] == "é"
    assert rows[0]["proba_no"] == 0.25


def test_parquet(columns, tmp_path):
    mixed = {**columns, "mixed": [1, "two", None]}
    write_table(mixed, tmp_path / "out.parquet")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column("prediction").to_pylist() == ["yes", "no", "no"]
    assert table.column("proba_no").to_pylist() == PROBA[:, 0].tolist()
    assert table.column("mixed").to_pylist() == ["1", "two", None]


def test_standard_output(columns, capsys):
    write_table(columns, None)
    assert capsys.readouterr().out.startswith("text,stars,photo,prediction,proba_no")


def test_an_answer_is_whole_where_stdout_cannot_hold_it(columns, monkeypatch, capfd):
    stdout = io.TextIOWrapper(io.BytesIO(), encoding="cp1252", newline="")
    monkeypatch.setattr("sys.stdout", stdout)
    write_table({**columns, "zh": ["账单", "技术", "é"]}, None)
    stdout.flush()
    rows = list(csv.DictReader(io.StringIO(stdout.buffer.getvalue().decode("utf-8"))))
    assert [row["zh"] for row in rows] == ["账单", "技术", "é"]
    assert "written in UTF-8" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("out", "words"),
    [("a.xlsx", "got 'a.xlsx'"), ("nowhere/a.csv", "must be in a folder that exists")],
)
def test_where_to_write_is_checked_before_any_work(tmp_path, capsys, out, words):
    assert run(["predict", str(tmp_path), "x.csv", "--out", out]) == 2
    assert words in capsys.readouterr().err


def test_a_file_that_cannot_be_written_is_refused_before_any_work(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK)
    monkeypatch.chdir(tmp_path)
    assert run(["predict", str(tmp_path), "x.csv", "--out", "a.csv"]) == 2
    assert "a file that can be written" in capsys.readouterr().err

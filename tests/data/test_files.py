import json

import numpy as np
import pandas as pd
import pytest

from fewshot_automl.data import Columns, read, read_inputs
from fewshot_automl.errors import DataError
from fewshot_automl.tasks import Task

TASK = Task(modality="text", names=("n", "p"))


def test_json_is_a_list_of_rows(tmp_path):
    (tmp_path / "a.json").write_text('[{"t": "so good", "y": 1}, {"t": "bad", "y": 0}]')
    examples = read(tmp_path / "a.json", target="y").examples
    assert (examples.inputs, examples.origins[1]) == (("so good", "bad"), "a.json:2")


def test_json_lines_count_blank_lines_and_keep_nulls_unlabelled(tmp_path):
    lines = ['{"t": "so good", "y": 1}', "", '{"t": "so\\nbad", "y": 0}', '{"t": "hm"}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    dataset = read(tmp_path / "a.jsonl", target="y")
    assert dataset.examples.origins == ("a.jsonl:1", "a.jsonl:3", "a.jsonl:4")
    assert dataset.examples.targets.tolist() == [1, 0, -1]
    assert dataset.task.names == ("0", "1")


def test_a_line_separator_inside_a_json_string_does_not_split_it(tmp_path):
    rows = [{"t": "a\u2028b", "y": "p"}, {"t": "c", "y": "n"}]
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "a.jsonl").write_text(text, encoding="utf-8")
    assert read(tmp_path / "a.jsonl", target="y").examples.inputs[0] == "a\u2028b"


def test_half_a_character_pair_becomes_a_replacement_character(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"t": "a\\ud83d", "y": "p"}\n{"t":"b","y":"n"}')
    assert read(tmp_path / "a.jsonl", target="y").examples.inputs[0] == "a\ufffd"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.jsonl", '{"t": "x"}\n{"t": ', r"JSON must be valid.*a\.jsonl:2"),
        ("a.jsonl", '["x"]', r"must be an object, got list in a\.jsonl:1"),
        ("a.json", '{"t": ["x"]}', "must be a list of objects, got dict"),
        ("a.jsonl", "\n", "at least one row"),
        ("a.json", "[]", "at least one row"),
        ("a.parquet", "no parquet", "Parquet file must be readable"),
        ("a.xlsx", "x", r"must end in \.csv.*got 'a\.xlsx'"),
    ],
)
def test_broken_files_say_what_is_wrong_and_where(tmp_path, name, content, says):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=says):
        read(tmp_path / name, target="y")


def test_parquet_keeps_integers_beside_missing_labels(tmp_path):
    frame = pd.DataFrame({"t": ["good", "bad", "hm"], "y": [1, 0, np.nan]})
    frame.to_parquet(tmp_path / "a.parquet")
    dataset = read(tmp_path / "a.parquet", target="y")
    assert dataset.task.names == ("0", "1")
    assert dataset.examples.targets.tolist() == [1, 0, -1]
    assert dataset.examples.origins[0] == "a.parquet:1"
    frame[:0].to_parquet(tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"at least one row, got none in a\.parquet"):
        read(tmp_path / "a.parquet", target="y")


def test_a_missing_file_offers_the_nearest_names(tmp_path):
    (tmp_path / "reviews.csv").write_text("t,y\na,p\n")
    with pytest.raises(DataError, match=r"existing file.*Closest: 'reviews\.csv'"):
        read(tmp_path / "review.csv", target="y")


def test_lines_of_a_text_file_can_be_predicted_for(tmp_path):
    (tmp_path / "a.txt").write_bytes("so\u2028 good\n\nso\fbad\r\n\n".encode())
    examples = read_inputs(tmp_path / "a.txt", TASK, Columns(input="review"))
    assert examples.inputs == ("so\u2028 good", "", "so\fbad", "")
    assert examples.origins == ("a.txt:1", "a.txt:2", "a.txt:3", "a.txt:4")


def test_a_blank_line_is_a_row_of_a_table_with_one_column(tmp_path):
    (tmp_path / "a.csv").write_text("review\nso good\n\nso bad\n")
    examples = read_inputs(tmp_path / "a.csv", TASK, Columns(input="review"))
    assert examples.inputs == ("so good", "", "so bad")

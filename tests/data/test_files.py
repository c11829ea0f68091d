import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from fewshot_automl.data import Columns, read, read_inputs
from fewshot_automl.errors import DataError, TaskError
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
        ("a.jsonl", '["x"]', r"must be an object, got str in a\.jsonl:1"),
        ("a.json", '[["x", "p"]]', r'got list in a\.json:1.*orient="records"'),
        ("a.json", '{"t": ["x"], "y": [1, 2]}', "must hold one table"),
        ("a.jsonl", "\n", "at least one row"),
        ("a.json", "[]", "at least one row"),
        ("a.parquet", "no parquet", "Parquet file must be readable"),
        ("a.xlsx", "x", r"Excel file must be readable.*a\.xlsx"),
        ("a.xls", "x", r"must end in \.csv.*got 'a\.xls'"),
        ("a.txt", "a,p\nb,n\n", r"name of a table ends in \.csv"),
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


FRAME = pd.DataFrame({"t": ["so good", "so bad", "NA"], "y": ["p", "n", None]})


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
@pytest.mark.parametrize("index", [None, ["a", "b", "c"]])
@pytest.mark.parametrize("orient", ["columns", "index", "split", "records", "table"])
def test_what_pandas_writes_as_json_is_read(tmp_path, orient, index, suffix):
    path = tmp_path / f"a.{suffix}"
    FRAME.set_axis(index or range(3)).to_json(path, orient=orient)
    dataset = read(path, target="y", inputs={"text": "t"})
    assert dataset.examples.inputs == tuple(FRAME["t"])
    assert dataset.examples.targets.tolist() == [1, 0, -1]


def test_objects_one_after_the_other_are_rows_whatever_the_suffix(tmp_path):
    rows = [{"t": "a b", "y": "p"}, {"t": "c", "y": "n"}]
    (tmp_path / "a.json").write_text("\n\n".join(json.dumps(r, indent=1) for r in rows))
    dataset = read(tmp_path / "a.json", target="y")
    assert dataset.examples.inputs == ("a b", "c")
    assert dataset.examples.origins == ("a.json:1", "a.json:6")
    for more in ({}, {"version": 1}, {"tags": ["x"]}):
        (tmp_path / "a.json").write_text(json.dumps({**more, "data": rows}))
        assert read(tmp_path / "a.json", target="y").examples.inputs == ("a b", "c")


def test_a_workbook_is_read_below_its_title_and_other_sheets_are_named(tmp_path):
    with pd.ExcelWriter(tmp_path / "a.xlsx") as book:
        pd.DataFrame().to_excel(book, sheet_name="empty")
        rows = FRAME.assign(n=[1, 2.5, 3])
        rows.to_excel(book, sheet_name="data", index=False, startrow=2)
        book.sheets["data"]["A1"] = "Survey"
        FRAME.to_excel(book, sheet_name="more")
    dataset = read(tmp_path / "a.xlsx", target="y")
    assert dataset.examples.inputs == tuple(FRAME["t"])
    assert dataset.examples.targets.tolist() == [1, 0, -1]
    assert dataset.examples.origins[0] == "a.xlsx:4"
    assert dataset.inferred[0] == "Sheet: the first of 'data', 'more'."
    assert read(tmp_path / "a.xlsx", target="n", target_kind="classes").task.names == (
        *("1", "2.5", "3"),
    )


def test_unicode_text_is_a_table_and_prose_with_tabs_is_not(tmp_path):
    (tmp_path / "a.txt").write_text("t\ty\ngood\tp\nbad\tn\n", encoding="utf-16")
    assert read(tmp_path / "a.txt", target="y").task.names == ("n", "p")
    (tmp_path / "a.txt").write_text("so\tgood\nso bad\n")
    assert len(read_inputs(tmp_path / "a.txt", TASK, Columns())) == 2


def test_ids_of_images_beside_the_table_are_their_files(tmp_path):
    (tmp_path / "pictures").mkdir()
    for name in ("1", "2"):
        Image.new("RGB", (9, 9)).save(tmp_path / "pictures" / f"{name}.PNG")
    (tmp_path / "a.csv").write_text("id,y\n1,p\n2,n\n")
    dataset = read(tmp_path / "a.csv", target="y")
    assert dataset.examples.inputs[1] == tmp_path / "pictures" / "2.PNG"
    assert dataset.columns == Columns(input="id file", target="y")
    assert "see the new column 'id file'" in dataset.inferred[0]
    with pytest.raises(DataError, match="see the new column 'id file'"):
        read(tmp_path / "a.csv", target="y", inputs={"image": "id"})
    (tmp_path / "masks").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "masks" / "1.png")
    with pytest.raises(TaskError, match=r"'id' names .*masks/1\.png.*: write paths"):
        read(tmp_path / "a.csv", target="y")


def test_labels_with_the_names_of_images_are_not_their_files(tmp_path):
    for name in ("0", "1"):
        Image.new("RGB", (9, 9)).save(tmp_path / f"{name}.png")
    (tmp_path / "a.csv").write_text("t,y,n\nso,0,0\nhm,1,1\nno,1,1\n")
    assert read(tmp_path / "a.csv", target="y").task.modality == "text"


def test_one_image_can_be_predicted_for(tmp_path):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    task = Task(modality="image", names=("n", "p"))
    for source in (tmp_path / "a.png", str(tmp_path / "a.png")):
        assert read_inputs(source, task, Columns()).inputs == (tmp_path / "a.png",)
    data = (tmp_path / "a.png").read_bytes()
    assert read_inputs(data, task, Columns()).inputs == (data,)

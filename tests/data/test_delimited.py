import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewshot_automl.data import read
from fewshot_automl.data.delimited import read_delimited
from fewshot_automl.errors import DataError

CELLS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = st.sampled_from(
    ["1.0", "007", "NA", "True", "null", " x ", 'a"b', "a,b", "é\n"]
)


@given(rows=st.lists(st.tuples(CELLS, NAMES | st.just("")), min_size=1, max_size=8))
def test_a_written_csv_reads_back_cell_by_cell(rows, tmp_path_factory):
    rows = [("first", "1.0"), ("second", "007"), *rows]
    path = tmp_path_factory.mktemp("round") / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("text", "label"), *rows])

    dataset = read(path, target="label", inputs={"text": "text"}, target_kind=None)

    names = [dataset.task.names[i] if i >= 0 else "" for i in labels_of(dataset)]
    texts = [text if text.strip() else "" for text, _ in rows]
    assert list(dataset.examples.inputs) == texts
    assert names == [label for _, label in rows]
    assert dataset.examples.origins[-1] == f"rows.csv:{len(rows) + 1}"


def labels_of(dataset):
    return dataset.examples.targets.tolist()


@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=8))
def test_every_delimiter_keeps_count_and_order(rows):
    for delimiter in ",;|":
        file = io.StringIO(newline="")
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL)
        writer.writerows([("text", "label"), *rows])
        table = read_delimited(file.getvalue(), "x.csv")
        assert list(zip(*table.columns.values(), strict=True)) == rows


def test_rows_are_counted_as_a_spreadsheet_shows_them():
    table = read_delimited('text,y\n"two\nlines",p\n\nlast,n\n', "x.csv")
    assert table.columns["text"] == ["two\nlines", "last"]
    assert table.origins == ("x.csv:2", "x.csv:4")


def test_a_tsv_cell_that_begins_with_a_quote_swallows_no_rows():
    text = 'text\ty\n"Down past the lounge.\t1\nNuclear!\t2\nso he said"\t1\n'
    table = read_delimited(text, "x.tsv")
    assert table.columns["text"][0] == '"Down past the lounge.'
    assert len(table) == 3
    assert "Quotes" in table.notes[-1]


def test_unpaired_quotes_in_even_rows_are_read_plainly():
    table = read_delimited('text,y\n"open,p\nb,n\n', "x.csv")
    assert table.columns["text"] == ['"open', "b"]


def test_unpaired_quotes_elsewhere_are_an_error():
    with pytest.raises(DataError, match=r"Quotes must come in pairs.*x\.csv:2"):
        read_delimited('text,y\n"open,p\nb,c,n\n', "x.csv")


def test_a_cell_too_many_names_its_row_and_the_remedy():
    with pytest.raises(DataError, match=r"2 cells.*got 3 in x\.csv:3\. Put quotes"):
        read_delimited("text,y\na,p\nwell, well,n\n", "x.csv")


def test_short_rows_are_filled_and_found():
    table = read_delimited("text,y\na,p\nb\n", "x.csv")
    assert table.columns["y"] == ["p", ""]
    assert table.findings[0].where == ("x.csv:3",)


def test_a_very_long_cell_is_read_and_the_limit_left_as_it_was():
    before = csv.field_size_limit()
    table = read_delimited(f"text,y\n{'a' * 200_000},p\n", "x.csv")
    assert len(table.columns["text"][0]) == 200_000
    assert csv.field_size_limit() == before


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "got nothing"),
        ("\n\n", "got nothing"),
        ("text,y\n", "only the header"),
        ("text,text\na,b\n", "must be distinct"),
    ],
)
def test_tables_without_rows_or_with_one_name_twice_are_refused(text, says):
    with pytest.raises(DataError, match=says):
        read_delimited(text, "x.csv")


ROWS = "text{0}y\nwell, well{0}p\nso; so{0}n\n"


@pytest.mark.parametrize("line", ["sep={}\n", '"SEP={}"\r\n'])
@pytest.mark.parametrize("delimiter", [";", "\t", "|", "^"])
def test_the_line_that_tells_excel_the_delimiter_is_believed(line, delimiter):
    rows = ROWS.replace("so; so", "so").format(delimiter)
    table = read_delimited(line.format(delimiter) + rows, "x.csv")
    assert table.columns == {"text": ["well, well", "so"], "y": ["p", "n"]}
    assert table.origins[0] == "x.csv:2"


@pytest.mark.parametrize("delimiter", ["\t", "|"])
@pytest.mark.parametrize(
    ("above", "row"), [("Report", 2), ("# by a tool\n# 2.0", 3), ("Report{0}\n{0}", 3)]
)
def test_what_stands_above_the_header_is_left_out_and_said(above, row, delimiter):
    table = read_delimited(f"{above}\n{ROWS}".format(delimiter), "x.csv")
    assert list(table.columns) == ["text", "y"]
    assert table.origins == (f"x.csv:{row + 1}", f"x.csv:{row + 2}")
    assert f"header is row {row}. Left out" in table.findings[0].message


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("text\nhi; there\nbye; now\n", ["text"]),
        (",text\n0,hello\n1,bye\n", ["column 1", "text"]),
        ("text,\nhello,\nso,note\nbye,\nyes,\n", ["text", "column 2"]),
    ],
)
def test_a_header_with_one_name_is_no_title(text, columns):
    assert list(read_delimited(text, "x.csv").columns) == columns


def test_rows_above_the_header_may_have_several_cells_but_fewer():
    table = read_delimited("by,Ann\ntext,y,z\na,b,c\nd,e,\nf,g,h\n", "x.csv")
    assert table.columns["z"] == ["c", "", "h"]
    with pytest.raises(DataError, match="Remove what stands above the header"):
        read_delimited("by,Ann\nat,home\ntext,y,z\na,b,c\n", "x.csv")


def test_quotes_behind_backslashes_are_read_and_said():
    text = 'text,y\n"say \\"hi\\", then",p\n"so\\"",n\n'
    table = read_delimited(text, "x.csv")
    assert table.columns["text"] == ['say "hi", then', 'so"']
    assert "quote within a cell" in table.notes[-1]

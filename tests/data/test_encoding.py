import pytest

from fewshot_automl.data import audit, read
from fewshot_automl.errors import DataError

ROWS = "text,y\ncafé fin,p\nthé noir,n\n"


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
)
def test_unicode_files_read_without_a_word(tmp_path, encoding):
    (tmp_path / "a.csv").write_bytes(ROWS.encode(encoding))
    dataset = read(tmp_path / "a.csv", target="y")
    assert dataset.examples.inputs == ("café fin", "thé noir")
    assert not any("Encoding" in sentence for sentence in dataset.inferred)


def test_a_windows_file_is_read_and_said(tmp_path):
    rows = "text,y\n“café” 5 €,p\nthé,n\n"
    (tmp_path / "a.csv").write_bytes(rows.encode("cp1252"))
    dataset = read(tmp_path / "a.csv", target="y")
    assert dataset.examples.inputs == ("“café” 5 €", "thé")
    assert "Encoding: Windows-1252" in dataset.inferred[0]
    assert "a.csv:2" in dataset.inferred[0]


def test_bytes_that_windows_leaves_empty_do_not_stop_the_reading(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"text,y\na\x81b,p\nc,n\n")
    assert read(tmp_path / "a.csv", target="y").examples.inputs[0] == "a\x81b"


def test_mixed_encodings_are_found_with_their_row(tmp_path):
    lines = [b"text,y", "café".encode() + b",p", "thé".encode("cp1252") + b",n"]
    (tmp_path / "a.csv").write_bytes(b"\n".join(lines))
    dataset = read(tmp_path / "a.csv", target="y")
    assert dataset.examples.inputs == ("café", "thé")
    finding = next(f for f in audit(dataset).findings if f.kind == "encoding")
    assert finding.severity == "warning"
    assert finding.where == ("a.csv:3",)


def test_another_alphabet_in_an_old_encoding_is_a_warning(tmp_path):
    rows = "text,y\nлюбишь жить дружно,p\nвыйди быстрым шагом,n\n"  # noqa: RUF001
    (tmp_path / "a.csv").write_bytes(rows.encode("cp1251"))
    finding = read(tmp_path / "a.csv", target="y").findings[0]
    assert (finding.kind, finding.severity) == ("encoding", "warning")
    assert "Save it as UTF-8" in finding.message


def test_a_workbook_named_csv_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"PK\x03\x04rest")
    with pytest.raises(DataError, match="Save the sheet as CSV"):
        read(tmp_path / "a.csv", target="y")


def test_broken_utf16_is_refused(tmp_path):
    (tmp_path / "a.csv").write_bytes(ROWS.encode("utf-16")[:-1])
    with pytest.raises(DataError, match="broken utf-16"):
        read(tmp_path / "a.csv", target="y")

import numpy as np
import pytest
from PIL import Image

from fewshot_automl.data import audit, read, read_like
from fewshot_automl.errors import DataError


def kinds(found):
    return [finding.kind for finding in found.findings]


def only(found, kind):
    (finding,) = [finding for finding in found.findings if finding.kind == kind]
    return finding


def clean(count=6):
    return [f"some text {i}" for i in range(count)], ["p", "n"] * (count // 2)


def with_rows(*rows):
    texts, labels = clean()
    return read(
        [*texts, *(t for t, _ in rows)], labels=[*labels, *(y for _, y in rows)]
    )


def test_clean_data_pass_without_a_word():
    texts, labels = clean()
    found = audit(read(texts, labels=labels))
    assert found.lines() == []
    found.raise_if_fatal()


def test_empty_texts_are_left_out_with_their_place():
    found = audit(with_rows(("", "p"), (" \n", None)))
    assert len(found.examples) == 6
    assert found.lines() == ["warning: 2 empty texts left out. (row 6, row 7)"]


def test_copies_within_a_class_are_kept_once():
    found = audit(with_rows(("Some  TEXT 0", "p"), ("some text 0", None)))
    assert len(found.examples) == 7  # the unlabelled one is no copy
    assert only(found, "copy").where == ("row 6",)
    assert only(found, "copy").severity == "note"


def test_conflicting_labels_are_listed_with_what_they_say():
    found = audit(with_rows(("some text 0", "n")))
    finding = only(found, "conflicting labels")
    assert finding.where == ("row 0 'p'", "row 6 'n'")
    assert len(found.examples) == 7
    assert not found.fatal()


def test_nothing_is_learnt_where_all_labels_conflict():
    with pytest.raises(DataError, match="4 examples labelled in more than one way"):
        audit(read(list("abcdabcd"), labels=list("ppppnnnn"))).raise_if_fatal()


def test_training_examples_in_the_test_are_counted():
    texts, labels = clean()
    dataset = read(texts, labels=labels)
    rows = {"t": ["SOME text 1", "x"], "y": ["n", "p"]}
    test = read_like(rows, dataset.task, dataset.columns, "y")
    finding = only(audit(dataset, test=test), "train in test")
    assert (finding.severity, finding.where) == ("warning", ("row 1",))


def test_a_class_with_one_example_is_fatal_and_named():
    found = audit(with_rows(("lonely", "q")))
    with pytest.raises(DataError, match=r"too few in 'q' \(1\)\. Add.*\(row 6\)"):
        found.raise_if_fatal()


def test_a_target_like_an_id_is_fatal():
    texts = [f"text {i}" for i in range(20)]
    dataset = read(texts, labels=[f"user-{i}" for i in range(20)])
    with pytest.raises(DataError, match="looks like an id or free text"):
        audit(dataset).raise_if_fatal()


def test_uneven_classes_and_similar_names_are_noted():
    texts = [f"text {i}" for i in range(44)]
    labels = ["Big"] * 40 + ["small"] * 2 + ["big "] * 2
    found = audit(read(texts, labels=labels))
    assert only(found, "uneven classes").severity == "note"
    assert "'Big' (40), 'big ' (2)" in only(found, "similar class names").message


def test_a_class_name_in_its_texts_is_a_leak():
    texts = [f"a spam text {i}" for i in range(6)] + [f"a text {i}" for i in range(6)]
    found = audit(read(texts, labels=["spam"] * 6 + ["ham"] * 6))
    finding = only(found, "label in text")
    assert "'spam'" in finding.message
    assert finding.count == 6


def test_a_column_that_tells_the_label_is_reported():
    texts, labels = clean()
    codes = [{"p": "1", "n": "0"}[label] for label in labels]
    dataset = read({"t": texts, "y": labels, "code": codes}, target="y")
    assert "'code'" in only(audit(dataset), "telling column").message


def test_broken_letters_and_few_texts_are_noted():
    found = audit(with_rows(("caf\u00c3\u00a9 au lait", "p"), ("a" * 5000, "n")))
    assert only(found, "broken letters").where == ("row 6",)
    same = ["yes", "no"] * 10
    assert "few texts" in kinds(audit(read(same, labels=same)))


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
        for i in range(3):
            pixels = rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / label / f"{i}.jpg", quality=95)
    return tmp_path


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


def test_unreadable_images_are_named_and_left_out(photos):
    bad = truncate(photos / "cat" / "0.jpg")
    (photos / "dog" / "zero.png").write_bytes(b"")
    (photos / "dog" / "fake.png").write_text("no image")
    found = audit(read(photos))
    finding = only(found, "unreadable image")
    assert (finding.severity, finding.count) == ("warning", 3)
    assert any(str(bad) in at and "truncated" in at for at in finding.where)
    assert len(found.examples) == 5


def test_strict_refuses_unreadable_images(photos):
    truncate(photos / "cat" / "0.jpg")
    with pytest.raises(DataError, match=r"readable \(strict\), got 1 unreadable"):
        audit(read(photos), strict=True).raise_if_fatal()


def test_unreadable_test_images_are_fatal(photos):
    dataset = read(photos)
    bad = truncate(photos / "cat" / "0.jpg")
    with pytest.raises(DataError, match="Test images must be readable"):
        audit(dataset, test=dataset.examples.take([0])).raise_if_fatal()
    assert bad.exists()


def test_the_same_pixels_in_two_files_are_copies(photos):
    with Image.open(photos / "cat" / "0.jpg") as picture:
        picture.save(photos / "cat" / "again.png")
        picture.save(photos / "dog" / "again.png")
    found = audit(read(photos))
    assert only(found, "copy").where == (str(photos / "cat" / "again.png"),)
    assert only(found, "conflicting labels").count == 3


def test_tables_of_image_paths_are_relative_to_the_table(photos):
    rows = ["cat/0.jpg,cat", "cat\\1.jpg,cat", "dog/0.jpg,dog", "dog/1.jpg,dog"]
    path = photos / "table.csv"
    path.write_text("\n".join(["file,y", *rows, "gone.jpg,dog"]))
    found = audit(read(path, target="y"))
    assert len(found.examples) == 4
    finding = only(found, "unreadable image")
    assert finding.where == ("table.csv:6: there is no such file",)


def test_paths_that_all_lead_nowhere_blame_the_folder(photos):
    (photos / "table.csv").write_text("file,y\nx/0.jpg,cat\nx/1.jpg,dog\n")
    with pytest.raises(DataError, match=r"relative to .*table\.csv:2.*none of them"):
        read(photos / "table.csv", target="y")

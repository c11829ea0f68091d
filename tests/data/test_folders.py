import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fewshot_automl.data import Columns, audit, read, read_inputs, read_like
from fewshot_automl.errors import DataError

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


def draw(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def pets(tmp_path):
    for seed in range(6):
        name = ["cat10", "cat9"][seed % 2]
        draw(tmp_path / "pets" / name / f"{seed}.png", seed)
    return tmp_path / "pets"


def test_folders_are_classes_in_natural_order(pets):
    dataset = read(pets)
    assert dataset.task.modality == "image"
    assert dataset.task.names == ("cat9", "cat10")
    assert dataset.columns == Columns()
    assert dataset.examples.targets.tolist() == [0, 0, 0, 1, 1, 1]
    assert dataset.examples.origins[0] == str(pets / "cat9" / "1.png")
    assert isinstance(dataset.examples.inputs[0], Path)


def test_hidden_files_are_ignored_and_others_are_named(pets):
    (pets / ".DS_Store").write_text("x")
    (pets / "cat9" / "._1.png").write_text("x")
    (pets / "cat9" / "notes.txt").write_text("x")
    (pets / "none").mkdir()
    dataset = read(pets)
    assert len(dataset.examples) == 6
    kinds = {finding.kind: finding.where for finding in dataset.findings}
    assert kinds["ignored file"] == (str(pets / "cat9" / "notes.txt"),)
    assert kinds["empty folder"] == (str(pets / "none"),)


def findings(folder):
    return {found.kind: found for found in read(folder).findings}


def test_nothing_vanishes_from_class_folders(pets):
    deep = draw(pets / "cat9" / "a" / "b" / "c" / "d" / "1.PNG", 20)
    draw(pets / "@eaDir" / "thumb.png", 21)
    draw(pets / "cat9" / ".thumbnails" / "thumb.png", 22)
    for name in ("photo", "scan.jpg_large", "table.csv"):
        (pets / "cat10" / name).write_bytes(b"x")
    (pets / "cat9" / "gone.png").symlink_to(pets / "nowhere.png")
    (pets / "cat9" / "again").symlink_to(pets / "cat9")
    (pets / "cat8").symlink_to(pets / "cat9" / "a")
    dataset, found = read(pets), findings(pets)
    assert dataset.task.names == ("cat8", "cat9", "cat10")
    assert str(deep) in dataset.examples.origins
    assert len(dataset.examples) == 8
    assert found["ignored file"].severity == "warning"
    assert "1 without any, 1 .jpg_large, 1 .csv" in found["ignored file"].message
    names = {Path(place).name for place in found["closed entry"].where}
    assert names == {"gone.png", "again"}
    assert "2 hidden names ignored" in found["hidden file"].message


def test_files_left_out_are_named_where_too_few_classes_are_left(pets):
    for path in (pets / "cat9").iterdir():
        path.rename(path.with_suffix(""))
    with pytest.raises(
        DataError, match=r"(?s)at least 2 classes.*image suffix.*/cat9/"
    ):
        read(pets)


def test_names_that_are_not_utf_8_can_be_written(pets):
    folder = pets / os.fsdecode(b"caf\xe9")
    draw(folder / os.fsdecode(b"th\xe9.png"), 9)
    dataset = read(pets)
    assert dataset.task.names == ("café", "cat9", "cat10")
    assert dataset.examples.origins[0].endswith("café/thé.png")
    assert dataset.examples.inputs[0].exists()


@pytest.mark.parametrize(
    "beside", ["labels/notes.xml", "samples/1.png", "more/a/1.png"]
)
def test_splits_are_splits_whatever_lies_beside_them(tmp_path, beside):
    for seed in range(4):
        draw(tmp_path / "train" / "ab"[seed % 2] / f"{seed}.png", seed)
        if "more" not in beside:
            draw(tmp_path / "val" / "ab"[seed % 2] / f"{seed}.png", 10 + seed)
    if beside.endswith("png"):
        draw(tmp_path / beside, 30)
    else:
        (tmp_path / "labels").mkdir()
        (tmp_path / beside).write_text("x")
    assert read(tmp_path).task.names == ("a", "b")
    found = findings(tmp_path)["beside splits"]
    count = "1 image" if beside.endswith("png") else "0 images"
    assert (found.severity, f"{count})") == (
        "warning",
        found.places()[-len(count) - 1 :],
    )


def test_splits_of_one_kind_are_all_named(tmp_path):
    for split in ("val", "validation", "train"):
        for name in "ab":
            draw(tmp_path / split / name / "1.png")
    assert "not 'val', 'validation'" in read(tmp_path).inferred[0]


def test_images_beside_the_classes_are_unlabelled(pets):
    draw(pets / "new.png", 8)
    draw(pets / "unlabelled" / "x.png", 9)
    dataset = read(pets)
    assert len(dataset.examples.labelled(dataset.task)) == 6
    assert "2 unlabelled" in dataset.inferred[-1]


def test_splits_are_read_apart(pets):
    root = pets.parent / "all"
    root.mkdir()
    for split, first in (("train", 0), ("val", 20), ("test", 40)):
        for seed in range(4):
            draw(root / split / "ab"[seed % 2] / f"{seed}.png", first + seed)
    train = read(root)
    assert "Split: read 'train' of 'all', not" in train.inferred[0]
    assert "/train/" in train.examples.origins[0]
    assert "/val/" in read(root, split="validation").examples.origins[0]
    test = read_like(root, train.task, train.columns)
    assert all("/test/" in origin for origin in test.origins)
    assert len(read_inputs(root, train.task, train.columns)) == 12
    with pytest.raises(DataError, match="Split must be one of"):
        read(root, split="third")


def test_a_class_named_train_is_no_split(pets):
    draw(pets / "train" / "1.png", 10)
    assert read(pets).task.names == ("cat9", "cat10", "train")


def test_flat_folders_can_be_predicted_for_but_not_learnt_from(pets):
    dataset = read(pets)
    flat = pets / "cat9"
    examples = read_inputs(flat, dataset.task, dataset.columns)
    assert len(examples) == 3
    with pytest.raises(DataError, match="one folder for each class"):
        read(flat)


def test_a_folder_without_images_says_how_to_lay_them_out(tmp_path):
    with pytest.raises(DataError, match="Make one folder of images for each class"):
        read(tmp_path)


def test_a_folder_of_split_tables_reads_the_training_table(tmp_path):
    (tmp_path / "train.csv").write_text("t,y\ngood,p\nbad,n\n")
    (tmp_path / "test.csv").write_text("t,y\nfine,p\n")
    dataset = read(tmp_path, target="y")
    test = read_like(tmp_path, dataset.task, dataset.columns, "y")
    assert dataset.examples.inputs == ("good", "bad")
    assert test.inputs == ("fine",)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
def test_real_images_and_texts_pass_the_audit():
    flowers = read(SHARED / "flowers5" / "train")
    found = audit(flowers, test=read(SHARED / "flowers5" / "test").examples)
    found.raise_if_fatal()
    assert (len(found.examples), found.examples.targets.max()) == (200, 4)

    questions = read(SHARED / "trec6" / "train.csv", target="label")
    test = read_like(SHARED / "trec6/test.csv", questions.task, questions.columns)
    found = audit(questions, test=test)
    found.raise_if_fatal()
    assert questions.task.names == ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
    assert len(found.examples) == 2000
    assert len(test) == 490


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def test_text_files_are_read_by_class(tmp_path):
    for name in ("train/p/1.txt", "train/n/2.txt", "train/unsup/3.txt", "test/p/4.txt"):
        write(tmp_path / name, f"café {name}".encode("cp1252"))
    write(tmp_path / "train" / "p" / "notes.md", b"x")
    dataset = read(tmp_path)
    assert dataset.task.names == ("n", "p")
    assert dataset.examples.inputs[0] == "café train/n/2.txt"
    assert dataset.examples.targets.tolist() == [0, 1, -1]
    assert dataset.findings[0].where == (str(tmp_path / "train" / "p" / "notes.md"),)
    assert len(read_inputs(tmp_path / "train", dataset.task, dataset.columns)) == 3


def test_a_folder_around_the_class_folders_is_named(pets):
    with pytest.raises(DataError, match=f"lie in '{pets}'"):
        read(pets.parent)
    assert len(read_inputs(pets.parent, read(pets).task, Columns())) == 6


def test_a_folder_of_other_files_names_one(tmp_path):
    write(tmp_path / "reviews.csv", b"t,y\na,p\n")
    with pytest.raises(DataError, match=r"reviews\.csv.*its file, not its folder"):
        read(tmp_path)

import io

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from PIL import Image

from fewshot_automl.data import Columns, audit, read, read_inputs
from fewshot_automl.errors import DataError, TaskError
from fewshot_automl.modalities import open_image

LABELS = ["n", "p"]
PIXELS = np.arange(2 * 10 * 10 * 3, dtype=np.uint8).reshape(2, 10, 10, 3)


def test_lists_of_texts_with_labels_beside_them():
    dataset = read(["so good", "so bad"], labels=["p", "n"])
    assert dataset.task.names == ("n", "p")
    assert dataset.columns == Columns()
    assert dataset.examples.origins == ("row 0", "row 1")


def test_whole_numbers_have_no_decimals_and_missing_ones_no_label():
    frame = pd.DataFrame(
        {"t": ["good", "bad", "hm", "eh"], "y": [1.0, 0.0, np.nan, None]},
        index=[10, 20, 30, 40],
    )
    dataset = read(frame, target="y")
    assert dataset.task.names == ("0", "1")
    assert dataset.examples.targets.tolist() == [1, 0, -1, -1]
    assert dataset.examples.origins[1] == "row 20"


@pytest.mark.parametrize("dtype", ["category", "string", "object"])
def test_every_kind_of_pandas_column(dtype):
    labels = pd.Series(["p", "n", None]).astype(dtype)
    frame = pd.DataFrame({"t": pd.Series(["good", "bad", "hm"], dtype="string")})
    dataset = read(frame.assign(y=labels), target="y")
    assert dataset.examples.targets.tolist() == [1, 0, -1]


def test_nullable_integers_and_booleans():
    frame = pd.DataFrame({"t": ["good", "bad", "hm"]})
    whole = frame.assign(y=pd.array([1, 0, None], dtype="Int64"))
    truth = frame.assign(y=pd.array([True, False, None], dtype="boolean"))
    assert read(whole, target="y").task.names == ("0", "1")
    assert read(truth, target="y").task.names == ("False", "True")
    assert read(truth, target="y").examples.targets.tolist() == [1, 0, -1]


def test_mappings_of_columns_and_lists_of_rows():
    columns = {"t": ["good", "bad"], "y": ["p", "n"]}
    rows = [{"t": "good", "y": "p"}, {"t": "bad", "y": "n"}]
    for source in (columns, rows):
        dataset = read(source, target="y")
        assert dataset.examples.inputs == ("good", "bad")
        assert dataset.columns == Columns(input="t", target="y")


def test_arrays_of_images():
    dataset = read(PIXELS, labels=LABELS)
    assert dataset.task.modality == "image"
    np.testing.assert_array_equal(dataset.examples.inputs[1], PIXELS[1])
    grey = read(PIXELS[..., :1], labels=LABELS).examples.inputs[0]
    assert isinstance(grey, np.ndarray)
    assert grey.shape == (10, 10)


@pytest.mark.parametrize(
    ("pixels", "said"),
    [
        (PIXELS.astype(np.float32), "from 0 to 255"),
        (PIXELS / 255.0 * 1.0001, "from 0 to 1,"),
        (PIXELS.astype(np.uint16) * 257, "from 0 to 65,535"),
        (PIXELS.astype(np.int64), "from 0 to 255"),
    ],
)
def test_the_range_of_pixels_is_said_and_known_from_each_image(pixels, said):
    for source in (pixels, {"image": pixels, "y": LABELS}):
        labels = None if isinstance(source, dict) else LABELS
        dataset = read(source, labels=labels, target=None if labels else "y")
        first = np.asarray(open_image(dataset.examples.inputs[0]))
        np.testing.assert_array_equal(first, PIXELS[0])
        assert said in " ".join(audit(dataset).lines())


def test_a_frame_of_another_range_does_not_change_its_neighbours():
    few = [PIXELS[0] / 255.0, PIXELS[1].astype(np.float32)]
    for image, plain in zip(
        read(few, labels=LABELS).examples.inputs, PIXELS, strict=True
    ):
        np.testing.assert_array_equal(np.asarray(open_image(image)), plain)


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((8, 8), 3.0),
        np.full((8, 8), "a"),
        np.zeros((3, 8, 8)),
        np.full((8, 8), np.nan),
        np.full((8, 8), 200, np.uint16),
        np.full((8, 8), 4000),
        np.linspace(-2.1, 2.6, 64).reshape(8, 8),
    ],
)
def test_pixels_of_no_known_range_are_refused_with_their_row(pixels):
    says = r"(?s)Pixels must (lie|be numbers).* in row 1|row 1.*transpose\(1, 2, 0\)"
    with pytest.raises(DataError, match=says):
        read([PIXELS[0], pixels], labels=LABELS)


def test_an_array_of_one_image_is_one_example():
    task = read(PIXELS, labels=LABELS).task
    for image in (PIXELS[0], PIXELS[0, ..., :1], torch.from_numpy(PIXELS[0])):
        assert len(read_inputs(image, task, Columns())) == 1
    with pytest.raises(DataError, match="channels first"):
        read_inputs(torch.zeros(3, 8, 8), task, Columns())


@pytest.mark.parametrize(
    "mode", ["L", "RGB", "RGBA", "P", "1", "CMYK", "I;16", "F", "LAB"]
)
def test_pillow_images_of_every_mode_can_be_opened_again(mode):
    picture = Image.new(mode, (9, 7))
    image = read([picture, picture], labels=LABELS).examples.inputs[0]
    assert isinstance(image, np.ndarray)
    assert open_image(image).size == (9, 7)


def test_bytes_and_paths_are_images(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS[0]).save(buffer, "PNG")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    for item in (buffer.getvalue(), tmp_path / "a.png", str(tmp_path / "a.png")):
        dataset = read([item, item], labels=LABELS)
        assert dataset.task.modality == "image"
        assert open_image(dataset.examples.inputs[0]).size == (10, 10)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ([], "at least one row"),
        (pd.DataFrame({"t": [], "y": []}), "at least one row"),
        (np.zeros((4, 3)), "images of shape"),
        (3, "got int"),
        ({"t": ["a"], "y": 1}, "list of cells, got int 'y'"),
        ({"t": ["a"], "y": ["p", "n"]}, "agree in length"),
        ([{1: "a", "1": "b", "y": "p"}], r"distinct, got '1' more than once in list"),
        ([{1: "a", "y": "p"}, {"1": "b", "y": "n"}], "distinct"),
        ({1: ["a"], "1": ["b"], "y": ["p"]}, "distinct, got .* in mapping"),
        (pd.DataFrame([["a", "b"]], columns=[1, "1"]), "distinct, got .* in DataFrame"),
        (np.array([["a", "b"], ["c", "d"]]), "one column of texts"),
        ({"t": [b"so good", b"so bad"], "y": ["p", "n"]}, r"text\.decode\(\)"),
    ],
)
def test_what_is_no_data_is_refused(source, says):
    with pytest.raises(DataError, match=says):
        read(source, target="y")


def test_lists_as_labels_are_multilabel():
    rows = [{"t": "good", "y": ["a", "b"]}, {"t": "bad", "y": ["a"]}]
    with pytest.raises(TaskError, match="one class a row"):
        read(rows, target="y")


def test_columns_of_texts_in_an_array_and_tables_of_other_libraries():
    texts = ["so good", "so bad"]
    for source in (np.array(texts).reshape(2, 1), pa.table({"t": texts})):
        assert read(source, labels=LABELS).examples.inputs == tuple(texts)


def test_names_of_columns_may_be_numbers_or_tuples():
    frame = pd.DataFrame({0: ["so good", "so bad"], ("y", 1): ["p", "n"]})
    dataset = read(frame, target="('y', 1)")
    assert dataset.columns == Columns(input="0", target="('y', 1)")


@pytest.mark.parametrize("labels", ["pn", b"pn", {"p": 1, "n": 2}, {"p", "n"}])
def test_labels_that_would_be_taken_apart_are_refused(labels):
    with pytest.raises(DataError, match="Labels must be a list"):
        read(["good", "bad"], labels=labels)

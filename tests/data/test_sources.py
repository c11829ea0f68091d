import io

import datasets
import numpy as np
import pytest
from PIL import Image

from fewshot_automl.data import Columns, read, read_inputs, read_like
from fewshot_automl.errors import DataError

CLASSES = datasets.ClassLabel(names=["zeta", "alpha", "never"])
FEATURES = datasets.Features({"text": datasets.Value("string"), "label": CLASSES})
ROWS = {"text": ["so good", "so bad", "hm"], "label": [0, 1, -1]}


@pytest.fixture
def reviews():
    return datasets.Dataset.from_dict(ROWS, features=FEATURES)


def test_declared_labels_are_the_target_in_their_declared_order(reviews):
    dataset = read(reviews)
    assert dataset.task.names == ("zeta", "alpha")
    assert dataset.examples.targets.tolist() == [0, 1, -1]
    assert dataset.columns == Columns(input="text", target="label")
    assert any("declared as labels" in sentence for sentence in dataset.inferred)


def test_splits_are_chosen_by_name_and_use(reviews):
    both = datasets.DatasetDict({"train": reviews, "test": reviews.select([1])})
    dataset = read(both)
    assert len(dataset.examples) == 3
    assert read_like(both, dataset.task, dataset.columns).inputs == ("so bad",)
    assert len(read(both, split="train").examples) == 3
    with pytest.raises(DataError, match="must be one of train, test, got 'dev'"):
        read(both, split="dev")
    with pytest.raises(DataError, match="must be one of train, test, got None"):
        read_inputs(both, dataset.task, dataset.columns)


def test_images_stay_encoded():
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((9, 9, 3), dtype=np.uint8)).save(buffer, "PNG")
    picture = {"bytes": buffer.getvalue(), "path": None}
    features = datasets.Features({"img": datasets.Image(), "label": CLASSES})
    rows = {"img": [picture, picture], "label": [0, 1]}
    dataset = read(datasets.Dataset.from_dict(rows, features=features))
    assert dataset.task.modality == "image"
    assert dataset.examples.inputs == (buffer.getvalue(),) * 2


def test_streams_are_refused_with_a_way_out(reviews):
    with pytest.raises(DataError, match=r"stream\.take"):
        read(reviews.to_iterable_dataset(), target="label")


def test_hub_names_are_loaded_with_their_config(monkeypatch, reviews):
    asked = []

    def load(name, config):
        asked.append((name, config))
        return datasets.DatasetDict({"train": reviews})

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert read("hf:owner/name:en").examples.origins[0] == "owner/name:en[train] row 0"
    read("owner/name")
    assert asked == [("owner/name", "en"), ("owner/name", None)]


def test_a_hub_that_cannot_be_reached_is_the_users_error(monkeypatch):
    def load(name, config):
        raise ConnectionError("no route")

    monkeypatch.setattr(datasets, "load_dataset", load)
    with pytest.raises(DataError, match=r"got 'owner/name' \(no route\)"):
        read("hf:owner/name")
    with pytest.raises(DataError, match=r"existing file or folder, got 'reviews'"):
        read("reviews")


@pytest.mark.parametrize(
    "name",
    [
        *("reviews.csv", "a b", "/nowhere/x", "x.xlsx", "great", "~nobody/x", "è/ù"),
        "so good. " * 600,
    ],
)
def test_names_of_missing_files_are_not_looked_up(monkeypatch, name):
    monkeypatch.setattr(datasets, "load_dataset", None)
    with pytest.raises(DataError, match="existing file or folder"):
        read(name)


def test_what_is_to_be_predicted_is_not_looked_up(monkeypatch, reviews):
    monkeypatch.setattr(datasets, "load_dataset", None)
    dataset = read(reviews)
    for text in ("and/or", "great"):
        with pytest.raises(DataError, match="existing file or folder"):
            read_inputs(text, dataset.task, dataset.columns)


def test_split_is_for_sources_that_have_some(tmp_path):
    (tmp_path / "a.csv").write_text("t,y\na,p\nb,n\n")
    for source in (tmp_path / "a.csv", ["a", "b"]):
        with pytest.raises(DataError, match="Split must be left out"):
            read(source, target="y", split="train")

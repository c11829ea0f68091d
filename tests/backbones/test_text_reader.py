from pathlib import Path

import numpy as np
import pytest

from fewshot_automl.backbones.card import TextInput
from fewshot_automl.backbones.readers import TextReader
from fewshot_automl.errors import CardError, DataError, UserError


@pytest.fixture
def folder(tiny_cards, random_weights):
    return random_weights(tiny_cards["tiny-bert"])


@pytest.fixture
def reader(folder):
    return TextReader(TextInput(max_tokens=8, pooling="mean"), folder, 0)


def ids(reader, text):
    return reader.read([text], 0)[0]["input_ids"].tolist()


def test_rows_have_no_padding_though_the_file_asks_for_it(reader):
    assert len(ids(reader, "good film")) == 4
    assert ids(reader, "good film") == ids(reader, "GOOD   film")


def test_long_texts_are_cut(reader):
    assert len(ids(reader, "good " * 10_000)) == 8


@pytest.mark.parametrize("prefix", ["", "good bad "])
@pytest.mark.parametrize("words", [1, 6, 7, 40])
def test_windows_hold_all_of_a_text_and_none_is_cut(folder, prefix, words):
    recipe = TextInput(max_tokens=8, pooling="mean", prefix=prefix)
    reader = TextReader(recipe, folder, 0)
    text = " ".join(
        ("film", "\u65e5", "city", "name", "river")[i % 5] for i in range(words)
    )
    (pieces,) = reader.windows([text])
    assert "".join(pieces) == text
    assert reader.shares_cut(pieces) == [0.0] * len(pieces)
    room = 6 - len(prefix.split())
    assert len(pieces) == -(-words // room)
    assert (reader.shares_cut([text])[0] > 0) == (words > room)


def test_prefix_stands_before_every_text(reader, folder):
    recipe = TextInput(max_tokens=8, pooling="mean", prefix="good ")
    assert ids(TextReader(recipe, folder, 0), "film") == ids(reader, "good film")
    assert TextReader(recipe, folder, 0).recipe != reader.recipe


@pytest.mark.parametrize("text", ["", " ", "\x00", "\ud800", "日本語 🙂", "\n\t"])
def test_strange_texts_give_rows(reader, text):
    assert len(ids(reader, text)) >= 2


def test_an_empty_text_gives_a_row_without_special_tokens_too(folder, tmp_path):
    import json

    bare = json.loads((folder / "tokenizer.json").read_text()) | {
        "post_processor": None
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(bare))
    reader = TextReader(TextInput(max_tokens=8, pooling="mean"), tmp_path, 5)
    assert ids(reader, "") == [5]


@pytest.mark.parametrize("item", [Path("x.jpg"), b"x", np.zeros((2, 2), np.uint8)])
def test_refuses_images(reader, item):
    with pytest.raises(DataError, match=r"must be a text"):
        reader.read(["good", item], 0)


def test_has_one_view(reader):
    with pytest.raises(UserError, match=r"must be 0, got 1"):
        reader.read(["good"], 1)


def test_refuses_a_broken_tokenizer(tmp_path, tiny_cards):
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CardError, match=r"must be a tokenizer"):
        TextReader(tiny_cards["tiny-bert"].input, tmp_path, 0)

import json
import subprocess
import sys

import pytest

from fewshot_automl.backbones.card import from_dict, read_card
from fewshot_automl.backbones.zoo import Zoo, shipped_folder
from fewshot_automl.errors import CardError

CARDS = sorted(shipped_folder().glob("*/*.toml"))
MINILM = shipped_folder() / "text" / "minilm-l6.toml"


@pytest.fixture
def values():
    return json.loads(read_card(MINILM).to_json())


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.stem)
def test_every_card_survives_json(path):
    card = read_card(path)
    assert from_dict(json.loads(card.to_json()), "card.json") == card


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("width", None, "width must be a whole number from 1 up, got 'nothing'"),
        ("width", "384", "width must be a whole number from 1 up, got '384'"),
        ("width", True, "width must be a whole number"),
        ("depth", 0, "depth must be a whole number from 1 up, got 0"),
        ("colour", "red", "colour must be a field that cards have, got 'red'"),
        ("modality", "smell", "modality must be one of text, image, got 'smell'"),
        ("id", "Mini LM", "id must be lower-case letters"),
        ("license", " ", "license must be text that is not empty"),
        ("license", "unconfirmed: nobody says", "is_default must be false"),
        ("lora_targets", "query", "lora_targets must be a list, each text"),
        ("input", {"max_tokens": 3}, "input.pooling must be one of mean, cls, last"),
    ],
)
def test_a_wrong_field_is_named(values, field, value, message):
    values[field] = value
    with pytest.raises(CardError, match=f"^card.json: {message}"):
        from_dict(values, "card.json")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("kind", "torrent", r"sources\[0\].kind must be one of package, hub"),
        ("sha256", "53AA", r"sources\[0\].sha256 must be 64 lower-case hex digits"),
        ("format", "exe", r"sources\[0\].format must be one of safetensors, pth"),
        ("url", "https://x", r"sources\[0\].url must be a field that cards have"),
    ],
)
def test_a_wrong_source_is_named(values, field, value, message):
    values["sources"][0][field] = value
    with pytest.raises(CardError, match=message):
        from_dict(values, "card.json")


@pytest.mark.parametrize("name", ["../evil", "a/b", "a\\b", ".hidden"])
def test_files_beside_weights_have_plain_names(values, name):
    values["sources"][0]["extras"][0]["to"] = name
    with pytest.raises(CardError, match="to must be a plain file name"):
        from_dict(values, "card.json")


def test_the_hub_gives_safetensors_only(values):
    values["sources"] = [{"kind": "hub", "repo": "a/b", "file": "pytorch_model.bin"}]
    with pytest.raises(CardError, match=r"file must be one of model\.safetensors"):
        from_dict(values, "card.json")


def test_a_card_is_named_as_its_file(tmp_path):
    (tmp_path / "other.toml").write_text(MINILM.read_text())
    with pytest.raises(CardError, match=r"id must be the file's name 'other'"):
        Zoo.load([tmp_path])


def test_a_file_that_is_no_toml_is_named(tmp_path):
    (tmp_path / "x.toml").write_text("id = ")
    with pytest.raises(CardError, match=r"x\.toml must be a readable TOML file"):
        read_card(tmp_path / "x.toml")


def test_cards_and_weights_start_without_torch():
    code = (
        "import sys, fewshot_automl.backbones.zoo as z, "
        "fewshot_automl.backbones.weights, fewshot_automl.backbones.registration, "
        "fewshot_automl.backbones.sources; z.check(); "
        "[z.Zoo.shipped().is_at_hand(card) for card in z.Zoo.shipped()]; "
        "print([m for m in ('torch', 'transformers', 'timm') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from fewshot_automl.backbones import weights
from fewshot_automl.backbones.load import load
from fewshot_automl.backbones.registration import add
from fewshot_automl.backbones.zoo import Zoo, check
from fewshot_automl.errors import CardError, DataError

BERT = {
    "model_type": "bert",
    "vocab_size": 200,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 40,
}
RESNET = {
    "architecture": "resnet18",
    "num_classes": 3,
    "pretrained_cfg": {
        "input_size": [3, 64, 64],
        "interpolation": "bilinear",
        "crop_pct": 0.9,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.2, 0.2, 0.2],
    },
}


@pytest.fixture(autouse=True)
def own_zoo(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_ZOO_PATH", str(tmp_path / "zoo"))
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def classifier(tmp_path, tiny_cards, random_weights):
    """A folder as transformers' save_pretrained writes it for a text classifier."""
    from transformers import BertConfig, BertForSequenceClassification

    folder = tmp_path / "My Model"
    values = {name: value for name, value in BERT.items() if name != "model_type"}
    with torch.random.fork_rng():
        BertForSequenceClassification(BertConfig(**values)).save_pretrained(folder)
    tokenizer = random_weights(tiny_cards["tiny-bert"]) / "tokenizer.json"
    (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    return folder


def test_a_text_classifier_becomes_a_backbone(classifier):
    card = add(classifier)
    assert card.id == "my-model"
    assert Zoo.known()["my-model"] == card
    assert check() == []
    assert (card.width, card.depth) == (16, 2)
    assert card.lora_targets == ("query", "value")
    assert card.input.max_tokens == 40
    assert not card.is_licensed
    source = load_file(classifier / "model.safetensors")
    name = "embeddings.word_embeddings.weight"
    backbone = load(card, weights.locate(card))
    kept = backbone.module.state_dict()
    assert card.parameters == sum(tensor.numel() for tensor in kept.values())
    assert torch.equal(kept[name], source[f"bert.{name}"])
    batch = backbone.collate(backbone.preprocess(["good film"]))
    assert backbone.features(batch).shape == (1, 16)


def test_a_timm_folder_becomes_a_backbone(tmp_path):
    import timm

    folder = tmp_path / "leaves"
    folder.mkdir()
    with torch.random.fork_rng():
        model = timm.create_model("resnet18", num_classes=3)
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(RESNET))
    card = add(folder, id="leaves-v2", license="MIT")
    assert (card.width, card.depth, card.input.size) == (512, 8, 64)
    assert card.parameters == 11_176_512
    assert card.is_licensed
    assert load(card, weights.locate(card)).width == 512


@pytest.mark.parametrize("is_safe", [True, False])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_what_timm_saves_becomes_a_backbone(name, is_safe, tmp_path):
    import timm
    from timm.models import save_for_hf

    with torch.random.fork_rng():
        model = timm.create_model(name, num_classes=3).eval()
        pixels = torch.rand(2, 3, *model.default_cfg["input_size"][1:])
    save_for_hf(model, tmp_path / "leaves", safe_serialization=is_safe)
    card = add(tmp_path / "leaves")
    backbone = load(card, weights.locate(card))
    with torch.no_grad():
        wanted = model.forward_head(model.forward_features(pixels), pre_logits=True)
        found = backbone.features({"pixels": pixels})
    assert torch.allclose(found, wanted, atol=1e-5)


def test_a_network_that_reads_no_colours_is_refused(tmp_path):
    config = {**RESNET, "model_args": {"in_chans": 1}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"x": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match="3 channels, got in_chans 1"):
        add(tmp_path, id="grey")


def test_a_name_is_taken_once_and_replaced_only_on_demand(classifier):
    add(classifier)
    with pytest.raises(DataError, match="id must be new, got 'my-model'"):
        add(classifier)
    add(classifier, is_replacing=True)
    with pytest.raises(DataError, match="id must be new, got 'resnet18'"):
        add(classifier, id="resnet18", is_replacing=True)


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_pickled_code_is_never_run(classifier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (classifier / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"must hold model\.safetensors, got "):
        add(classifier)
    (classifier / "pytorch_model.bin").write_bytes(
        pickle.dumps({"x": Harm()}, protocol=2)
    )
    with pytest.raises(CardError, match="of plain tensors, got: Weights only load f"):
        add(classifier)
    assert not (tmp_path / "harm").exists()


def test_an_adapter_is_refused(classifier):
    (classifier / "adapter_config.json").touch()
    with pytest.raises(DataError, match="merge_and_unload"):
        add(classifier)


def test_a_folder_without_tokenizer_is_refused(classifier):
    (classifier / "tokenizer.json").unlink()
    with pytest.raises(CardError, match=r"must hold tokenizer\.json"):
        add(classifier)


def test_weights_of_another_network_are_refused_and_nothing_stays(classifier, tmp_path):
    config = json.loads((classifier / "config.json").read_text())
    config["num_hidden_layers"] = 3
    (classifier / "config.json").write_text(json.dumps(config))
    with pytest.raises(CardError, match=r"Missing key.*encoder\.layer\.2"):
        add(classifier)
    assert not (tmp_path / "zoo").exists()


def test_a_config_of_neither_library_is_refused(classifier):
    (classifier / "config.json").write_text('{"hello": 1}')
    with pytest.raises(CardError, match="must have model_type"):
        add(classifier)


def test_sentence_transformers_settings_are_kept(classifier):
    (classifier / "sentence_bert_config.json").write_text('{"max_seq_length": 17}')
    (classifier / "1_Pooling").mkdir()
    (classifier / "1_Pooling" / "config.json").write_text(
        '{"pooling_mode_cls_token": true}'
    )
    (classifier / "modules.json").write_text(
        '[{"type": "sentence_transformers.models.Normalize"}]'
    )
    recipe = add(classifier).input
    assert (recipe.max_tokens, recipe.pooling, recipe.normalize) == (17, "cls", True)

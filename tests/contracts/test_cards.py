"""What every shipped card keeps, shown without weights: networks live on meta."""

import importlib.util
import re
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from fewshot_automl.backbones.card import (
    HubSource,
    ImageInput,
    PackageSource,
    TextInput,
    read_card,
)
from fewshot_automl.backbones.load import encoder_names, skeleton

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "zoo").glob("*/*.toml"))
CARDS = {path.stem: read_card(path) for path in FILES}
TIMM_HUB = [
    card
    for card in CARDS.values()
    if card.family == "timm" and isinstance(card.sources[0], HubSource)
]
FLAT_TRANSFORMERS = {"bert", "mpnet", "roberta", "deberta", "modernbert", "vit", "eva"}

LICENCES = {
    "apache-2.0": "Apache-2.0",
    "mit": "MIT",
    "cc-by-nc-4.0": "CC-BY-NC-4.0",
    "dinov3-license": "LicenseRef-DINOv3",
}
"""timm's words and ours."""

OTHER_SIZES = {
    "dinov2-small": 224,
    "dinov2-small-reg": 224,
    "dinov2-base": 224,
    "dinov2-base-reg": 224,
}
"""Cards whose size is not timm's, each for the reason its `facts_source` gives."""


def _benchmark():
    path = ROOT / "benchmarks" / "card_facts.py"
    spec = importlib.util.spec_from_file_location("card_facts", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["card_facts"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


card_facts = _benchmark()


def _cheapest():
    """One card a group runs always, the others with the slow tests."""
    order = sorted(CARDS.values(), key=lambda card: -card.flops)
    return {card.group: card.id for card in order}.values()


QUICK = set(_cheapest())


def _some_quick(cards):
    return [
        pytest.param(c, id=c.id, marks=[] if c.id in QUICK else [pytest.mark.slow])
        for c in cards
    ]


def _network(card):
    if card.family == "transformers" and not card.config:
        card = replace(card, config=dict(card_facts.PUBLISHED[card.id]))
    return skeleton(card)


@pytest.fixture(params=CARDS.values(), ids=CARDS.keys())
def card(request):
    return request.param


def test_every_file_lies_in_the_folder_of_its_modality():
    assert [path.parent.name for path in FILES] == [c.modality for c in CARDS.values()]


def test_there_are_enough_embedded_and_enough_curated_cards():
    kinds = Counter(type(source) for c in CARDS.values() for source in c.sources)
    assert kinds[PackageSource] >= 8
    assert kinds[HubSource] >= 25


def test_no_two_cards_are_the_same_weights():
    weights = Counter(
        (source.repo, source.file)
        if isinstance(source, HubSource)
        else (source.name, source.sha256)
        for c in CARDS.values()
        for source in c.sources
    )
    assert [key for key, count in weights.items() if count > 1] == []


@pytest.mark.parametrize("modality", ["text", "image"])
def test_each_modality_has_one_default_that_packages_carry(modality):
    cards = [c for c in CARDS.values() if c.modality == modality]
    (default,) = [c for c in cards if c.is_default]
    assert isinstance(default.sources[0], PackageSource)
    assert min(c.prior_rank for c in cards) == 1


def test_has_a_licence_and_says_where_it_was_read(card):
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*|unconfirmed: .+", card.license)
    assert len(card.license_source) > 10
    if card.license.startswith("LicenseRef-"):
        assert "no SPDX id" in card.license_source


def test_has_weights_a_paper_and_sources_of_its_facts(card):
    assert card.sources
    assert re.fullmatch(r"arXiv:\d{4}\.\d{4,5}", card.paper)
    assert "measured" in card.facts_source
    assert len(card.prior_source) > 20


def test_names_no_host(card):
    path = next(path for path in FILES if path.stem == card.id)
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"://|www\.|huggingface\.co", text)


def test_numbers_fit_each_other(card):
    assert 1_000_000 < card.parameters < 1_000_000_000
    assert 128 <= card.width <= 2048
    assert 3 <= card.depth <= 50
    if card.group in FLAT_TRANSFORMERS:
        # Attention takes 4 width squared; a gated or plain inner layer 4 to 8 more.
        assert card.parameters > 7 * card.depth * card.width**2
    if isinstance(card.input, ImageInput):
        assert card.flops_at == card.input.size
        assert card.flops > 2 * card.parameters  # each weight works at least once
    else:
        assert card.flops_at <= card.input.max_tokens


def test_hub_sources_bring_what_loading_needs(card):
    for source in card.sources:
        if isinstance(source, HubSource) and isinstance(card.input, TextInput):
            assert {"config.json", "tokenizer.json"} <= set(source.files)
            assert card.id in card_facts.PUBLISHED
            assert not card.config  # the repository's own file is obeyed


def test_every_published_configuration_has_a_card():
    assert card_facts.PUBLISHED.keys() <= CARDS.keys()


@pytest.mark.parametrize("card", TIMM_HUB, ids=lambda card: card.id)
def test_the_recipe_is_the_one_in_timms_registry(card):
    import timm

    (source,) = card.sources
    owner, _, name = source.repo.partition("/")
    assert owner == "timm"
    assert name.partition(".")[0] == card.architecture
    assert timm.is_model(card.architecture)
    theirs = timm.get_pretrained_cfg(name)
    assert theirs.hf_hub_id == source.repo
    size = OTHER_SIZES.get(card.id, theirs.input_size[-1])
    if card.id in OTHER_SIZES:
        assert str(theirs.input_size[-1]) in card.facts_source
    assert card.input == ImageInput(
        size=size,
        mean=theirs.mean,
        std=theirs.std,
        interpolation=theirs.interpolation,
        crop_fraction=theirs.crop_pct,
        pooling=card.input.pooling,
    )
    assert card.license == LICENCES[theirs.license]


@pytest.mark.parametrize("card", _some_quick(CARDS.values()))
def test_the_network_has_the_facts_of_the_card(card):
    assert card_facts.compare(card, card_facts.measure(card)) == []


@pytest.mark.parametrize("card", _some_quick(CARDS.values()))
def test_lora_finds_layers_it_can_adapt_at_every_depth(card):
    module, anatomy = _network(card)
    for suffix in card.lora_targets:
        for cut in (0, anatomy.depth // 2, anatomy.depth - 1):
            names = anatomy.modules_named(module, (suffix,), cut)
            layers = [module.get_submodule(name) for name in names]
            assert all(isinstance(layer, nn.Linear | nn.Conv2d) for layer in layers)
            assert names or cut
    last = anatomy.depth - 1
    assert anatomy.modules_named(module, card.lora_targets, last)


@pytest.mark.parametrize("card", _some_quick(TIMM_HUB))
def test_a_repository_of_timm_fills_the_network(card):
    import timm

    name = card.sources[0].repo.partition("/")[2]
    classes = timm.get_pretrained_cfg(name).num_classes
    with torch.device("meta"):
        whole = timm.create_model(name, pretrained=False, num_classes=classes)
    module, anatomy = _network(card)
    names = encoder_names(module, anatomy, set(whole.state_dict()))
    assert names.keys() == module.state_dict().keys()


def _with_head(card):
    """Return the model whose tensors a repository of this kind holds."""
    import transformers

    classes = {
        "bert": "BertModel",
        "xlm-roberta": "XLMRobertaForMaskedLM",
        "modernbert": "ModernBertForMaskedLM",
        "deberta-v2": "DebertaV2ForSequenceClassification",
    }
    values = dict(card_facts.PUBLISHED[card.id])
    config = transformers.AutoConfig.for_model(values.pop("model_type"), **values)
    with torch.device("meta"):
        return getattr(transformers, classes[card.architecture])(config)


@pytest.mark.parametrize(
    "name",
    ["bge-small-en", "xlm-roberta-base", "modernbert-base", "deberta-v3-xsmall-nli"],
)
def test_a_repository_of_transformers_fills_the_network(name):
    card = CARDS[name]
    module, anatomy = _network(card)
    stored = set(_with_head(card).state_dict())
    found = encoder_names(module, anatomy, stored)
    assert found.keys() == module.state_dict().keys()
    # A repository that saved the encoder alone has no prefix; what is not known stays
    plain = {*found, "encoder.more.weight"}
    known = {name: name for name in plain if not name.startswith("encoder.more")}
    assert encoder_names(module, anatomy, {*found}) == known

import dataclasses
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from fewshot_automl.backbones.load import load, load_saved
from fewshot_automl.errors import CardError, UnknownNameError, UserError

WEIGHTS = "model.safetensors"
BIAS = "encoder.layer.0.output.dense.bias"


@pytest.fixture
def changed(tiny_cards, random_weights, tmp_path):
    """Load tiny-bert after a change to its tensors."""

    def load_changed(change):
        card = tiny_cards["tiny-bert"]
        folder = shutil.copytree(random_weights(card), tmp_path / "changed")
        tensors = load_file(folder / WEIGHTS)
        change(tensors)
        save_file(tensors, folder / WEIGHTS)
        return load(card, folder)

    return load_changed


@pytest.mark.parametrize("card_id", ["tiny-bert", "tiny-vit", "tiny-efficientnet"])
def test_fills_every_weight_and_draws_none(tiny_cards, random_weights, card_id):
    card = tiny_cards[card_id]
    state = torch.get_rng_state()
    backbone = load(card, random_weights(card))
    assert torch.equal(state, torch.get_rng_state())
    tensors = load_file(random_weights(card) / WEIGHTS)
    found = backbone.module.state_dict()
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(BIAS), r'Missing key.* "encoder.layer.0.output'),
        (
            lambda tensors: tensors.update({"encoder.extra": torch.zeros(2)}),
            r'Unexpected key.* "encoder.extra"',
        ),
        (
            lambda tensors: tensors.update({BIAS: torch.zeros(31)}),
            r"size mismatch for .*output.dense.bias",
        ),
    ],
)
def test_refuses_other_tensors(changed, change, message):
    with pytest.raises(CardError, match=message):
        changed(change)


def test_leaves_an_unused_pooler_out(changed):
    changed(lambda tensors: tensors.update({"pooler.dense.bias": torch.zeros(32)}))


def test_takes_half_precision_files(changed):
    backbone = changed(
        lambda tensors: tensors.update({n: t.half() for n, t in tensors.items()})
    )
    assert {p.dtype for p in backbone.module.parameters()} == {torch.float32}


def test_refuses_a_broken_file(tiny_cards, tmp_path):
    (tmp_path / WEIGHTS).write_bytes(b"\x80\x04pickle")
    with pytest.raises(CardError, match=r"readable safetensors"):
        load(tiny_cards["tiny-vit"], tmp_path)


@pytest.mark.parametrize("field", ["width", "depth"])
def test_refuses_a_card_that_says_otherwise(tiny_cards, random_weights, field):
    card = tiny_cards["tiny-vit"]
    wrong = dataclasses.replace(card, **{field: getattr(card, field) + 1})
    with pytest.raises(CardError, match=r"width and depth of card 'tiny-vit' must be"):
        load(wrong, random_weights(card))


def test_refuses_an_unknown_family(tiny_cards, random_weights):
    card = tiny_cards["tiny-vit"]
    with pytest.raises(UnknownNameError, match=r"Closest: 'timm'"):
        load(dataclasses.replace(card, family="tim"), random_weights(card))


def test_refuses_cuts_outside(tiny_backbone):
    backbone = tiny_backbone("tiny-bert")
    batch = backbone.collate(backbone.preprocess(["good"]))
    for cut in (-1, 4):
        with pytest.raises(UserError, match=rf"from 0 to 3, got {cut}"):
            backbone.stem(batch, cut)
    with pytest.raises(UserError, match=r"got -2"):
        backbone.fork(-2)


def test_recipe_tells_poolings_apart(tiny_cards, random_weights):
    card = tiny_cards["tiny-bert"]
    other = dataclasses.replace(
        card, input=dataclasses.replace(card.input, pooling="cls")
    )
    recipes = {load(each, random_weights(card)).recipe for each in (card, other)}
    assert len(recipes) == 2


def test_weights_stay_mapped_and_the_file_as_it_was(tiny_cards, random_weights):
    card = tiny_cards["tiny-bert"]
    path = random_weights(card) / WEIGHTS
    before = path.read_bytes()
    backbone = load(card, path.parent)
    batch = backbone.collate(backbone.preprocess(["good film"]))
    expected = backbone.features(batch)
    fork = backbone.fork(1)
    with torch.no_grad():
        for parameter in fork.module.parameters():
            parameter.add_(1.0)
    del fork
    assert path.read_bytes() == before
    again = load(card, path.parent)
    assert torch.equal(again.features(batch), expected)


def test_saves_over_the_folder_it_was_loaded_from(tiny_backbone, tmp_path):
    backbone = tiny_backbone("tiny-bert")
    batch = backbone.collate(backbone.preprocess(["good film"]))
    expected = backbone.features(batch)
    backbone.save(tmp_path)
    again = load_saved(tmp_path)
    again.save(tmp_path)
    assert torch.equal(again.features(batch), expected)
    assert torch.equal(load_saved(tmp_path).features(batch), expected)

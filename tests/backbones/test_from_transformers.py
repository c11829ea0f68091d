import dataclasses
import json
import shutil

import pytest
import torch

from fewshot_automl.backbones.from_transformers import KINDS, build, pool_tokens
from fewshot_automl.backbones.load import load, load_saved
from fewshot_automl.errors import CardError, UnknownNameError

TEXTS = ["good", "what is the name of a river ?", "a bad film " * 5]


@pytest.fixture(
    params=[f"tiny-{kind.removesuffix('-v2')}" for kind in KINDS], ids=lambda i: i
)
def backbone(request, tiny_backbone):
    return tiny_backbone(request.param)


def theirs(backbone):
    """Return transformers' model with the backbone's weights, each in its place."""
    import transformers

    config = transformers.AutoConfig.for_model(
        **{"model_type": backbone.card.architecture, **backbone.anatomy.config}
    )
    model = transformers.AutoModel.from_config(config)
    missing, unexpected = model.load_state_dict(
        backbone.module.state_dict(), strict=False
    )
    assert not unexpected
    assert all(name.startswith("pooler.") for name in missing)
    return model.eval()


@torch.no_grad()
def test_equals_the_forward_of_transformers(backbone):
    batch = backbone.collate(backbone.preprocess(TEXTS))
    model = theirs(backbone)
    out = model(batch["input_ids"], attention_mask=batch["mask"])
    expected = pool_tokens(out.last_hidden_state, batch["mask"], backbone.card.input)
    torch.testing.assert_close(backbone.features(batch), expected, rtol=1e-4, atol=1e-5)


def test_training_mode_drops_out(backbone):
    fork = backbone.fork(0)
    batch = fork.collate(fork.preprocess(TEXTS))
    fork.module.train()
    if any(isinstance(m, torch.nn.Dropout) and m.p > 0 for m in fork.module.modules()):
        assert not torch.equal(fork.features(batch), fork.features(batch))
    fork.module.eval()
    assert torch.equal(fork.features(batch), fork.features(batch))


@torch.no_grad()
def test_padding_far_from_any_token_stays_finite(tiny_backbone):
    backbone = tiny_backbone("tiny-modernbert")
    rows = backbone.preprocess(["good", "bad " * 40])
    hidden = backbone.stem(backbone.collate(rows), backbone.depth)["hidden"]
    assert hidden.isfinite().all()


def test_takes_the_configuration_beside_the_weights(tiny_cards, tmp_path):
    card = tiny_cards["tiny-bert"]
    bare = dataclasses.replace(card, config={})
    with pytest.raises(CardError, match=r"must have a configuration"):
        build(bare, tmp_path)
    config = {**card.config, "model_type": "bert", "auto_map": {"AutoModel": "x.Y"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    _, anatomy = build(bare, tmp_path)
    assert (anatomy.width, anatomy.depth) == (card.width, card.depth)
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "gpt2"}))
    with pytest.raises(CardError, match=r"must be 'bert'"):
        build(bare, tmp_path)


def test_saves_a_configuration_that_came_with_the_weights(
    tiny_cards, random_weights, tmp_path
):
    card = tiny_cards["tiny-bert"]
    source = shutil.copytree(random_weights(card), tmp_path / "source")
    config = json.dumps({**card.config, "model_type": "bert"})
    (source / "config.json").write_text(config)
    backbone = load(dataclasses.replace(card, config={}), source)
    backbone.save(tmp_path / "saved")
    again = load_saved(tmp_path / "saved")
    batch = again.collate(again.preprocess(TEXTS))
    assert torch.equal(again.features(batch), backbone.features(batch))
    assert again.recipe == backbone.recipe


def test_refuses_an_unknown_model_type(tiny_cards):
    card = dataclasses.replace(tiny_cards["tiny-bert"], architecture="bertt")
    with pytest.raises(UnknownNameError, match=r"Closest: 'bert'"):
        build(card, None)

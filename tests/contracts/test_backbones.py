"""What every backbone keeps, walked over the tiny cards and the real ones at hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fewshot_automl.backbones import weights
from fewshot_automl.backbones.backbone import Backbone
from fewshot_automl.backbones.card import read_card
from fewshot_automl.backbones.load import build, load, load_saved
from fewshot_automl.errors import TrialError

ROOT = Path(__file__).parents[2]
TINY = sorted((ROOT / "tests" / "zoo").glob("*/*.toml"))
REAL = sorted((ROOT / "zoo").glob("*/*.toml"))
SMALL = 4_000_000
TEXTS = ["", "good", "what is the name of a river ?", "a bad film " * 5, "x" * 300]


def _parameters():
    for path in TINY:
        yield pytest.param(path, id=path.stem)
    for path in REAL:
        card = read_card(path)
        is_quick = card.is_default or card.parameters < SMALL
        marks = [] if is_quick else [pytest.mark.slow]
        yield pytest.param(path, id=path.stem, marks=marks)


@pytest.fixture(scope="module", params=_parameters())
def backbone(request, tiny_backbone):
    if request.param in TINY:
        return tiny_backbone(request.param.stem)
    card = read_card(request.param)
    if not weights.is_at_hand(card):
        pytest.skip(f"weights of {card.id} are not at hand")
    return load(card, weights.locate(card))


@pytest.fixture(scope="module")
def examples(backbone):
    if backbone.card.modality == "text":
        return TEXTS
    chance = np.random.default_rng(0)
    shapes = [(40, 50, 3), (70, 33, 3), (20, 20)]
    return [chance.integers(0, 256, shape, dtype=np.uint8) for shape in shapes]


@pytest.fixture(scope="module")
def batch(backbone, examples):
    return backbone.collate(backbone.preprocess(examples))


@pytest.fixture(scope="module")
def features(backbone, batch):
    with torch.no_grad():
        return backbone.features(batch)


def cuts(backbone):
    """All cuts of a small network, some of a deep one."""
    if backbone.depth < 7:
        return range(backbone.depth + 1)
    return sorted({0, 1, backbone.depth // 2, backbone.depth - 1, backbone.depth})


def test_satisfies_the_protocol(backbone):
    assert isinstance(backbone, Backbone)
    assert (backbone.width, backbone.depth) == (
        backbone.card.width,
        backbone.card.depth,
    )


@pytest.mark.parametrize("share", [0.0, 0.7])
def test_runs_with_blocks_left_in_the_file(
    backbone, batch, features, random_weights, share, tmp_path
):
    card = backbone.card
    is_tiny = card.id in {path.stem for path in TINY}
    folder = random_weights(card) if is_tiny else weights.locate(card)
    parts = load(card, folder, most_bytes=int(share * 4 * card.parameters))
    last = backbone.anatomy.blocks[-1]
    assert any(name.startswith(last) for name in parts.in_file)
    with torch.no_grad():
        found = parts.features(batch)
        middle = backbone.depth // 2
        cut = parts.tail(parts.stem(batch, middle), middle)
    # Convolutions in another order of memory round otherwise.
    is_convolutional = any(t.ndim == 4 for t in parts.in_file.values())
    near = {"rtol": 0, "atol": 1e-5 if is_convolutional else 0}
    torch.testing.assert_close(found, features, **near)
    torch.testing.assert_close(cut, features, **near)
    absent = {name for name, one in parts.module.named_parameters() if one.is_meta}
    assert absent == set(parts.in_file)
    with pytest.raises(TrialError, match="does not fit on the device as a whole"):
        parts.fork(0)
    if is_tiny:
        parts.save(tmp_path)
        with torch.no_grad():
            assert torch.equal(load_saved(tmp_path).features(batch), features)


def test_has_the_parameters_the_card_says(backbone):
    counted = sum(parameter.numel() for parameter in backbone.module.parameters())
    assert counted == backbone.card.parameters


def test_starts_in_eval_mode_and_frozen(backbone):
    assert not any(module.training for module in backbone.module.modules())
    assert not any(p.requires_grad for p in backbone.module.parameters())


@torch.no_grad()
def test_tail_of_stem_is_features_for_every_cut(backbone, batch, features):
    assert features.shape == (len(next(iter(batch.values()))), backbone.width)
    assert features.isfinite().all()
    for cut in range(backbone.depth + 1):
        activations = backbone.stem(batch, cut)
        kept = {name: tensor.clone() for name, tensor in activations.items()}
        torch.testing.assert_close(backbone.tail(activations, cut), features)
        for name, tensor in kept.items():  # the tail must not write into a store
            assert torch.equal(activations[name], tensor)


@torch.no_grad()
def test_stored_rows_collate_again(backbone, batch, features):
    for cut in cuts(backbone):
        rows = backbone.split(backbone.stem(batch, cut))
        assert all(row["hidden"].is_contiguous() for row in rows)
        order = list(range(len(rows)))[::-1]
        again = backbone.tail(backbone.collate([rows[i] for i in order]), cut)
        torch.testing.assert_close(again, features[order], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_neighbours_and_padding_do_not_matter(backbone, examples, features):
    for index, example in enumerate(examples):
        alone = backbone.collate(backbone.preprocess([example]))
        torch.testing.assert_close(
            backbone.features(alone)[0], features[index], rtol=1e-4, atol=2e-5
        )


@torch.no_grad()
def test_half_precision_activations_are_taken(backbone, batch, features):
    rows = backbone.split(backbone.stem(batch, backbone.depth))
    half = [{name: row[name].half() for name in row} for row in rows]
    found = backbone.tail(backbone.collate(half), backbone.depth)
    assert found.dtype == torch.float32
    assert (found - features).norm() < 0.02 * features.norm()


def test_gradients_reach_exactly_the_tail(backbone, batch):
    for cut in cuts(backbone):
        fork = backbone.fork(cut)
        fork.module.requires_grad_(True)
        with torch.no_grad():
            activations = fork.stem(batch, cut)
        out = fork.tail(activations, cut)
        tail = {id(parameter) for parameter in fork.tail_parameters(cut)}
        assert out.requires_grad is bool(tail)
        if tail:
            (out * torch.arange(out.numel()).view(out.shape).sin()).sum().backward()
        names = {n: id(p) in tail for n, p in fork.module.named_parameters()}
        reached = {n for n, p in fork.module.named_parameters() if p.grad is not None}
        assert {name for name, is_in_tail in names.items() if is_in_tail} <= reached
        # What stem and tail both use, such as MPNet's positions, stays out of it.
        both = {name for name in reached if not names[name]}
        assert all(name.startswith(backbone.anatomy.shared) for name in both)
        fork.module.zero_grad()
        fork.module.requires_grad_(False)


def test_fork_owns_the_tail_and_shares_the_stem(backbone):
    original = dict(backbone.module.named_parameters())
    for cut in cuts(backbone):
        fork = backbone.fork(cut)
        owned = {id(parameter) for parameter in fork.tail_parameters(cut)}
        for name, parameter in fork.module.named_parameters():
            assert (parameter is not original[name]) == (id(parameter) in owned)
    alone = backbone.fork(-1)
    mine = {
        id(tensor) for tensor in backbone.module.state_dict(keep_vars=True).values()
    }
    assert not mine & {id(t) for t in alone.module.state_dict(keep_vars=True).values()}


@torch.no_grad()
def test_changing_a_fork_leaves_its_origin_alone(backbone, batch, features):
    fork = backbone.fork(-1)
    for tensor in fork.module.state_dict().values():
        tensor.mul_(0)
    torch.testing.assert_close(backbone.features(batch), features, rtol=0, atol=0)


def test_batch_norm_stays_in_eval_mode(backbone):
    fork = backbone.fork(0)
    fork.module.train()
    for layer in fork.module.modules():
        is_norm = isinstance(layer, torch.nn.modules.batchnorm._BatchNorm)
        assert layer.training is not is_norm
    assert not any(layer.training for layer in backbone.module.modules())


def test_lora_targets_run_in_the_tail_only(backbone, batch):
    everything = backbone.lora_targets(0)
    assert everything
    called = set()
    modules = dict(backbone.module.named_modules())
    hooks = [
        modules[name].register_forward_hook(lambda *_, name=name: called.add(name))
        for name in everything
    ]
    try:
        with torch.no_grad():
            for cut in cuts(backbone):
                activations = backbone.stem(batch, cut)
                called.clear()
                backbone.tail(activations, cut)
                # A layer whose weight is read but which is not called would take
                # LoRA without a word and without effect.
                assert called == set(backbone.lora_targets(cut))
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def test_save_and_load_round_trip(backbone, batch, features, tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "no-cache"))
    backbone.save(tmp_path / "saved")
    again = load_saved(tmp_path / "saved")
    assert again.card == backbone.card
    assert again.recipe == backbone.recipe
    assert torch.equal(again.features(batch), features)
    kinds = {path.suffix for path in (tmp_path / "saved").iterdir()}
    assert kinds <= {".json", ".safetensors"}
    assert not (tmp_path / "no-cache").exists()


def _shipped_images():
    return [path for path in REAL if path.parent.name == "image"]


@pytest.mark.parametrize("path", _shipped_images(), ids=lambda path: path.stem)
def test_shipped_image_cards_describe_their_networks(path):
    """Checked without weights: tensors on the meta device have shapes only."""
    card = read_card(path)
    with torch.device("meta"), torch.no_grad():
        module, anatomy = build(card)
        module.eval()
        targets, called = anatomy.modules_named(module, card.lora_targets, 0), set()
        for name in targets:
            module.get_submodule(name).register_forward_hook(
                lambda *_, name=name: called.add(name)
            )
        size = card.input.size
        hidden = anatomy.begin(module, {"pixels": torch.empty(1, 3, size, size)})
        context = anatomy.context(module, hidden, None)
        for block in range(anatomy.depth):
            hidden = anatomy.step(module, hidden, context, block)
        features = anatomy.finish(module, hidden, None)
    assert features.shape == (1, card.width)
    assert sum(p.numel() for p in module.parameters()) == card.parameters
    assert called == set(targets) != set()

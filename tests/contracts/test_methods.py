"""What every method keeps, walked over the table on tiny backbones."""

import contextlib
import dataclasses
import time

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from fewshot_automl.adaptation import NAMES
from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.adaptation.lora import VARIANTS
from fewshot_automl.adaptation.method import Fitted, Job, Method, Profile
from fewshot_automl.adaptation.saved import load_fitted, save_fitted
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.errors import OutOfTime, TrialError
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.space import Space
from fewshot_automl.tasks import Task
from fewshot_automl.training.placement import choose_placement
from fewshot_automl.trial.space import space_for

BACKBONES = {"text": "tiny-bert", "image": "tiny-vit"}
CASES = [
    pytest.param(name, modality, id=f"{name}-{modality}")
    for name, row in METHODS.items()
    for modality in row.modalities or BACKBONES
]
TRAINED = [name for name, row in METHODS.items() if row.trains]
TASKS = {
    modality: Task(modality=modality, names=("film", "place", "name"))
    for modality in BACKBONES
}
QUICK = {"steps": 12, "batch_size": 8}


def examples(modality, seed=0, per_class=4):
    """Make three classes that a random network can tell apart."""
    chance = np.random.default_rng(seed)
    labels = np.repeat(np.arange(3), per_class)
    if modality == "text":
        words = ["good bad film", "river city where", "name who how many"]
        inputs = [
            " ".join(chance.permutation(words[label].split()).tolist() + ["is"] * n)
            for n, label in enumerate(labels)
        ]
    else:
        inputs = []
        for label in labels:
            pixels = chance.integers(0, 60, (40, 36, 3), dtype=np.uint8)
            pixels[..., label] += 180
            inputs.append(pixels)
    return tuple(inputs), labels


@pytest.fixture(scope="module", params=BACKBONES)
def modality(request):
    return request.param


@pytest.fixture
def encoded(tiny_backbone):
    """Return ``(modality, seed=0, per_class=4) -> (encodings, labels)``."""
    encoders = {
        modality: Encoder(backbone=tiny_backbone(card), store=FeatureStore(None))
        for modality, card in BACKBONES.items()
    }

    def make(modality, seed=0, per_class=4):
        inputs, labels = examples(modality, seed, per_class)
        return Encodings(inputs=inputs, encoder=encoders[modality]), labels

    return make


def space_of(name, modality, tiny_cards, class_counts=(4, 4, 4)):
    # A text backbone that cuts many texts: then all dimensions are there.
    cut_by = (BACKBONES["text"],) if modality == "text" else ()
    profile = Profile(task=TASKS[modality], strata=class_counts, cut_by=cut_by)
    return space_for(profile, [tiny_cards[BACKBONES[modality]]], [name])


@pytest.fixture
def job(tiny_cards):
    def make(name, modality, seed=0, deadline=None, counts=(4, 4, 4), **values):
        space = space_of(name, modality, tiny_cards, counts)
        quick = {k: v for k, v in QUICK.items() if k in space}
        return Job(
            task=TASKS[modality],
            config=space.default(**{**quick, **values}),
            seed=seed,
            placement=choose_placement("cpu"),
            deadline=deadline,
        )

    return make


def state_of(backbone):
    return {k: v.detach().clone() for k, v in backbone.module.state_dict().items()}


def test_the_names_that_need_no_torch_are_those_of_the_rows():
    assert tuple(METHODS) == NAMES


@pytest.mark.parametrize("name", METHODS)
def test_its_row_says_all_of_it(name):
    row = METHODS[name]
    assert isinstance(row, Method)
    assert row.name == name
    assert row.title[0].isupper()
    assert row.meaning[0].islower()
    assert not row.meaning.endswith(".")
    assert (row.passes > 0) == row.trains
    assert all(row.suits(task) for m, task in TASKS.items() if m in row.modalities)


def test_dimensions_of_all_methods_make_one_space(modality, tiny_cards):
    for counts in ((4, 4, 4), (1, 4, 20)):
        profile = Profile(task=TASKS[modality], strata=counts)
        cards = [card for card in tiny_cards.values() if card.modality == modality]
        space = space_for(profile, cards)
        assert isinstance(space, Space)
        for name in space["method"].options:
            config = space.default(method=name)
            space.validate(config)
            assert ("backbone" in config) == METHODS[name].needs_backbone
            assert ("steps" in config) == METHODS[name].trains
        assert ("class_weights" in space) == (counts != (4, 4, 4))
        assert ("augmentation" in space) == (modality == "image")


@pytest.mark.parametrize(("name", "modality"), CASES)
def test_fits_predicts_and_leaves_the_base_alone(name, modality, encoded, job):
    train, labels = encoded(modality)
    base = train.backbone
    before = state_of(base)
    fitted = METHODS[name].fit(train, labels, job(name, modality))
    assert isinstance(fitted, Fitted)
    assert fitted.is_finite
    proba = fitted.outputs(encoded(modality, seed=1)[0])
    assert proba.shape == (12, 3)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(axis=1), 1.0, atol=1e-6)
    for key, value in base.module.state_dict().items():
        assert torch.equal(value, before[key]), f"{name} changed the base's {key}"
    assert not any(p.requires_grad for p in base.module.parameters())
    assert not any(module.training for module in base.module.modules())


@pytest.mark.parametrize(("name", "modality"), CASES)
def test_learns_what_can_be_learnt(name, modality, encoded, job):
    if name == "majority":
        pytest.skip("it is the one that learns nothing")
    train, labels = encoded(modality, per_class=6)
    test, truth = encoded(modality, seed=1, per_class=6)
    fitted = METHODS[name].fit(train, labels, job(name, modality))
    assert (fitted.outputs(test).argmax(axis=1) == truth).mean() > 0.6


@pytest.mark.parametrize(("name", "modality"), CASES)
def test_changes_exactly_what_it_says_it_trains(name, modality, encoded, job):
    row = METHODS[name]
    if not row.needs_backbone:
        pytest.skip("no backbone")
    train, labels = encoded(modality)
    base = train.backbone
    fitted = row.fit(train, labels, job(name, modality))
    if not row.trains:
        assert fitted.backbone is base
        return
    assert fitted.backbone is not base
    original = base.module.state_dict()
    tuned = {
        key.replace(".base_layer.", "."): value
        for key, value in fitted.backbone.module.state_dict().items()
    }
    lora = {key for key in tuned if "lora_" in key}
    changed = {key for key in original if not torch.equal(original[key], tuned[key])}
    names = {id(p): key for key, p in base.module.named_parameters()}
    if name in ("lora", "contrastive_lora"):
        assert changed == set()
        targets = base.lora_targets(fitted.start)
        assert {key.partition(".lora_")[0] for key in lora} == set(targets)
        ups = [tuned[key] for key in lora if "lora_B" in key]
        assert all(up.abs().max() > 0 for up in ups)  # they begin as 0
        return
    assert not lora
    if name == "full":
        trained = {names[id(p)] for p in base.module.parameters()}
    else:
        trained = {names[id(p)] for p in base.tail_parameters(fitted.start)}
        assert trained < set(names.values())  # half is frozen by default
    assert changed <= trained
    # a bias whose gradient is 0 by symmetry (keys of attention) may stay as it is
    assert len(changed) >= 0.75 * len(trained)


@pytest.mark.parametrize(("name", "modality"), CASES)
def test_save_and_load_give_the_same_predictions(
    name, modality, encoded, job, tmp_path
):
    train, labels = encoded(modality)
    test, _ = encoded(modality, seed=1)
    fitted = METHODS[name].fit(train, labels, job(name, modality))
    expected = fitted.outputs(test)
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        fitted = load_fitted(folder, save_fitted(fitted, folder))
        encoder = None
        if METHODS[name].needs_backbone:
            encoder = Encoder(backbone=fitted.backbone, store=FeatureStore(None))
        np.testing.assert_allclose(
            fitted.outputs(dataclasses.replace(test, encoder=encoder)),
            expected,
            atol=1e-5,
        )


@pytest.mark.parametrize(("name", "modality"), CASES)
def test_the_seed_decides_everything(name, modality, encoded, job):
    train, labels = encoded(modality)
    test, _ = encoded(modality, seed=1)
    first, again, other = (
        METHODS[name].fit(train, labels, job(name, modality, seed=s)).outputs(test)
        for s in (3, 3, 4)
    )
    np.testing.assert_array_equal(first, again)
    if METHODS[name].trains:
        assert np.abs(first - other).max() > 0


@pytest.mark.parametrize(("name", "modality"), CASES)
def test_one_example_a_class_is_enough(name, modality, encoded, job):
    train, labels = encoded(modality, per_class=1)
    fitted = METHODS[name].fit(train, labels, job(name, modality, counts=(1, 1, 1)))
    assert np.isfinite(fitted.outputs(train)).all()


@pytest.mark.parametrize(("name", "modality"), CASES)
def test_a_class_without_examples_is_unlikely(name, modality, encoded, job):
    train, labels = encoded(modality)
    kept = np.flatnonzero(labels != 1)
    fitted = METHODS[name].fit(
        train.take(kept), labels[kept], job(name, modality, counts=(4, 0, 4))
    )
    proba = fitted.outputs(train)
    assert np.isfinite(proba).all()
    if name != "majority":
        assert (proba.argmax(axis=1) != 1).all()


@pytest.mark.parametrize("name", TRAINED)
def test_a_deadline_ends_a_training(name, modality, encoded, job):
    train, labels = encoded(modality)
    with pytest.raises(OutOfTime):
        METHODS[name].fit(
            train, labels, job(name, modality, deadline=time.monotonic() - 1)
        )


@pytest.mark.parametrize("name", TRAINED)
def test_an_absurd_learning_rate_is_a_failed_trial(name, encoded, tiny_cards):
    """A space the user wrote may allow anything; it must fail in words or be finite."""
    space = space_of(name, "text", tiny_cards)
    rate = next(r for r in space.dimensions if r.name.endswith("learning_rate"))
    wild = Space(
        tuple(
            dataclasses.replace(d, high=1e12, default=1e11) if d is rate else d
            for d in space.dimensions
        )
    )
    train, labels = encoded("text")
    job = Job(
        task=TASKS["text"],
        config=wild.default(**QUICK),
        seed=0,
        placement=choose_placement("cpu"),
    )
    fitted = None
    with contextlib.suppress(TrialError):
        fitted = METHODS[name].fit(train, labels, job)
    if fitted is not None:
        finite = bool(np.isfinite(fitted.outputs(train)).all())
        assert fitted.is_finite == finite


@pytest.mark.parametrize("name", TRAINED)
def test_light_augmentation_trains_on_other_views(name, encoded, job):
    train, labels = encoded("image")
    test, _ = encoded("image", seed=1)
    plain, light = (
        METHODS[name]
        .fit(train, labels, job(name, "image", augmentation=rule))
        .outputs(test)
        for rule in ("none", "light")
    )
    assert np.isfinite(light).all()
    assert np.abs(plain - light).max() > 0


@pytest.mark.parametrize(("name", "modality"), CASES)
def test_the_head_is_as_large_as_expected(name, modality, encoded, job):
    train, labels = encoded(modality)
    row, given = METHODS[name], job(name, modality)
    fitted = row.fit(train, labels, given)
    width = train.backbone.width if row.needs_backbone else 0
    expected = row.numbers(given.config, width, given.task, train.inputs)
    if name == "majority":
        arrays = [fitted.output]
    else:
        arrays = (fitted.head if row.needs_backbone else fitted).arrays().values()
    assert sum(count for count, _ in expected) == sum(a.size for a in arrays)
    assert sum(count * size for count, size in expected) == sum(
        a.nbytes for a in arrays
    )


@pytest.mark.parametrize("name", [n for n in METHODS if not METHODS[n].trains])
def test_what_rung_zero_tries_lies_in_the_space(name, tiny_cards):
    row, space = METHODS[name], space_of(name, "text", tiny_cards)
    every = [*row.rung_zero, *row.rung_zero_best]
    # These examples have none without a label.
    tried = [space.default(**v) for v in every if v.get("head") != "mixture"]
    assert len(set(tried)) == len(tried) > 0
    assert all(space.contains(config) for config in tried)


# peft asks transformers by a name that transformers is giving up
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated")
@pytest.mark.parametrize("variant", VARIANTS)
def test_peft_alone_reads_the_adapter(variant, encoded, job, tmp_path):
    import transformers
    from peft import PeftModel

    train, labels = encoded("text")
    given = job("lora", "text", lora_variant=variant, lora_dropout=0.1)
    fitted = METHODS["lora"].fit(train, labels, given)
    save_fitted(fitted, tmp_path)
    base = transformers.AutoModel.from_pretrained(tmp_path / "backbone")
    theirs = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    batch = fitted.backbone.collate(fitted.backbone.preprocess(train.inputs))
    with torch.no_grad():
        hidden = theirs(
            input_ids=batch["input_ids"], attention_mask=batch["mask"].long()
        ).last_hidden_state
        mask = batch["mask"][..., None].to(hidden)
        pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
        pooled = torch.nn.functional.normalize(pooled, dim=1)
        ours = fitted.backbone.features(batch)
    torch.testing.assert_close(pooled, ours, rtol=1e-4, atol=1e-5)
    plain = load_file(tmp_path / "backbone" / "model.safetensors")
    assert not any("lora" in key for key in plain)
    loaded = load_fitted(tmp_path, save_fitted(fitted, tmp_path))
    with torch.no_grad():
        torch.testing.assert_close(loaded.backbone.features(batch), ours)

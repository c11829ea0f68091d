import pytest

from fewshot_automl.errors import UnknownNameError
from fewshot_automl.space import Config
from fewshot_automl.trial.workload import (
    EFFICIENCY,
    HEAD_SECONDS,
    PARTS,
    Workload,
    activations,
    first_trained,
    mean_characters,
    trained_share,
)

TUNED = {"method": "contrastive", "backbone": "tiny-bert", "frozen_fraction": 0.5}


@pytest.fixture
def workload(tiny_cards):
    return Workload(
        cards=(tiny_cards["tiny-bert"], tiny_cards["tiny-vit"]),
        examples=20,
        characters=40.0,
        rate=1e9,
        quick_fits=8,
        dear_fits=4,
    )


def tuned(**values):
    return Config.of({**TUNED, "steps": 40, "batch_size": 16, **values})


def parts(workload, config, is_loaded=True, is_encoded=True):
    found = workload.parts(
        config,
        fits=workload.fits(config),
        is_loaded=is_loaded,
        is_encoded=is_encoded,
    )
    return dict(zip(PARTS, found.tolist(), strict=True))


def test_a_text_costs_its_tokens_and_an_image_its_size(workload):
    text, image = workload.cards
    expected = text.flops * 12 / text.flops_at / (EFFICIENCY["text"] * 1e9)
    assert workload.pass_seconds("tiny-bert") == pytest.approx(expected)
    expected = image.flops / (EFFICIENCY["image"] * 1e9)
    assert workload.pass_seconds("tiny-vit") == pytest.approx(expected)


def test_a_baseline_pays_for_its_heads_alone(workload):
    found = parts(workload, Config.of({"method": "tfidf"}), False, False)
    assert found == {
        "load": 0.0,
        "encode": 0.0,
        "train": 0.0,
        "head": pytest.approx(8 * HEAD_SECONDS),
    }


def test_a_probe_pays_for_weights_and_encoding_once(workload):
    probe = Config.of({"method": "probe", "backbone": "tiny-bert"})
    first = parts(workload, probe, False, False)
    assert first["load"] > 0
    assert first["encode"] == pytest.approx(20 * workload.pass_seconds("tiny-bert"))
    again = parts(workload, probe)
    assert (again["load"], again["encode"]) == (0, 0)
    assert again["head"] == first["head"]


def test_training_costs_steps_times_batch_times_what_is_trained(workload):
    plain = parts(workload, tuned())["train"]
    assert parts(workload, tuned(steps=80))["train"] > 1.7 * plain
    assert parts(workload, tuned(batch_size=32))["train"] > 1.3 * plain
    assert parts(workload, tuned(frozen_fraction=0.0))["train"] > 1.3 * plain
    assert parts(workload, tuned(rank=8))["train"] < plain
    everything = Config.of(
        {k: v for k, v in tuned().to_json().items() if k != "frozen_fraction"}
    )
    assert parts(workload, everything)["train"] > plain
    assert parts(workload, everything, True, False)["encode"] == 0


def test_light_augmentation_encodes_every_view(workload):
    plain = parts(workload, tuned(), True, False)["encode"]
    light = parts(workload, tuned(augmentation="light"), True, False)["encode"]
    assert light == pytest.approx(4 * plain)


def test_fractions_that_round_to_one_block_share_activations():
    depth = 6
    assert first_trained(tuned(frozen_fraction=0.46), depth) == 3
    assert first_trained(tuned(frozen_fraction=0.9), depth) == 5
    assert first_trained(tuned(frozen_fraction=1.0), depth) == 5
    assert trained_share(tuned(frozen_fraction=0.5), depth) == 0.5
    one, other, third = (
        activations(tuned(frozen_fraction=value), depth) for value in (0.46, 0.54, 0.7)
    )
    assert one == other != third
    assert activations(tuned(method="lora", rank=4), depth) == one
    assert activations(tuned(method="probe"), depth) != one


def test_a_backbone_that_is_not_there_is_named(workload):
    with pytest.raises(UnknownNameError, match="tiny-bert"):
        workload.pass_seconds("tiny-brt")


def test_images_have_no_characters():
    assert mean_characters(()) == 0.0
    assert mean_characters(("ab", "abcd")) == 3.0

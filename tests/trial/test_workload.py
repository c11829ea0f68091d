from dataclasses import replace

import pytest

from fewshot_automl.adaptation.trained import WIDE
from fewshot_automl.modalities import MODALITIES
from fewshot_automl.policy import Arithmetic
from fewshot_automl.policy.costs import PARTS
from fewshot_automl.space import Config
from fewshot_automl.trial import Workload
from fewshot_automl.trial.workload import (
    CPU,
    HEAD_SECONDS,
    first_trained,
    matrix_product_rate,
)

TUNED = {"method": "contrastive", "backbone": "tiny-bert", "frozen_fraction": 0.5}


@pytest.fixture
def workload(tiny_cards):
    return Workload(
        cards=(tiny_cards["tiny-bert"], tiny_cards["tiny-vit"]),
        examples=20,
        characters=40.0,
        rate=1e9,
    )


def tuned(**values):
    return Config.of({**TUNED, "steps": 40, "batch_size": 16, **values})


def parts(workload, config, have=None):
    known = workload.shared(config) if have is None else have
    return dict(zip(PARTS, workload.parts(config, 4, set(known)), strict=True))


def test_it_is_what_a_cost_model_asks_for(workload):
    assert isinstance(workload, Arithmetic)
    assert set(workload.backbones) == {"tiny-bert", "tiny-vit"}
    ranks = [workload.prior(name) for name in workload.backbones]
    assert all(rank <= 0 for rank in ranks)
    assert workload.trains(tuned())
    assert not workload.trains(Config.of({"method": "tfidf"}))


def test_measures_this_machine(workload):
    assert 1e8 < matrix_product_rate("cpu", rows=256, width=128) < 1e15
    found = Workload.measured(workload.cards, ("ab", "abcd"), CPU)
    assert (found.examples, found.characters) == (2, 3.0)
    assert Workload.measured((), (), CPU).characters == 0.0


def test_a_text_costs_its_tokens_and_an_image_its_size(workload):
    text, image = workload.cards
    expected = text.flops * 12 / text.flops_at / (MODALITIES["text"].efficiency * 1e9)
    assert workload.pass_seconds("tiny-bert") == pytest.approx(expected)
    expected = image.flops / (MODALITIES["image"].efficiency * 1e9)
    assert workload.pass_seconds("tiny-vit") == pytest.approx(expected)


def test_a_baseline_pays_for_its_heads_alone(workload):
    config = Config.of({"method": "majority"})
    assert workload.parts(config, 8, set()) == (0.0, 0.0, 0.0, 8 * HEAD_SECONDS)
    assert workload.shared(config) == ()


def test_counting_words_costs_their_letters(workload):
    rows = [replace(workload, examples=n) for n in (20, 2000)]
    few, many = (
        parts(row, Config.of({"method": "tfidf"}), set())["head"] for row in rows
    )
    assert many > 5 * few
    constant = Config.of({"method": "majority"})
    assert parts(rows[1], constant, set()) == parts(rows[0], constant, set())


def test_a_probe_pays_for_weights_and_encoding_once(workload):
    probe = Config.of({"method": "probe", "backbone": "tiny-bert"})
    first = parts(workload, probe, ())
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
    lora = tuned(method="contrastive_lora", rank=8)
    assert parts(workload, lora)["train"] < plain
    everything = tuned(method="full")
    assert parts(workload, everything)["train"] > plain
    loaded = workload.shared(everything)[:1]
    assert parts(workload, everything, loaded)["encode"] == 0


def test_bfloat16_makes_the_steps_of_wide_text_encoders_cheaper(workload, tiny_cards):
    card = tiny_cards["tiny-bert"]
    bf16 = replace(CPU, precision="bf16")
    for width, is_cheaper in ((card.width, False), (WIDE, True)):
        cards = (replace(card, width=width),)
        plain, rough = (
            parts(replace(workload, cards=cards, placement=place), tuned())
            for place in (CPU, bf16)
        )
        assert (rough["train"] < 0.8 * plain["train"]) is is_cheaper
        assert {**rough, "train": 0.0} == {**plain, "train": 0.0}


def test_light_augmentation_encodes_every_view(workload):
    plain = parts(workload, tuned(), ())["encode"]
    light = parts(workload, tuned(augmentation="light"), ())["encode"]
    assert light == pytest.approx(4 * plain)


def test_windows_are_paid_for_each(workload):
    long = replace(workload, characters=1000.0)
    probe = {"method": "probe", "backbone": "tiny-bert"}
    plain = Config.of({**probe, "long_texts": "beginning"})
    windows = Config.of({**probe, "long_texts": "windows"})
    assert long.shared(plain) == long.shared(Config.of(probe)) != long.shared(windows)
    times = long.windows(windows)
    assert 7 < times < 9
    encode = parts(long, plain, ())["encode"]
    assert parts(long, windows, ())["encode"] == pytest.approx(times * encode)
    assert long.windows(plain) == workload.windows(windows.of(probe)) == 1


def test_fractions_that_round_to_one_block_share_activations(workload):
    assert first_trained(tuned(frozen_fraction=0.46), 6) == 3
    assert first_trained(tuned(frozen_fraction=0.9), 6) == 5
    assert first_trained(tuned(frozen_fraction=1.0), 6) == 5
    one, other, third = (
        workload.shared(tuned(frozen_fraction=value)) for value in (0.4, 0.48, 0.9)
    )
    assert one == other != third
    assert workload.shared(tuned(method="lora", rank=4, frozen_fraction=0.4)) == one
    assert workload.shared(tuned(method="probe")) != one

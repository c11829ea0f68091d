"""What a Config fixes of a model's size is what it then measures."""

import dataclasses

import pytest

from fewshot_automl.adaptation.lora import attach
from fewshot_automl.space import Config
from fewshot_automl.trial import exact_measures, refit, size_of
from fewshot_automl.trial import measures as module
from fewshot_automl.trial.measures import lora_numbers

ALL = {"score", "flops", "parameters", "memory_mb"}
QUICK = {"steps": 10, "batch_size": 8}


@pytest.fixture
def known(context):
    return exact_measures(context.cards, context.problem, ALL, has_lora=True)


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("majority", {}),
        ("tfidf", {}),
        ("prototype", {"rule": "mean"}),
        ("prototype", {"rule": "knn", "neighbours": 3}),
        ("probe", {"head": "logistic"}),
        ("probe", {"head": "rbf"}),
        ("lora", {"rank": 3, "frozen_fraction": 0.0, **QUICK}),
        ("lora", {"rank": 5, "frozen_fraction": 0.9, **QUICK}),
        ("partial_freeze", QUICK),
        ("contrastive", {"head": "rbf", **QUICK}),
        ("full", QUICK),
    ],
)
def test_sizes_are_those_of_the_model(context, space, known, method, values):
    config = space.default(method=method, **values)
    sizes = size_of(refit(context, config))
    assert known["parameters"](config) == sizes["parameters"]
    assert known["memory_mb"](config) == pytest.approx(sizes["memory_mb"], rel=1e-9)
    card = context.cards[0]
    assert known["flops"](config) == (card.flops if "backbone" in config else 0.0)


@pytest.mark.parametrize(
    "name",
    ["tiny-bert", "tiny-modernbert", "tiny-vit", "tiny-efficientnet", "tiny-resnet"],
)
def test_lora_layers_are_counted_by_their_shapes(tiny_cards, tiny_backbone, name):
    card = tiny_cards[name]
    counts = lora_numbers(card)
    base = tiny_backbone(name)
    assert len(counts) == base.depth
    before = sum(p.numel() for p in base.module.parameters())
    shape = Config.of({"rank": 3, "alpha_ratio": 1.0, "lora_dropout": 0.0})
    for cut in (0, base.depth - 1):
        fork = attach(base, cut, shape, seed=0)
        after = sum(p.numel() for p in fork.module.parameters())
        assert 3 * counts[cut][0] == after - before


def test_layers_that_are_not_known_leave_sizes_to_be_learnt(context, space):
    card = context.cards[0]
    strange = dataclasses.replace(card, architecture="no-such")
    asked = ([strange], context.problem, ALL)
    assert set(exact_measures(*asked, has_lora=True)) == {"flops"}
    known = exact_measures(*asked, has_lora=False)
    assert set(known) == {"flops", "parameters", "memory_mb"}
    assert known["parameters"](space.default(method="probe")) > card.parameters


def test_nothing_is_built_for_what_nobody_asks(context, monkeypatch):
    monkeypatch.setattr(module, "build", None)
    known = exact_measures(context.cards, context.problem, {"flops"}, has_lora=True)
    assert set(known) == {"flops"}

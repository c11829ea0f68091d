import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from fewshot_automl.training.losses import (
    cross_entropy,
    supervised_contrastive,
)


def random(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("rule", [None, [2 / 3, 2.0, 1.0]])
def test_cross_entropy_is_torchs_less_the_least_it_can_be(smoothing, rule):
    logits, labels = random(0, 6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    weight = None if rule is None else torch.tensor(rule)

    def plain(scores):
        return functional.cross_entropy(
            scores, labels, weight, label_smoothing=smoothing, reduction="none"
        ).mean()  # over examples, and not over their weights

    best = torch.zeros(6, 3, requires_grad=True)
    search = torch.optim.LBFGS([best], max_iter=300, tolerance_grad=1e-9)

    def closure():
        search.zero_grad()
        value = plain(best)
        value.backward()
        return value

    if smoothing:  # without, the least is 0 and lies at infinity
        search.step(closure)
    least = plain(best.detach()) if smoothing else 0.0
    found = cross_entropy(
        logits, labels, label_smoothing=smoothing, class_weights=weight
    )
    torch.testing.assert_close(found, plain(logits) - least, atol=2e-4, rtol=1e-4)


def by_loops(embeddings, labels, temperature):
    """Write eq. 2 of the paper down as it stands, and take the bound off."""
    z = [vector / vector.norm() for vector in embeddings]
    terms = []
    for i in range(len(z)):
        others = [a for a in range(len(z)) if a != i]
        positives = [p for p in others if labels[p] == labels[i]]
        if not positives:
            continue
        below = sum(math.exp(float(z[i] @ z[a]) / temperature) for a in others)
        logs = [
            math.log(math.exp(float(z[i] @ z[p]) / temperature) / below)
            for p in positives
        ]
        terms.append(-sum(logs) / len(positives) - math.log(len(positives)))
    return sum(terms) / len(terms) if terms else 0.0


@settings(deadline=None, max_examples=50)
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=9),
    temperature=st.floats(0.05, 2),
    seed=st.integers(0, 99),
)
def test_contrastive_is_equation_2_less_its_bound(labels, temperature, seed):
    embeddings = random(seed, len(labels), 5).double()
    found = supervised_contrastive(embeddings, torch.tensor(labels), temperature)
    assert float(found) == pytest.approx(
        by_loops(embeddings, labels, temperature), abs=1e-6, rel=1e-6
    )


def test_contrastive_gradient_is_right():
    embeddings = random(1, 6, 4).double().requires_grad_()
    labels = torch.tensor([0, 0, 1, 1, 1, 2])  # the last has no positive
    assert torch.autograd.gradcheck(
        lambda x: supervised_contrastive(x, labels, 0.3), (embeddings,)
    )


def test_contrastive_without_positives_is_a_harmless_zero():
    embeddings = random(0, 3, 4).requires_grad_()
    loss = supervised_contrastive(embeddings, torch.tensor([0, 1, 2]))
    loss.backward()
    assert loss == 0
    assert embeddings.grad.abs().sum() == 0


def test_collapsed_classes_leave_nothing_to_learn():
    labels = torch.arange(9) % 3
    outputs = (torch.eye(3) * 2 - 0.5)[labels].requires_grad_()
    value = supervised_contrastive(outputs, labels, 0.05)
    assert value.item() == pytest.approx(0, abs=1e-4)
    value.backward()
    assert outputs.grad.abs().max() < 1e-3


def test_a_batch_of_one_teaches_nothing():
    outputs = random(9, 1, 5).requires_grad_()
    value = supervised_contrastive(outputs, torch.tensor([0]), 0.1)
    value.backward()
    assert value == 0
    assert outputs.grad.abs().sum() == 0

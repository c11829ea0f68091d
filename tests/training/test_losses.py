import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from fewshot_automl.training.losses import cross_entropy, supervised_contrastive


def random(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_without_weights(smoothing):
    logits, labels = random(0, 6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    expected = functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    found = cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(found, expected)


def test_class_weights_count_examples_and_not_weights():
    logits, labels = random(0, 4, 2), torch.tensor([0, 0, 0, 1])
    weights = torch.tensor([2 / 3, 2.0])
    each = functional.cross_entropy(logits, labels, reduction="none")
    expected = (each * weights[labels]).sum() / 4
    found = cross_entropy(logits, labels, class_weights=weights)
    torch.testing.assert_close(found, expected)
    assert weights[labels].mean() == pytest.approx(1)


def by_loops(embeddings, labels, temperature):
    """Write eq. 2 of the paper down as it stands."""
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
        terms.append(-sum(logs) / len(positives))
    return sum(terms) / len(terms) if terms else 0.0


@settings(deadline=None, max_examples=50)
@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=9),
    temperature=st.floats(0.05, 2),
    seed=st.integers(0, 99),
)
def test_contrastive_is_equation_2_of_the_paper(labels, temperature, seed):
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

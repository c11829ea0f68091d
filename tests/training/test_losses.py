import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from fewshot_automl.training.losses import (
    cross_entropies,
    cross_entropy,
    supervised_contrastive,
    supervised_contrastives,
)


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


def slotted(seed, width, sizes=(5, 8, 8)):
    """Return outputs, labels and which rows are real, for slots of unequal size."""
    outputs = torch.stack([random(seed + s, 8, width) for s in range(len(sizes))])
    labels = torch.stack([torch.arange(8) % 3 for _ in sizes])
    real = torch.arange(8)[None] < torch.tensor(sizes)[:, None]
    return outputs, labels, real


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_losses_of_slots_are_those_of_each_less_the_least_possible(smoothing):
    outputs, labels, real = slotted(0, 3)
    weights = torch.tensor([[1.0, 1.0, 1.0], [0.5, 1.5, 1.0], [2.0, 0.2, 0.8]])
    found = cross_entropies(
        outputs,
        labels,
        real,
        label_smoothing=torch.full((3,), smoothing),
        class_weights=weights,
    )
    for slot, value in enumerate(found):
        kept = real[slot]
        whole = {"label_smoothing": smoothing, "class_weights": weights[slot]}
        loss = cross_entropy(outputs[slot][kept], labels[slot][kept], **whole)
        best = torch.zeros(int(kept.sum()), 3, requires_grad=True)
        search = torch.optim.LBFGS([best], max_iter=200, tolerance_grad=1e-9)
        least = loss.new_zeros(())

        def closure(best=best, slot=slot, kept=kept, whole=whole, search=search):
            search.zero_grad()
            value = cross_entropy(best, labels[slot][kept], **whole)
            value.backward()
            return value

        if smoothing:  # without, the least is 0 and lies at infinity
            search.step(closure)
            least = closure().detach()
        torch.testing.assert_close(value, loss - least, atol=2e-4, rtol=1e-4)


def test_contrastive_losses_of_slots_are_those_of_each_less_their_bound():
    outputs, labels, real = slotted(3, 4)
    temperatures = torch.tensor([0.05, 0.1, 0.5])
    found = supervised_contrastives(outputs, labels, real, temperatures)
    for slot, value in enumerate(found):
        kept = labels[slot][real[slot]]
        loss = supervised_contrastive(
            outputs[slot][real[slot]], kept, float(temperatures[slot])
        )
        others = (kept[:, None] == kept[None]).sum(dim=1) - 1
        bound = others[others > 0].float().log().mean()
        torch.testing.assert_close(value, loss - bound)
        assert value > 0


def test_collapsed_classes_leave_nothing_to_learn():
    corners = torch.eye(3) * 2 - 0.5
    labels = torch.arange(9)[None] % 3
    outputs = corners[labels[0]][None].clone().requires_grad_()
    real = torch.ones_like(labels, dtype=torch.bool)
    value = supervised_contrastives(outputs, labels, real, torch.tensor([0.05]))
    assert value.item() == pytest.approx(0, abs=1e-4)
    value.sum().backward()
    assert outputs.grad.abs().max() < 1e-3


def test_an_example_without_another_of_its_class_does_not_count():
    outputs = random(9, 1, 4, 5).requires_grad_()
    labels = torch.tensor([[0, 0, 1, 2]])
    real = torch.ones_like(labels, dtype=torch.bool)
    value = supervised_contrastives(outputs, labels, real, torch.tensor([0.1]))
    torch.testing.assert_close(
        value[0], supervised_contrastive(outputs[0], labels[0], 0.1)
    )
    alone = supervised_contrastives(
        outputs[:, 2:], labels[:, 2:], real[:, 2:], torch.tensor([0.1])
    )
    assert alone.item() == 0
    alone.sum().backward()
    assert torch.isfinite(outputs.grad).all()

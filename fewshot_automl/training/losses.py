"""What a run minimises.

The loop hands a loss the outputs and labels of the whole batch, those of other
processes included, so no loss has to know that there are several.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional


def cross_entropy(
    logits: Float[Tensor, "examples classes"],
    labels: Int[Tensor, " examples"],
    *,
    label_smoothing: float = 0.0,
    class_weights: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of a batch.

    Args:
        logits: Unnormalised scores.
        labels: Class indices.
        label_smoothing: Share of the target spread evenly over all classes.
        class_weights: Weight of each class, 1 on average over examples. The sum
            is divided by the number of examples, not of weights: a batch that holds
            only a rare class then counts for more, as it should.

    >>> round(float(cross_entropy(torch.zeros(3, 4), torch.tensor([0, 1, 2]))), 4)
    1.3863
    """
    return functional.cross_entropy(
        logits,
        labels,
        weight=None if class_weights is None else class_weights.to(logits),
        label_smoothing=label_smoothing,
        reduction="none",
    ).mean()


def supervised_contrastive(
    embeddings: Float[Tensor, "examples width"],
    labels: Int[Tensor, " examples"],
    temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """Return the loss that pulls each class together and pushes the others away.

    Args:
        embeddings: Vectors of any length; they are normalised here.
        labels: Class indices.
        temperature: Divides cosines; smaller looks at nearer neighbours.

    Returns:
        The mean over the examples that have another of their class in the batch,
        or 0 (with a gradient of 0) if none has.

    Source:
        Khosla et al., NeurIPS 2020, eq. 2 (L_out), a mean in place of the sum.
    """
    directions = functional.normalize(embeddings, dim=1)
    itself = torch.eye(labels.shape[0], dtype=torch.bool, device=labels.device)
    cosines = directions @ directions.T / temperature
    log_shares = cosines - cosines.masked_fill(itself, -torch.inf).logsumexp(
        dim=1, keepdim=True
    )
    positives = (labels[:, None] == labels[None, :]) & ~itself
    counts = positives.sum(dim=1)
    has_positive = counts > 0
    if not bool(has_positive.any()):
        return embeddings.sum() * 0.0
    sums = log_shares.masked_fill(~positives, 0.0).sum(dim=1)
    return -(sums[has_positive] / counts[has_positive]).mean()


def cross_entropies(
    logits: Float[Tensor, "slots examples classes"],
    labels: Int[Tensor, "slots examples"],
    real: Bool[Tensor, "slots examples"],
    *,
    label_smoothing: Float[Tensor, " slots"],
    class_weights: Float[Tensor, "slots classes"],
) -> Float[Tensor, " slots"]:
    """Return `cross_entropy` of the batch of each slot, less the least it can be.

    With label smoothing the least is not 0. Taking it off changes no gradient, and
    then a loss near 0 says that there is nothing left to learn.

    Args:
        logits: Unnormalised scores.
        labels: Class indices.
        real: False where a batch is filled up to the size of the largest.
        label_smoothing: That of each slot.
        class_weights: Those of each slot.
    """
    losses = -class_weights.unsqueeze(1) * logits.log_softmax(dim=-1)
    own = losses.gather(-1, labels.unsqueeze(-1)).squeeze(-1)
    share = label_smoothing.unsqueeze(1)
    each = (1 - share) * own + share * losses.mean(dim=-1)
    classes = logits.shape[-1]
    hit = functional.one_hot(labels, classes) * (1 - share).unsqueeze(-1)
    wanted = class_weights.unsqueeze(1) * (hit + share.unsqueeze(-1) / classes)
    total = wanted.sum(dim=-1)
    each = each + torch.xlogy(wanted, wanted).sum(dim=-1) - torch.xlogy(total, total)
    return each.masked_fill(~real, 0.0).sum(dim=1) / real.sum(dim=1)


def supervised_contrastives(
    embeddings: Float[Tensor, "slots examples width"],
    labels: Int[Tensor, "slots examples"],
    real: Bool[Tensor, "slots examples"],
    temperature: Float[Tensor, " slots"],
) -> Float[Tensor, " slots"]:
    """Return `supervised_contrastive` of the batch of each slot, less a lower bound.

    An example with n others of its class cannot have a loss below log n. Taking that
    off changes no gradient, and then a loss near 0 says that classes have collapsed to
    points far from each other: there is nothing left to learn.

    Args:
        embeddings: Vectors of any length; they are normalised here.
        labels: Class indices.
        real: False where a batch is filled up to the size of the largest.
        temperature: That of each slot.
    """
    directions = functional.normalize(embeddings, dim=-1)
    itself = torch.eye(labels.shape[1], dtype=torch.bool, device=labels.device)
    cosines = directions @ directions.mT / temperature.view(-1, 1, 1)
    others = real.unsqueeze(1) & ~itself
    # A row of a batch of one has no others: its share is never read, but must be one.
    log_shares = cosines - cosines.masked_fill(~others, -1e9).logsumexp(
        dim=-1, keepdim=True
    )
    positives = (labels.unsqueeze(2) == labels.unsqueeze(1)) & others
    positives = positives & real.unsqueeze(2)
    counts = positives.sum(dim=-1)
    sums = log_shares.masked_fill(~positives, 0.0).sum(dim=-1)
    means = sums / counts.clamp(min=1) + counts.clamp(min=1).log()
    means = means.masked_fill(counts == 0, 0.0)
    return -means.sum(dim=-1) / (counts > 0).sum(dim=-1).clamp(min=1)

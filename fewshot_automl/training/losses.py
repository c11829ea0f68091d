"""What a run minimises: losses whose least possible value is 0.

Taking the least possible value off changes no gradient, and then a loss near 0 says
that there is nothing left to learn.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def cross_entropy(
    logits: Float[Tensor, "examples classes"],
    labels: Int[Tensor, " examples"],
    *,
    label_smoothing: float = 0.0,
    class_weights: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of a batch, less the least it can be.

    Label smoothing is the share of the target spread evenly over all classes. Class
    weights are 1 on average over examples. The sum is divided by the number of
    examples, not of weights: a batch that holds only a rare class then counts for
    more, as it should.

    >>> round(float(cross_entropy(torch.zeros(3, 4), torch.tensor([0, 1, 2]))), 4)
    1.3863
    """
    classes = logits.shape[-1]
    # Not `one_hot`, which looks at the numbers: a forecast has none.
    is_right = labels[:, None] == torch.arange(classes, device=labels.device)
    wanted = is_right * (1 - label_smoothing)
    wanted = wanted + label_smoothing / classes
    if class_weights is not None:
        wanted = wanted * class_weights.to(logits)
    total = wanted.sum(dim=-1)
    least = torch.xlogy(total, total) - torch.xlogy(wanted, wanted).sum(dim=-1)
    losses = functional.cross_entropy(logits, wanted.to(logits), reduction="none")
    return (losses - least).mean()


def supervised_contrastive(
    embeddings: Float[Tensor, "examples width"],
    labels: Int[Tensor, " examples"],
    temperature: float = 0.1,
) -> Float[Tensor, ""]:
    """Return the loss that pulls each class together and pushes the others away.

    An example with n others of its class cannot have a loss below log n, which is
    taken off. The mean is over the examples that have another of their class in the
    batch; it is 0 (with a gradient of 0) if none has. The temperature divides cosines;
    a smaller one looks at nearer neighbours.

    Source:
        Khosla et al., NeurIPS 2020, eq. 2 (L_out), a mean in place of the sum.
    """
    directions = functional.normalize(embeddings, dim=1)
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    cosines = directions @ directions.T / temperature
    # Not minus infinity: in a batch of one no other is left to sum over.
    others = cosines.masked_fill(itself, -1e9).logsumexp(dim=1, keepdim=True)
    positives = (labels[:, None] == labels[None, :]) & ~itself
    counts = positives.sum(dim=1)
    sums = (cosines - others).masked_fill(~positives, 0.0).sum(dim=1)
    means = sums / counts.clamp(min=1) + counts.clamp(min=1).log()
    return -means.masked_fill(counts == 0, 0.0).sum() / (counts > 0).sum().clamp(min=1)

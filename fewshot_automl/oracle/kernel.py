"""How alike two Configs of a mixed, conditional space are."""

import math

import numpy as np
import torch
from jaxtyping import Float

from fewshot_automl.oracle.encoding import Layout
from fewshot_automl.oracle.libraries import (
    GreaterThan,
    Interval,
    Kernel,
    LogNormalPrior,
    Prior,
)

MIN_LENGTHSCALE = 0.025
"""As in BoTorch; shorter ones make the covariance a diagonal."""


class ConditionalKernel(Kernel):  # type: ignore[misc]  # gpytorch has no types
    r"""Multiplies one correlation for each group of dimensions.

    Within a group: ARD Matern-5/2 on its continuous columns times
    :math:`\\exp(-\\sum_j w_j [x_j \\ne x'_j])` on its categorical ones. The always
    active group gives its correlation :math:`k_0` as it is. A conditional group with
    activity flags :math:`a, a'` gives

    .. math:: (1 + b a a' k_g) / \\sqrt{(1 + b a) (1 + b a')}

    which is 1 where both are inactive (the group does not count), the constant
    :math:`1/\\sqrt{1 + b}` where only one is, and between :math:`1/(1 + b)` and 1
    where both are. Each factor is a constant plus a positive multiple of a
    positive definite kernel, rescaled to a unit diagonal, so the product is positive
    definite too. Products keep what dimensions do together (a rate that suits one
    backbone and not another); the constant 1 lets trials of different methods
    teach each other about what they share. Conditions are not compared dimension by
    dimension, so a method is no further away for having many of them.

    Source:
        Hutter and Osborne, arXiv:1310.5738, and Swersky et al., arXiv:1409.4011, for
        the three cases and their requirements (their arc kernel bends each dimension
        to keep an inactive value equally far from all active ones; adding a constant
        does so without). Ma and Blaschko, arXiv:2006.11771, for covariances that only
        active branches add to. Hvarfner et al., ICML 2024, for lengthscale priors
        that grow with the square root of the number of dimensions.
    """

    def __init__(self, layout: Layout) -> None:
        """Start every parameter at the mode of its prior."""
        super().__init__()
        self.layout = layout
        spans = [layout.continuous.count(g) for g in layout.continuous]
        splits = [layout.categorical.count(g) for g in layout.categorical]
        self._add("lengthscales", [_wide(span) for span in spans], MIN_LENGTHSCALE)
        self._add("mismatches", [_apart(split) for split in splits], 1e-3)
        self._add("branches", [(math.log(0.5), 1.0)] * (layout.groups - 1), 1e-3)
        self._add("scale", [(0.0, 0.7)], 1e-2)

    def _add(self, name: str, priors: list[tuple[float, float]], least: float) -> None:
        """Register a positive parameter with a log-normal prior for each entry."""
        if not priors:
            return
        location, deviation = torch.tensor(priors, dtype=torch.float64).T
        mode = (location - deviation**2).exp().clamp_min(2 * least)
        raw = f"raw_{name}"
        self.register_parameter(raw, torch.nn.Parameter(mode.clone()))
        bound: Interval = GreaterThan(least, transform=None, initial_value=mode)
        self.register_constraint(raw, bound)
        prior: Prior = LogNormalPrior(location, deviation)
        self.register_prior(
            f"{name}_prior",
            prior,
            lambda kernel: getattr(kernel, raw),
            lambda kernel, value: kernel.initialize(**{raw: value}),
        )

    def forward(
        self,
        x1: Float[torch.Tensor, "*left_batch left columns"],
        x2: Float[torch.Tensor, "*right_batch right columns"],
        diag: bool = False,
        **params: object,
    ) -> torch.Tensor:
        """Return the covariance of every left row with every right row."""
        if x1.dim() > 2 or x2.dim() > 2:
            covariance = self._stacked(x1, x2)
        else:
            covariance = self._covariance(x1, x2)
        return covariance.diagonal(dim1=-2, dim2=-1) if diag else covariance

    def _stacked(self, x1: torch.Tensor, x2: torch.Tensor) -> torch.Tensor:
        """Return the covariances of batches, one after the other."""
        batch = np.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
        lefts, rights = (
            x.expand(*batch, *x.shape[-2:]).reshape(-1, *x.shape[-2:]) for x in (x1, x2)
        )
        pairs = zip(lefts, rights, strict=True)
        stack = torch.stack([self._covariance(left, right) for left, right in pairs])
        return stack.reshape(*batch, *stack.shape[-2:])

    def _covariance(
        self,
        x1: Float[torch.Tensor, "left columns"],
        x2: Float[torch.Tensor, "right columns"],
    ) -> Float[torch.Tensor, "left right"]:
        covariance: torch.Tensor = self.raw_scale * self._correlation(x1, x2, 0)
        norms = [torch.ones_like(x1[:, 0]), torch.ones_like(x2[:, 0])]
        for group in range(1, self.layout.groups):
            branch = self.raw_branches[group - 1]
            column = self.layout.width - self.layout.groups + group
            norms[0] = norms[0] * (1 + branch * x1[:, column])
            norms[1] = norms[1] * (1 + branch * x2[:, column])
            # Only where both are active is there anything to compute.
            left = x1[:, column].nonzero().squeeze(-1)
            right = x2[:, column].nonzero().squeeze(-1)
            block = 1 + branch * self._correlation(x1[left], x2[right], group)
            ones = torch.ones_like(covariance)
            covariance = covariance * ones.index_put((left[:, None], right), block)
        return covariance / norms[0].sqrt().unsqueeze(-1) / norms[1].sqrt()

    def _correlation(
        self,
        x1: Float[torch.Tensor, "left columns"],
        x2: Float[torch.Tensor, "right columns"],
        group: int,
    ) -> Float[torch.Tensor, "left right"]:
        """Return the correlation by the columns of one group, taken as active."""
        numbers = [i for i, g in enumerate(self.layout.continuous) if g == group]
        options = [i for i, g in enumerate(self.layout.categorical) if g == group]
        gap: torch.Tensor = x1.new_zeros(())
        for option in options:
            column = len(self.layout.continuous) + option
            differs = x1[:, column].unsqueeze(-1) != x2[:, column]
            gap = gap + self.raw_mismatches[option] * differs
        if not numbers:
            return torch.exp(-gap)
        scale: torch.Tensor = self.raw_lengthscales[numbers]
        left, right = x1[:, numbers] / scale, x2[:, numbers] / scale
        squares = left.square().sum(-1).unsqueeze(-1) + right.square().sum(-1)
        squares = torch.addmm(squares, left, right.T, alpha=-2)
        # The gradient of a square root at 0 is infinite, so stay above 0.
        distance = (5 * squares).clamp_min(1e-14).sqrt()
        return (1 + distance + distance.square() / 3) * torch.exp(-distance - gap)


def _wide(dimensions: int) -> tuple[float, float]:
    """Return the log-normal prior of a lengthscale among so many dimensions."""
    return math.sqrt(2) + math.log(dimensions) / 2, math.sqrt(3)


def _apart(dimensions: int) -> tuple[float, float]:
    """Return the log-normal prior of a mismatch among so many dimensions.

    Its median makes two options of a lone dimension correlate by about 0.5.
    """
    return math.log(0.7) - math.log(dimensions) / 2, 1.0

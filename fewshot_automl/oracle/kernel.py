"""How alike two Configs of a mixed, conditional space are, as a GPyTorch kernel."""

import math
from typing import Any

import torch
from botorch.utils.constraints import LogTransformedInterval
from gpytorch.kernels import Kernel
from gpytorch.priors import LogNormalPrior
from torch import Tensor

from fewshot_automl.oracle.encoding import Layout

LEAST, MOST = 0.025, 1e4
"""Ends of every parameter; the first as BoTorch has it for lengthscales."""


class ConditionalKernel(Kernel):
    r"""Multiplies one correlation for each group of dimensions.

    Within a group: ARD Matern-5/2 on its continuous columns times
    :math:`\\exp(-\\sum_j w_j [x_j \\ne x'_j])` on its categorical ones. The always
    active group gives its correlation :math:`k_0` as it is. A conditional group with
    activity flags :math:`a, a'` gives

    .. math:: (1 + b a a' k_g) / \\sqrt{(1 + b a) (1 + b a')}

    which is 1 where both are inactive, constant where only one is, and at least
    :math:`1/(1 + b)` where both are. Products keep what dimensions do together; the
    constant 1 lets trials of different methods teach each other what they share.

    Source:
        Swersky et al., arXiv:1409.4011, for the three cases; Hvarfner et al., ICML
        2024, for lengthscale priors that grow with the root of the dimensions.
    """

    def __init__(self, layout: Layout) -> None:
        """Put every parameter at the mode of its prior."""
        super().__init__()
        self.split = len(layout.continuous), len(layout.categorical), layout.groups - 1
        groups = torch.arange(layout.groups)
        for name, columns in (
            ("numbers_in", layout.continuous),
            ("options_in", layout.categorical),
        ):
            belongs = torch.tensor(columns, dtype=torch.long)[:, None] == groups
            self.register_buffer(name, belongs.to(torch.float64))
        sizes = [math.log(layout.continuous.count(g)) / 2 for g in layout.continuous]
        splits = [math.log(layout.categorical.count(g)) / 2 for g in layout.categorical]
        self._add("lengthscales", [math.sqrt(2) + s for s in sizes], math.sqrt(3))
        # The median mismatch makes two options of a lone dimension correlate by 0.5.
        self._add("mismatches", [math.log(0.7) - s for s in splits], 1.0)
        self._add("branches", [math.log(0.5)] * (layout.groups - 1), 1.0)
        self._add("variance", [0.0], 0.7)

    def _add(self, name: str, logs: list[float], deviation: float) -> None:
        """Register parameters with log-normal priors around these logarithms."""
        if not logs:
            return
        raw, constraint = f"raw_{name}", LogTransformedInterval(LEAST, MOST)
        centre = torch.tensor(logs, dtype=torch.float64)
        mode = torch.exp(centre - deviation**2).clamp(2 * LEAST, MOST / 2)
        self.register_parameter(raw, torch.nn.Parameter(torch.log(mode)))
        self.register_constraint(raw, constraint)
        self.register_prior(
            f"{name}_prior",
            LogNormalPrior(centre, torch.full_like(centre, deviation)),
            lambda kernel: kernel.value(name),
            lambda kernel, value: kernel.initialize(**{raw: torch.log(value)}),
        )

    def value(self, name: str) -> Tensor:
        """Return the value of a parameter, in its natural units."""
        return torch.exp(getattr(self, f"raw_{name}"))

    def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **_: Any) -> Tensor:
        """Return the covariance of every row of `x1` with every row of `x2`."""
        scale = self.value("variance")
        if diag:  # every row with itself
            return scale.expand(x1.shape[:-1])
        numbers, options, flags = self.split
        gap = distance = x1.new_zeros(1)
        if numbers:
            lengths = self.value("lengthscales")
            left, right = x1[..., :numbers] / lengths, x2[..., :numbers] / lengths
            squares = (left.unsqueeze(-2) - right.unsqueeze(-3)).square()
            # Not quite 0, where a root has no gradient.
            distance = (5 * (squares @ self.numbers_in) + 1e-20).sqrt()
        if options:
            left, right = (x[..., numbers : numbers + options] for x in (x1, x2))
            differs = (left.unsqueeze(-2) != right.unsqueeze(-3)).to(x1.dtype)
            gap = differs @ (self.value("mismatches").unsqueeze(-1) * self.options_in)
        alike = (1 + distance + distance.square() / 3) * torch.exp(-distance - gap)
        if not flags:
            return scale * alike[..., 0]
        first, branches = numbers + options, self.value("branches")
        left, right = (x[..., first : first + flags] for x in (x1, x2))
        both = left.unsqueeze(-2) * right.unsqueeze(-3)
        norms = [torch.log1p(branches * side).sum(-1) / 2 for side in (left, right)]
        scaling = torch.exp(-norms[0].unsqueeze(-1) - norms[1].unsqueeze(-2))
        product = (1 + branches * both * alike[..., 1:]).prod(-1)
        return scale * alike[..., 0] * scaling * product

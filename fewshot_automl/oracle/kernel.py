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

    which is 1 where both are inactive (the group does not count), the constant
    :math:`1/\\sqrt{1 + b}` where only one is, and between :math:`1/(1 + b)` and 1
    where both are. Products keep what dimensions do together (a rate that suits one
    backbone and not another); the constant 1 lets trials of different methods teach
    each other about what they share. All of it is multiplied with a variance.

    Source:
        Swersky et al., arXiv:1409.4011, for the three cases and their requirements;
        Hvarfner et al., ICML 2024, for lengthscale priors that grow with the square
        root of the number of dimensions.
    """

    def __init__(self, layout: Layout) -> None:
        """Put every parameter at the mode of its prior."""
        super().__init__()
        self.split = len(layout.continuous), len(layout.categorical), layout.groups - 1
        groups = torch.arange(layout.groups, dtype=torch.float64)
        for name, columns in (
            ("numbers_in", layout.continuous),
            ("options_in", layout.categorical),
        ):
            of = torch.tensor(columns, dtype=torch.float64)
            self.register_buffer(name, (of[:, None] == groups).to(torch.float64))
        sizes = [layout.continuous.count(g) for g in layout.continuous]
        splits = [layout.categorical.count(g) for g in layout.categorical]
        # The median mismatch makes two options of a lone dimension correlate by 0.5.
        for name, locations, deviation in (
            (
                "lengthscales",
                [math.sqrt(2) + math.log(s) / 2 for s in sizes],
                math.sqrt(3),
            ),
            ("mismatches", [math.log(0.7) - math.log(s) / 2 for s in splits], 1.0),
            ("branches", [math.log(0.5)] * (layout.groups - 1), 1.0),
            ("variance", [0.0], 0.7),
        ):
            if locations:
                self._add(name, torch.tensor(locations), deviation)

    def _add(self, name: str, locations: Tensor, deviation: float) -> None:
        locations = locations.to(torch.float64)
        mode = torch.exp(locations - deviation**2).clamp(2 * LEAST, MOST / 2)
        raw = f"raw_{name}"
        self.register_parameter(raw, torch.nn.Parameter(torch.zeros_like(mode)))
        constraint = LogTransformedInterval(LEAST, MOST)
        self.register_constraint(raw, constraint)
        self.initialize(**{raw: constraint.inverse_transform(mode)})
        self.register_prior(
            f"{name}_prior",
            LogNormalPrior(locations, torch.full_like(locations, deviation)),
            lambda kernel: kernel.value(name),
            lambda kernel, value: kernel.initialize(
                **{raw: constraint.inverse_transform(value)}
            ),
        )

    def value(self, name: str) -> Tensor:
        """Return the value of a parameter, in its natural units."""
        raw = getattr(self, f"raw_{name}")
        constraint = getattr(self, f"raw_{name}_constraint")
        return constraint.transform(raw)  # type: ignore[no-any-return]

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
        product = scale * alike[..., 0]
        if not flags:
            return product
        first = numbers + options
        left, right = (x[..., first : first + flags] for x in (x1, x2))
        branches = self.value("branches")
        both = left.unsqueeze(-2) * right.unsqueeze(-3)
        norms = [torch.log1p(branches * side).sum(-1) / 2 for side in (left, right)]
        scaling = torch.exp(-norms[0].unsqueeze(-1) - norms[1].unsqueeze(-2))
        return product * scaling * (1 + branches * both * alike[..., 1:]).prod(-1)

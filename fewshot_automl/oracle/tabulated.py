"""The posterior at a finite set of points, worked out once and then looked up."""

import torch
from jaxtyping import Float64

from fewshot_automl.oracle.libraries import (
    GPyTorchModel,
    GPyTorchPosterior,
    MultivariateNormal,
    SingleTaskGP,
)

JITTER = 1e-6
"""Added to each variance, so that points which nearly agree stay apart."""


class Tabulated(GPyTorchModel):  # type: ignore[misc]  # botorch has no types
    """Stands for a model at the rows of a table; its inputs are row numbers.

    An acquisition function over a finite set of candidates asks for the joint
    posterior of each candidate with the same baseline, hundreds of times. All those are
    marginals of one multivariate normal, which is computed here once.
    """

    num_outputs = 1

    def __init__(
        self, model: SingleTaskGP, rows: Float64[torch.Tensor, "rows columns"]
    ) -> None:
        """Compute the joint posterior of `model` at `rows`."""
        super().__init__()
        with torch.no_grad():
            joint = model.posterior(rows).distribution
            self._mean = joint.mean
            jitter = JITTER * torch.ones_like(joint.mean)
            self._covariance = joint.covariance_matrix + jitter.diag()

    @staticmethod
    def inputs(numbers: range | list[int]) -> Float64[torch.Tensor, "rows 1"]:
        """Return row numbers in the form the model takes."""
        return torch.tensor(list(numbers), dtype=torch.float64).unsqueeze(-1)

    def posterior(
        self, X: Float64[torch.Tensor, "*batch rows 1"], *args: None, **kwargs: None
    ) -> GPyTorchPosterior:
        """Return the joint posterior of the rows with these numbers.

        BoTorch's other arguments (noise, transforms) are not supported.
        """
        rows = X.squeeze(-1).long()
        return GPyTorchPosterior(
            MultivariateNormal(
                self._mean[rows],
                self._covariance[rows.unsqueeze(-1), rows.unsqueeze(-2)],
            )
        )

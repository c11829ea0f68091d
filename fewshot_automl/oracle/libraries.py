"""The door to botorch and gpytorch: every name that the surrogate uses of them.

With torch 2.12 and later, importing linear_operator (on which both stand) warns that
`torch.jit.script` is deprecated. A user can do nothing about it, so that one warning
is kept quiet, and only while these imports run.
"""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings(
        "ignore", r"`torch\.jit\.script` is deprecated", FutureWarning
    )
    warnings.filterwarnings(
        "ignore", r"`torch\.jit\.script` is deprecated", DeprecationWarning
    )
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.exceptions.errors import ModelFittingError
    from botorch.exceptions.warnings import OptimizationWarning
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import SingleTaskGP
    from botorch.models.gpytorch import GPyTorchModel
    from botorch.posteriors import GPyTorchPosterior
    from botorch.sampling import SobolQMCNormalSampler
    from botorch.settings import validate_input_scaling
    from gpytorch.constraints import GreaterThan, Interval
    from gpytorch.distributions import MultivariateNormal
    from gpytorch.kernels import Kernel
    from gpytorch.mlls import ExactMarginalLogLikelihood
    from gpytorch.priors import LogNormalPrior, Prior
    from linear_operator.utils.errors import NanError, NotPSDError

__all__ = [
    "ExactMarginalLogLikelihood",
    "GPyTorchModel",
    "GPyTorchPosterior",
    "GreaterThan",
    "Interval",
    "Kernel",
    "LogNormalPrior",
    "ModelFittingError",
    "MultivariateNormal",
    "NanError",
    "NotPSDError",
    "OptimizationWarning",
    "Prior",
    "SingleTaskGP",
    "SobolQMCNormalSampler",
    "fit_gpytorch_mll",
    "qLogNoisyExpectedImprovement",
    "validate_input_scaling",
]

"""What the Gaussian process runs within: repeatable, and quiet where that is right."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def calm(seed: int) -> Iterator[None]:
    """Make torch's draws repeatable and keep expected warnings from the user.

    GPyTorch's import meets a deprecation of torch. BoTorch warns of a fit that stops at
    its last step, and of jitter added to a covariance; both are harmless here. The
    global generator is left as it was.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*torch.jit", FutureWarning)
        warnings.filterwarnings("ignore", ".*torch.jit", DeprecationWarning)
        # Only here: these libraries take some seconds to import.
        from botorch.exceptions import BotorchWarning
        from botorch.utils.sampling import manual_seed
        from linear_operator.utils.warnings import NumericalWarning

        for category in (BotorchWarning, NumericalWarning):
            warnings.simplefilter("ignore", category)
        with manual_seed(seed):
            yield

"""Trials and final fits in several processes, which train together.

The first process runs the Config. Before each training it tells the others what to
train, and they fit the same; all else, and every look at a clock, is its own. What it
has encoded they read from the store.
"""

import contextlib
import time
from collections.abc import Iterator

from fewshot_automl import group
from fewshot_automl.adaptation.method import Fitted
from fewshot_automl.errors import TrialError
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config
from fewshot_automl.trial.context import TrialContext
from fewshot_automl.trial.evaluate import evaluate, fit, refit


def evaluate_together(
    context: TrialContext,
    config: Config,
    allowance_seconds: float | None = None,
    *,
    enough_seconds: float | None = None,
) -> Outcome | None:
    """Cross-validate a Config as `evaluate` does; None in all but the first process."""
    with _leading(context, config) as is_first:
        if not is_first:
            return None
        return evaluate(
            context, config, allowance_seconds, enough_seconds=enough_seconds
        )


def refit_together(
    context: TrialContext, config: Config, seconds: float | None = None
) -> bytes | None:
    """Fit a Config as `refit` does, and return its pickle, for backbones have lambdas.

    Raises:
        TrialError: If it cannot be fitted.
        OutOfTime: If it was not over in so many seconds.
    """
    from cloudpickle import dumps

    with _leading(context, config) as is_first:
        if not is_first:
            return None
        end = None if seconds is None else time.monotonic() + seconds
        fitted: Fitted = refit(context, config, end)
        pickled: bytes = dumps(fitted)
        return pickled


@contextlib.contextmanager
def _leading(context: TrialContext, config: Config) -> Iterator[bool]:
    """Give whether this process is the first; the others train until it is done."""
    if group.number() > 0:
        _follow(context, config)
        yield False
        return
    try:
        yield True
    finally:
        group.tell(None)


def _follow(context: TrialContext, config: Config) -> None:
    while (order := group.hear()) is not None:
        chosen, seconds = order
        end = None if seconds is None else time.monotonic() + seconds
        with contextlib.suppress(TrialError):  # the first process meets the same
            fit(context, context.encodings(config), config, chosen, end)

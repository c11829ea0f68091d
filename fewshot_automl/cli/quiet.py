"""Keeps what libraries say to themselves away from the user."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Final

_VARIABLES: Final = {
    "TOKENIZERS_PARALLELISM": "false",
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "PYTHONWARNINGS": "ignore",  # for worker processes
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence warnings, log records and progress bars of libraries.

    What matters reaches the user as our own sentences and errors. Variables that the
    user set are left alone; afterwards all is as it was.
    """
    added = {name: v for name, v in _VARIABLES.items() if name not in os.environ}
    level = logging.root.manager.disable
    os.environ.update(added)
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        for name in added:
            os.environ.pop(name, None)

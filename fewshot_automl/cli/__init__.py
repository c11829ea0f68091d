"""Words and exit codes: the command ``fewshot``."""

from fewshot_automl.cli.entry import main

__all__ = ["main"]

"""Writes the HTML report of a finished study."""

from fewshot_automl.report.write import write_report

__all__ = ["write_report"]

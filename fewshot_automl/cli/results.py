"""The answer of a fit as a table: the winner, its honest score, baselines beside it."""

import math
import shlex
from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fewshot_automl.automl.result import Result
from fewshot_automl.cli.console import table
from fewshot_automl.evaluation.measures import MEASURES
from fewshot_automl.report.words import (
    ENDINGS,
    bound_of,
    duration,
    phrase,
    score,
    summary_of,
)
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task

FRONT_ROWS: Final = 8
"""Most rows of the front that are printed."""


def show_result(console: Console, result: Result) -> None:
    """Print the model beside the baselines, and what to type next."""
    summary = result.summary
    console.print()
    console.print(_scores(result))
    if result.test_scores is not None:
        line = (test_line(result.test_scores), "bold")
        console.print(Text.assemble("\nOn the test data: ", line))
    show_limits(console, summary)
    show_front(console, summary)
    counts = ", ".join(f"{n} {name}" for name, n in summary["trials"].items() if n)
    equal = len(summary["indistinguishable"]) - 1
    console.print(
        Text(
            f"\nTrials: {counts} in {duration(summary['seconds'])}; the search ended "
            f"because {ENDINGS.get(summary['ending'], summary['ending'])}. "
            + (
                f"{equal} others cannot be told apart from the winner."
                if equal > 0
                else "No other trial is as good."
            )
        )
    )
    if about := phrase(result.config):
        console.print(Text(f"Winner: {about}."))
    if others := _others(result):
        named = ", ".join(map(summary_of, others))
        console.print(
            Text(f"The model averages it with {named}: the labels cannot rank them.")
        )
    _say_next(console, result)


def _scores(result: Result) -> Table:
    """Return one row for the model and one for the best of each cheap method.

    Only the model has a corrected score: it alone was chosen for its score.
    """
    expected = result.score
    validated = f"{expected.metric}, cross-validated"
    made = table("model", validated, "to expect", "95 % interval")
    _, outcome = result.history[result.summary["winner"]["number"]]
    others = _others(result)
    more = f" and {len(others)} more, averaged" if others else ""
    error = math.nan if others else outcome.standard_error  # that of one trial alone
    made.add_row(
        Text(summary_of(result.config) + more, style="bold"),
        score(expected.raw, error),
        Text(f"{expected.corrected:.3f}", style="bold green"),
        f"{expected.low:.3f} to {expected.high:.3f}",
    )
    for row in result.summary["baselines"]:
        config = Config.from_json(row["config"])
        if others or config != result.config:
            value = score(row["score"], row["standard_error"])
            made.add_row(summary_of(config), value)
    return made


def _others(result: Result) -> list[Config]:
    """Return what is averaged with the winner; nothing where it stands alone."""
    members = result.summary.get("members", [])
    return [Config.from_json(member["config"]) for member in members[1:]]


def test_line(scores: Mapping[str, float]) -> str:
    """Return the scores on labelled examples in one line.

    >>> test_line({"accuracy": 0.8, "log_loss": 0.5, "n": 490.0})
    'accuracy 0.800, log loss 0.500 (490 examples)'
    """
    shown = (
        f"{name.replace('_', ' ')} {value:.3f}"
        for name, value in scores.items()
        if name != "n"
    )
    return f"{', '.join(shown)} ({int(scores['n'])} examples)"


def show_limits(console: Console, summary: Mapping[str, Any]) -> None:
    """Print each limit beside what the model measures, what is broken in red."""
    limits = summary.get("limits", [])
    if not limits:
        return
    console.print()
    if not summary["is_feasible"]:
        warning = "The model breaks a limit that was asked for."
        if not summary["keeping"]:
            warning = "No trial keeps all limits; this model comes closest."
        console.print(Text(warning, style="bold red"))
    grid = Table.grid(padding=(0, 2, 0, 0))
    for limit in limits:
        measure = MEASURES[limit["name"]]
        style = "" if limit["is_kept"] else "bold red"
        grid.add_row(
            Text(measure.title, style=style),
            Text(measure.format(limit["value"]), style=style),
            Text(bound_of(limit), style="dim"),
            Text("kept" if limit["is_kept"] else "BROKEN", style=style or "green"),
        )
    console.print(grid)


def show_front(console: Console, summary: Mapping[str, Any]) -> None:
    """Print the trials of the front; trials that are beaten in all are not on it."""
    front = summary.get("front", [])
    if not front:
        return
    metric = Task.from_json(summary["task"]).measured
    measures = [MEASURES[name] for name in front[0] if name in MEASURES]
    heads = (metric.name, *(measure.title for measure in measures))
    made = table("front", *heads, right=heads)
    winner = summary["winner"]["number"]
    for row in front[:FRONT_ROWS]:
        is_winner = row["number"] == winner
        name = summary_of(Config.from_json(row["config"]))
        made.add_row(
            Text(name + (" (winner)" if is_winner else "")),
            f"{metric.orient(row['score']):.3f}",
            *(measure.format(row[measure.name]) for measure in measures),
            style="bold" if is_winner else "",
        )
    console.print()
    console.print(made)
    if (more := len(front) - FRONT_ROWS) > 0:
        console.print(Text(f"and {more} more; all are in the report.", style="dim"))


def _say_next(console: Console, result: Result) -> None:
    folder = shlex.quote(str(result.folder))
    column = result.predictor.columns.target
    target = f" --target {shlex.quote(column)}" if column else ""
    commands = {
        f"fewshot predict {folder} NEW_DATA": "predictions for new examples",
        f"fewshot score {folder} LABELLED_DATA{target}": "scores on other labels",
    }
    if result.summary["ending"] in ("seconds", "interrupted"):  # more time helps
        commands[f"fewshot resume {folder} --budget 5min"] = "search on"
    commands[f"open {result.folder / 'report.html'}"] = "the report"
    width = max(map(len, commands))
    console.print(Text(f"\nEverything is in {result.folder}"))
    for command, why in commands.items():
        line = Text.assemble(f"  {command:<{width}}", (f"   {why}", "dim"))
        console.print(line, soft_wrap=True)


def result_json(result: Result) -> dict[str, Any]:
    """Return the answer for programs: `result.json` and where things are."""
    return {
        **result.summary,
        "folder": str(result.folder),
        "model": str(result.folder / "model"),
        "report": str(result.folder / "report.html"),
    }

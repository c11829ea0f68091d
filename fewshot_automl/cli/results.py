"""The answer of a fit as a table: the winner, its honest score, baselines beside it."""

import math
import shlex
from collections.abc import Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fewshot_automl.automl import Result
from fewshot_automl.cli.words import details, duration, score, title
from fewshot_automl.evaluation.measures import MEASURES
from fewshot_automl.space import Config
from fewshot_automl.tasks import metric_named

FRONT_ROWS: Final = 8
"""Most rows of the front that are printed."""
ENDINGS = {
    "trials": "all trials done",
    "seconds": "time spent",
    "exhausted": "nothing left to try",
    "interrupted": "interrupted",
}


def show_result(console: Console, result: Result) -> None:
    """Print the model beside the baselines, and what to type next."""
    console.print()
    console.print(scores_table(result))
    _say_test(console, result.test_scores)
    show_limits(console, result.summary)
    show_front(console, result.summary)
    _say_search(console, result)
    _say_next(console, result)


def scores_table(result: Result) -> Table:
    """Return one row for the model and one for each other method that was quick.

    Only the model has a corrected score: it alone was chosen for its score.
    """
    expected = result.score
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("model")
    for name in (f"{expected.metric}, cross-validated", "to expect", "95 % interval"):
        table.add_column(name, no_wrap=True)
    _, outcome = result.history[result.summary["winner"]["number"]]
    others = _others(result)
    more = f" and {len(others)} more, averaged" if others else ""
    error = math.nan if others else outcome.standard_error  # that of one trial alone
    table.add_row(
        Text(title(result.config) + more, style="bold"),
        score(expected.raw, error),
        Text(f"{expected.corrected:.3f}", style="bold green"),
        f"{expected.low:.3f} to {expected.high:.3f}",
    )
    for row in result.summary["baselines"]:
        config = Config.from_json(row["config"])
        if others or config != result.config:
            table.add_row(title(config), score(row["score"], row["standard_error"]))
    return table


def _say_test(console: Console, scores: Mapping[str, float] | None) -> None:
    if scores is not None:
        console.print()
        console.print(Text.assemble("On the test data: ", (test_line(scores), "bold")))


def test_line(scores: Mapping[str, float]) -> str:
    """Return the scores on labelled examples in one line.

    >>> test_line({"accuracy": 0.8, "macro_f1": 0.79, "log_loss": 0.5, "n": 490.0})
    'accuracy 0.800, macro-F1 0.790, log loss 0.500 (490 examples)'
    """
    return (
        f"accuracy {scores['accuracy']:.3f}, macro-F1 {scores['macro_f1']:.3f}, "
        f"log loss {scores['log_loss']:.3f} ({int(scores['n'])} examples)"
    )


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
        bound, words = limit["most"], "at most"
        if bound is None:
            bound, words = limit["least"], "at least"
        style = "" if limit["is_kept"] else "bold red"
        mark = "kept" if limit["is_kept"] else "BROKEN"
        grid.add_row(
            Text(measure.title, style=style),
            Text(measure.told(limit["value"]), style=style),
            Text(f"{words} {measure.told(bound)}", style="dim"),
            Text(mark, style=style or "green"),
        )
    console.print(grid)


def show_front(console: Console, summary: Mapping[str, Any]) -> None:
    """Print the trials of the front; trials that are beaten in all are not on it."""
    front = summary.get("front", [])
    if not front:
        return
    metric = metric_named(summary["score"]["metric"])
    names = [name for name in front[0] if name in MEASURES]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("front")
    for name in (metric.name, *(MEASURES[name].title for name in names)):
        table.add_column(name, no_wrap=True, justify="right")
    winner = summary["winner"]["number"]
    for row in front[:FRONT_ROWS]:
        config = Config.from_json(row["config"])
        is_winner = row["number"] == winner
        table.add_row(
            Text(title(config) + (" (winner)" if is_winner else "")),
            f"{metric.orient(row['score']):.3f}",
            *(MEASURES[name].told(row[name]) for name in names),
            style="bold" if is_winner else "",
        )
    console.print()
    console.print(table)
    if (more := len(front) - FRONT_ROWS) > 0:
        console.print(Text(f"and {more} more; all are in the report.", style="dim"))


def _say_search(console: Console, result: Result) -> None:
    summary = result.summary
    counts = ", ".join(f"{n} {name}" for name, n in summary["trials"].items() if n)
    equal = len(summary["indistinguishable"])
    console.print()
    console.print(
        Text(
            f"Trials: {counts}; {ENDINGS.get(summary['ending'], summary['ending'])} "
            f"after {duration(summary['seconds'])}. {_equals(equal)}"
        )
    )
    if told := details(result.config):
        console.print(Text(f"Winner: {told}."))
    if others := _others(result):
        named = ", ".join(map(title, others))
        console.print(
            Text(f"The model averages it with {named}: the labels cannot rank them.")
        )


def _others(result: Result) -> list[Config]:
    """Return what is averaged with the winner; nothing where it stands alone."""
    members = result.summary.get("members", [])
    return [Config.from_json(member["config"]) for member in members[1:]]


def _equals(equal: int) -> str:
    if equal <= 1:
        return "No other trial is as good."
    return f"{equal - 1} others cannot be told apart from the winner."


def _say_next(console: Console, result: Result) -> None:
    folder = shlex.quote(str(result.folder))
    column = result.predictor.columns.target
    target = f" --target {shlex.quote(column)}" if column else ""
    console.print()
    console.print(Text(f"Everything is in {result.folder}"))
    commands = {
        f"fewshot predict {folder} NEW_DATA": "predictions for new examples",
        f"fewshot score {folder} LABELLED_DATA{target}": "scores on other labels",
    }
    if result.summary["ending"] in ("seconds", "interrupted"):  # more time helps
        commands[f"fewshot resume {folder} --budget 5min"] = "search on"
    width = max(map(len, commands))
    for command, why in commands.items():
        line = Text.assemble(f"  {command:<{width}}", (f"   {why}", "dim"))
        console.print(line, soft_wrap=True)
    report = result.folder / "report.html"
    if report.exists():
        console.print(Text(f"  open {report}"), soft_wrap=True)


def result_json(result: Result) -> dict[str, Any]:
    """Return the answer for programs: `result.json` and where things are."""
    return {
        **result.summary,
        "folder": str(result.folder),
        "model": str(result.folder / "model"),
        "report": str(result.folder / "report.html"),
    }

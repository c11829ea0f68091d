"""The command ``bench``."""

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from fewshot_automl.cli.console import people, print_json, say
from fewshot_automl.cli.options import FOLDER, json_option
from fewshot_automl.study import parse_budget


def _several(
    name: str, default: str, kind: Callable[[str], Any], sign: str, about: str = ""
) -> Callable[..., Any]:
    def parse(ctx: click.Context, param: click.Parameter, value: str) -> list[Any]:
        try:
            words = filter(None, map(str.strip, value.split(",")))
            return list(dict.fromkeys(map(kind, words)))
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return click.option(
        name, default=default, callback=parse, metavar=f"{sign},...", help=about or None
    )


@click.command("bench")
@click.argument("suite", type=FOLDER)
@_several("--shots", "8", int, "N", "Labelled examples a class.")
@_several("--draws", "20,21,22", int, "SEED")
@_several("--budgets", "60s", parse_budget, "TIME")
@_several("--entrants", "ours", str, "NAME", "Of ours, ours-1, ours-cheap, ours-14.")
@click.option(
    "--entrant",
    "more",
    multiple=True,
    metavar="NAME=COMMAND",
    help='One more: "mine=python my.py {train} {test} {out} {budget}", or a row of '
    'ours with options: "wide=ours: --members 5". May be repeated.',
)
@_several("--tasks", "", str, "NAME")
@click.option("--data", type=FOLDER, help="What the data of cards are relative to.")
@click.option("--out", default="bench.jsonl", type=click.Path(path_type=Path))
@click.option("--jobs", default=1, help="Runs side by side, each on its own cores.")
@click.option("--again", is_flag=True, help="Make failed runs again.")
@click.option(
    "--test-rows", type=click.IntRange(1), help="So many rows of a larger test part."
)
@click.option("--reference", help="Entrant that others are compared with.")
@json_option
def bench(
    suite: Path, data: Path | None, out: Path, is_json: bool, **given: Any
) -> None:
    """Compare programs that learn from few labels: same data, same clock.

    SUITE is a folder of task cards. Runs are kept in --out, a line each; those that
    are there are not made again.

    \b
    Examples:
      fewshot bench benchmarks/suite --data ../shared/data
      fewshot bench suite --shots 8,32 --budgets 60s,120s --jobs 2
      fewshot bench suite --entrant "mine=python my.py {train} {test} {out}"
    """
    from fewshot_automl.bench import entrant_named, load_suite, run, summarise
    from fewshot_automl.bench.plots import draw_all

    # As an interrupt it ends what was started, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rows = [entrant_named(x) for x in (*given.pop("entrants"), *given.pop("more"))]
    reference = given.pop("reference") or rows[0].name
    tasks = load_suite(suite, data=data, tasks=given.pop("tasks"))
    summaries = summarise(run(tasks, rows, out=out, say=say, **given), reference)
    for summary in summaries:
        people(is_json).print(summary.table(), soft_wrap=True, markup=False)
    for line in draw_all(summaries, out):
        say(line)
    if is_json:
        figures = {summary.title: summary.figures() for summary in summaries}
        print_json({"results": str(out), "figures": figures})

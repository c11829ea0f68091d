"""The command ``bench``."""

import signal
from pathlib import Path
from typing import Any

import click

from fewshot_automl.cli.console import people, print_json, say
from fewshot_automl.cli.options import FOLDER, json_option
from fewshot_automl.study import parse_budget


def _numbers(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(map(int, value.split(","))))
    except ValueError as error:
        raise click.BadParameter(f"must be as in 8,32, got {value!r}.") from error


def _words(ctx: click.Context, param: click.Parameter, value: str) -> tuple[str, ...]:
    return tuple(filter(None, (word.strip() for word in value.split(","))))


@click.command("bench")
@click.argument("suite", type=FOLDER)
@click.option("--shots", default="8", callback=_numbers, metavar="N,...")
@click.option("--draws", default="20,21,22", callback=_numbers, metavar="SEED,...")
@click.option("--budgets", default="60s", callback=_words, metavar="TIME,...")
@click.option(
    "--entrants",
    default="ours",
    callback=_words,
    metavar="NAME,...",
    help="Rows of ours: ours, ours-1, ours-cheap, ours-14.",
)
@click.option(
    "--entrant",
    "more",
    multiple=True,
    metavar="NAME=COMMAND",
    help='One more: "mine=python my.py {train} {test} {out} {budget}", or a row of '
    'ours with options: "wide=ours: --members 5". May be repeated.',
)
@click.option("--tasks", default="", callback=_words, metavar="NAME,...")
@click.option("--data", type=FOLDER, help="What the data of cards are relative to.")
@click.option("--out", default="bench.jsonl", type=click.Path(path_type=Path))
@click.option("--jobs", default=1, help="Runs side by side, each on its own cores.")
@click.option("--again", is_flag=True, help="Make failed runs again.")
@click.option("--reference", default="", help="Entrant that others are compared with.")
@json_option
def bench(suite: Path, out: Path, is_json: bool, **given: Any) -> None:
    """Compare programs that learn from few labels: same data, same clock.

    SUITE is a folder of task cards. Runs are kept in --out, a line each; those that
    are there are not made again.

    \b
    Examples:
      fewshot bench benchmarks/suite --data ../shared/data
      fewshot bench suite --shots 8,32 --budgets 60s,120s --jobs 2
      fewshot bench suite --entrant "mine=python my.py {train} {test} {out}"
    """
    from fewshot_automl.bench import load_suite, run, summarise
    from fewshot_automl.bench.entrant import entrant_named
    from fewshot_automl.bench.plots import draw_all

    # As an interrupt it ends what was started, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    entrants = [entrant_named(x) for x in (*given["entrants"], *given["more"])]
    runs = run(
        load_suite(suite, data=given["data"], tasks=given["tasks"]),
        entrants,
        out=out,
        shots=given["shots"],
        draws=given["draws"],
        budgets=[parse_budget(words) for words in given["budgets"]],
        jobs=given["jobs"],
        again=given["again"],
        say=say,
    )
    summaries = summarise(runs, given["reference"] or entrants[0].name)
    for summary in summaries:
        people(is_json).print(summary.table(), soft_wrap=True, markup=False)
    plots = draw_all(summaries, out)
    for line in plots:
        say(line)
    if is_json:
        figures = {summary.title: summary.figures() for summary in summaries}
        print_json({"results": str(out), "figures": figures})

"""Compare whole fits with what else one could do in the time: our suite, our goals.

Runs `fewshot bench benchmarks/suite` with our rows and, where their Pythons are named,
SetFit and AutoGluon (`benchmarks/entrants/`). Finished runs are kept and not made
again. `--against` compares with another file of results on the same draws, such as
those of the version before. The last line is one JSON object.

Examples:
    python benchmarks/whole_fits.py --quick
    python benchmarks/whole_fits.py --shots 8,32 --budgets 60s,120s --jobs 2
    python benchmarks/whole_fits.py --python setfit=/venvs/setfit/bin/python
    python benchmarks/whole_fits.py --entrants ours --against before.jsonl
"""

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from fewshot_automl.bench import Entrant, Summary, load_suite, run, summarise
from fewshot_automl.bench.entrant import PLACES, entrant_named
from fewshot_automl.bench.plots import draw_all
from fewshot_automl.bench.results import read_results
from fewshot_automl.study import parse_budget

HERE = Path(__file__).resolve().parent
ROWS = (
    "ours,ours-1,ours-14,probe,probe-cv,probes-mean,"
    "setfit-minilm,setfit-mpnet,autogluon"
)
OTHERS = {"setfit": "with_setfit.py", "autogluon": "with_autogluon.py"}
ENCODERS = {"setfit-minilm": "minilm-l6", "setfit-mpnet": "mpnet-base"}
LEAST_GAIN = {
    "ours-14": 0.03,
    "probe": 0.05,
    "probe-cv": 0.025,
    "probes-mean": 0.015,
    "setfit-minilm": 0.03,
    "setfit-mpnet": 0.03,
}
"""Mean gain that is wanted at 120 s; over the probe at 8 shots."""
MOST_LOSS = 0.01
"""Of any task's mean, below any of these rows."""
MOST_BEHIND = 0.015
"""That one member may be behind the committee."""
COVERAGE = 0.90, 0.99
STATED_ERROR = 0.015
LATE = 1.10, 15.0
"""A fit may end after so many budgets, or so many seconds over."""


def rows_of(names: str, pythons: dict[str, str], folder: Path) -> list[Entrant]:
    """Return rows by name; those of other programs only where their Python is named."""
    made = []
    for name in names.split(","):
        kind = name.partition("-")[0]
        if kind == "ours":
            made.append(entrant_named(name))
            continue
        if kind in OTHERS and kind not in pythons:
            print(f"{name} is left out: give --python {kind}=PATH.", file=sys.stderr)
            continue
        script, modalities = OTHERS.get(kind, "probes.py"), ()
        places = [name, *PLACES] if script == "probes.py" else [*PLACES]
        if kind == "setfit":
            places.append(write_encoder(ENCODERS[name], folder / name))
            modalities = ("text",)
        made.append(
            Entrant(
                name=name,
                command=(
                    pythons.get(kind, sys.executable),
                    str(HERE / "entrants" / script),
                    *places,
                ),
                modalities=modalities,
                minds_budget=kind in OTHERS,
            )
        )
    return made


def write_encoder(backbone: str, folder: Path) -> str:
    """Write a folder that sentence-transformers can load from weights at hand."""
    from fewshot_automl.backbones import weights
    from fewshot_automl.backbones.zoo import Zoo

    card = Zoo.shipped()[backbone]
    shutil.copytree(weights.locate(card), folder)
    (folder / "config.json").write_text(json.dumps(dict(card.config)), "utf-8")
    facts = {"max_tokens": card.input.max_tokens}
    (folder / "fewshot.json").write_text(json.dumps(facts), "utf-8")
    return str(folder)


def judge(summaries: list[Summary]) -> list[str]:
    """Return the goals of issue 12 that these runs do not reach."""
    short = []
    for one in summaries:
        facts = one.facts("ours")
        for name, least in LEAST_GAIN.items():
            gap = one.difference(name)
            if gap is None:
                continue
            is_goal = one.budget == 120 and (name != "probe" or one.shots == 8)
            if is_goal and gap.mean < least:
                short.append(f"{one.title}: {gap.mean:+.3f} over {name}, not {least}")
            if gap.worst < -MOST_LOSS:
                short.append(f"{one.title}: {name} ahead on {gap.worst_task}")
        if (gap := one.difference("ours-1")) and gap.mean > MOST_BEHIND:
            short.append(f"{one.title}: one member is too far behind")
        if not COVERAGE[0] <= facts["held"] <= COVERAGE[1]:
            short.append(f"{one.title}: {facts['held']:.2f} of the intervals held")
        if abs(facts["stated_error"]) > STATED_ERROR:
            short.append(f"{one.title}: stated error {facts['stated_error']:+.3f}")
        for task in one.tasks:
            losses = [(r.log_loss, r.log_loss_before) for r in one.of("ours", task)]
            if sum((after or 0) - (before or 0) for after, before in losses) > 0:
                short.append(f"{one.title}: calibration makes {task} worse")
        if facts["latest_seconds"] > max(LATE[0] * one.budget, one.budget + LATE[1]):
            short.append(f"{one.title}: a fit ended at {facts['latest_seconds']:.0f} s")
        short += [f"{one.title}: failed runs of ours"] * bool(facts["failed"])
    gains = {(s.shots, s.budget): s.facts("ours")["value"] for s in summaries}
    for (shots, budget), value in gains.items():
        if budget == 300 and value <= gains.get((shots, 120.0), -math.inf):
            short.append(f"{shots} shots: 300 s are no better than 120 s")
    return short


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared = HERE.parent.parent / "shared" / "data"
    parser.add_argument("--data", type=Path, default=shared)
    parser.add_argument("--tasks", default="")
    parser.add_argument("--shots", default="8")
    parser.add_argument("--draws", default="20,21,22")
    parser.add_argument("--budgets", default="120s")
    parser.add_argument("--entrants", default=ROWS)
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, default=HERE / "results/whole_fits.jsonl")
    parser.add_argument("--against", type=Path, help="results to compare ours with")
    parser.add_argument("--again", action="store_true", help="make failed runs again")
    parser.add_argument("--quick", action="store_true", help="two tasks, a draw, 60 s")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.tasks, arguments.draws, arguments.budgets = (
            "trec6,flowers5",
            "20",
            "60s",
        )
        arguments.entrants = "ours,probe,probe-cv,probes-mean"
        arguments.out = Path(tempfile.mkdtemp()) / "quick.jsonl"
    return arguments


def main() -> None:
    """Run what is missing, print the tables, end with one JSON line."""
    asked = parse_arguments()
    pythons = dict(words.split("=", 1) for words in asked.python)
    tasks = tuple(filter(None, asked.tasks.split(",")))
    with tempfile.TemporaryDirectory() as folder:
        runs = run(
            load_suite(HERE / "suite", data=asked.data, tasks=tasks),
            rows_of(asked.entrants, pythons, Path(folder)),
            out=asked.out,
            shots=[int(n) for n in asked.shots.split(",")],
            draws=[int(n) for n in asked.draws.split(",")],
            budgets=[parse_budget(words) for words in asked.budgets.split(",")],
            jobs=asked.jobs,
            again=asked.again,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    if asked.against is not None:
        keys = {r.key for r in runs if r.entrant == "ours"}
        before = [r for r in read_results(asked.against) if r.key in keys]
        runs += [replace(r, entrant="before") for r in before]
    summaries = summarise(runs, "ours")
    print(*(summary.table() for summary in summaries), sep="\n")
    print(*draw_all(summaries, asked.out), sep="\n", file=sys.stderr)
    figures = {summary.title: summary.figures() for summary in summaries}
    line = {
        "benchmark": "whole_fits",
        "figures": figures,
        "falls_short": judge(summaries),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    main()

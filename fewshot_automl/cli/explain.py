"""The command ``explain``: why is one example answered as it is?"""

from dataclasses import asdict
from pathlib import Path

import click
from rich.text import Text

from fewshot_automl.automl.explain import GRID, Explanation
from fewshot_automl.automl.explain import explain as run_explain
from fewshot_automl.cli.console import people, print_json, table
from fewshot_automl.cli.options import FOLDER, data_option, json_option
from fewshot_automl.report.words import clipped

STRONG = 0.02
"""How much a part must take from the answer to be marked."""


@click.command("explain")
@click.argument("folder", type=FOLDER)
@click.argument("example")
@click.option("--row", type=click.IntRange(min=0), default=0, help="Row, from 0.")
@data_option
@json_option
def explain(
    folder: Path, example: str, row: int, data: str | None, is_json: bool
) -> None:
    """Show labelled examples like this one, and what the model looks at in it.

    EXAMPLE is a text, an image file, or data like those of the fit with --row. Each
    word or region is left out once: the more probable the answer was with it, the more
    it counts. FOLDER is the --out folder of a fit.

    \b
    Examples:
      fewshot explain runs/mail "You have won a prize"
      fewshot explain runs/photos new/photo.jpg
      fewshot explain runs/mail this-week.csv --row 12 --json
    """
    found = run_explain(folder, example, row=row, data=data)
    console = people(is_json)
    answer = found.answer or "no answer"
    console.print(Text(f"{answer}, {100 * found.probability:.0f} % sure\n"))
    console.print(_parts(found))
    rows = table("like it", "label", "cosine", right=("cosine",))
    for one in found.neighbours:
        words = one.origin if one.text is None else clipped(one.text, 60)
        rows.add_row(words, one.label, f"{one.similarity:.2f}")
    no_rows = "No backbone: there is nothing to tell by which examples are like it."
    console.print(rows if found.neighbours else no_rows)
    if is_json:
        print_json(asdict(found))


def _parts(found: Explanation) -> Text:
    """Return words as they stand, or a map of regions; what counts is marked."""
    made = Text()
    is_text = not any(part.name.startswith("row 1,") for part in found.parts)
    for number, part in enumerate(found.parts):
        style = "bold green" if part.drop > STRONG else ""
        style = "red" if part.drop < -STRONG else style
        if is_text:
            mark = f" ({part.drop:+.2f})" if style else ""
            made.append(f"{part.name}{mark} ", style)
        else:
            made.append(f"{part.drop:+.2f} ", style)
            made.append("\n" if number % GRID == GRID - 1 else "")
    made.append("\nWhat each part adds to the answer.\n" if found.parts else "")
    return made

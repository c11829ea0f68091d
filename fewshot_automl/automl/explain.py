"""Why a model answers so: labelled examples that are alike, and what it looks at."""

import io
import mimetypes
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from fewshot_automl.adaptation.heads import unit_rows
from fewshot_automl.automl.finished import Finished
from fewshot_automl.data import Source, read_inputs
from fewshot_automl.data.sources import names_source
from fewshot_automl.errors import UserError
from fewshot_automl.modalities import Input, open_image

NEIGHBOURS: Final = 5
MOST_WORDS: Final = 80
"""Words that are left out one at a time; of longer texts, neighbours go together."""
GRID: Final = 6
"""Regions of an image along each side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A labelled example that is like the one that was predicted."""

    origin: str
    label: str
    similarity: float
    """Cosine of the features."""
    text: str | None
    """None of images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A word or a region, and what leaving it out takes from the answer."""

    name: str
    """The words, or the row and the column of the region from the upper left."""
    drop: float
    """How much less probable the answer is without it; below 0 if it speaks against."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why one example is answered as it is."""

    answer: str | None
    probability: float
    neighbours: tuple[Neighbour, ...]
    parts: tuple[Part, ...]
    """In the order in which they stand."""


def explain(
    folder: Path | str,
    example: Source,
    *,
    row: int = 0,
    data: Source | None = None,
) -> Explanation:
    """Explain the answer to one example by the study that made the model.

    Args:
        folder: The `out` folder of a fit.
        example: A text, the path of an image, or data like those of the fit.
        row: Which example of the data.
        data: The fit's data again, if they were in memory or have moved.

    Raises:
        UserError: If there is no finished study, or no such row.
    """
    study = Finished.of(folder)
    model = study.model
    if isinstance(example, str):
        is_image = str(mimetypes.guess_type(example)[0]).startswith("image/")
        example = [example] if is_image or not names_source(example) else example
    inputs = read_inputs(example, model.task, model.columns).inputs
    if not 0 <= row < len(inputs):
        raise UserError(f"row must be from 0 to {len(inputs) - 1}, got {row}.")
    asked = inputs[row]
    names, others = _without(asked)
    outputs, rules = model.outputs_of((asked, *others)), model.task.rules
    answer = rules.decode(outputs[:1])[0]
    is_class = answer in rules.names  # else there is no answer: the likeliest class
    place = rules.names.index(answer) if is_class else int(outputs[0].argmax())
    drops = zip(names, outputs[0, place] - outputs[1:, place], strict=True)
    return Explanation(
        answer=answer,
        probability=float(outputs[0, place]),
        neighbours=_neighbours(study, asked, data),
        parts=tuple(Part(name=name, drop=float(drop)) for name, drop in drops),
    )


def _neighbours(
    study: Finished, asked: Input, data: Source | None
) -> tuple[Neighbour, ...]:
    if (encode := study.encoder()) is None:
        return ()
    rows, trained, _ = study.table(data)
    near = unit_rows(encode(trained)) @ unit_rows(encode((asked,)))[0]
    return tuple(
        Neighbour(
            origin=study.summary["origins"][rows[i]],
            label=study.model.task.rules.say(study.summary["labels"][rows[i]]),
            similarity=float(near[i]),
            text=trained[i] if isinstance(trained[i], str) else None,
        )
        for i in np.argsort(-near)[:NEIGHBOURS]
    )


def _without(example: Input) -> tuple[list[str], list[Input]]:
    """Return parts of an example, and the example without each of them.

    Source:
        Zeiler and Fergus, ECCV 2014 (occlusion).
    """
    if isinstance(example, str):
        words = [match.span() for match in re.finditer(r"\S+", example)]
        if len(words) < 2:
            return [], []
        parts = np.array_split(np.arange(len(words)), min(len(words), MOST_WORDS))
        ends = [(words[part[0]][0], words[part[-1]][1]) for part in parts]
        rest: list[Input] = [example[:a] + example[b:] for a, b in ends]
        return [example[a:b] for a, b in ends], rest
    from PIL import ImageStat

    image = open_image(example)
    grey = tuple(int(x) for x in ImageStat.Stat(image).mean)
    across, down = (np.linspace(0, n, GRID + 1).astype(int) for n in image.size)
    names: list[str] = []
    covered: list[Input] = []
    for y in range(GRID):
        for x in range(GRID):
            copy = image.copy()
            copy.paste(grey, (across[x], down[y], across[x + 1], down[y + 1]))
            held = io.BytesIO()
            copy.save(held, "PNG")
            names.append(f"row {y + 1}, column {x + 1}")
            covered.append(held.getvalue())
    return names, covered

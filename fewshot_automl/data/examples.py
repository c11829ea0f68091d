"""Examples and what is to be learnt from them: what this room hands to the others."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Int

from fewshot_automl.errors import ShapeError
from fewshot_automl.finding import Finding
from fewshot_automl.modalities import Input
from fewshot_automl.tasks import Task


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Examples:
    """Holds inputs, their targets and where each came from, in one order.

    >>> few = Examples(
    ...     inputs=("good", "bad", "so so"),
    ...     targets=np.array([1, 0, -1]),
    ...     origins=("a.csv:2", "a.csv:3", "a.csv:4"),
    ... )
    >>> task = Task(modality="text", names=("-", "+"))
    >>> len(few), few.labelled(task).origins, few.take([1]).inputs
    (3, ('a.csv:2', 'a.csv:3'), ('bad',))
    """

    inputs: tuple[Input, ...]
    """Texts, image files, encoded images or pixels; see `modalities.Input`."""
    targets: np.ndarray
    """What is to be predicted, one row an example; `Task` knows its form, and where
    nobody has labelled an example."""
    origins: tuple[str, ...]
    """File and row, or path, of each example, for messages to people."""

    def __post_init__(self) -> None:
        """Check that the three agree in length."""
        if not len(self.inputs) == len(self.targets) == len(self.origins):
            raise ShapeError(
                f"Inputs, targets and origins must agree in length, got "
                f"{len(self.inputs)}, {len(self.targets)} and {len(self.origins)}."
            )

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.inputs)

    def take(self, indices: Sequence[int] | Int[np.ndarray, " chosen"]) -> "Examples":
        """Return the examples at these positions, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Examples(
            inputs=tuple(self.inputs[i] for i in chosen),
            targets=self.targets[chosen],
            origins=tuple(self.origins[i] for i in chosen),
        )

    def labelled(self, task: Task) -> "Examples":
        """Return the examples that somebody has labelled."""
        return self.take(np.flatnonzero(task.rules.is_labelled(self.targets)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Names the columns that were read, so that a model finds them again.

    A name is None where the source had no named columns (lists, class folders).

    >>> Columns.from_json(Columns(input="review", target="stars").to_json())
    Columns(input='review', target='stars')
    """

    input: str | None = None
    """The column the texts, or the images or paths to them, stand in."""
    target: str | None = None
    """The column the labels stand in."""

    def to_json(self) -> dict[str, str | None]:
        """Return the fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, str | None]) -> "Columns":
        """Return the columns that `to_json` wrote, also that of version 0.1."""
        old = values.get("text") or values.get("image")
        return cls(input=values.get("input", old), target=values["target"])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Dataset:
    """Joins examples with the task they pose and how both were understood."""

    examples: Examples
    """All rows, the unlabelled ones too, in the order of the source."""
    task: Task
    """What is to be learnt."""
    columns: Columns
    """Where in the source the examples stood."""
    inferred: tuple[str, ...] = ()
    """One sentence for each thing that nobody said and that was inferred."""
    findings: tuple[Finding, ...] = ()
    """What reading noticed; `audit` reports it with its own findings."""

"""What a method of adaptation is: its dimensions, its cost, and how it is fitted."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.heads import Head, Outputs, SparseRows
from fewshot_automl.adaptation.kinds import HEADS, Numbers, head_numbers
from fewshot_automl.modalities import Input
from fewshot_automl.space import Config, Dimension, Value
from fewshot_automl.tasks import Task
from fewshot_automl.training import Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """What the dimensions of a method may depend on: the size of the problem."""

    task: Task
    """What is to be learnt."""
    strata: tuple[int, ...]
    """Labelled examples of each stratum: of each class, where there are classes."""
    cut_by: tuple[str, ...] = ()
    """Backbones that read only the beginning of many texts."""
    unlabelled: int = 0
    """Examples without a label that methods may learn from."""

    @classmethod
    def of(cls, task: Task, targets: np.ndarray) -> "Profile":
        """Return the profile of a task with these targets, all of them labelled."""
        strata = task.rules.strata(targets).sum(axis=0)
        return cls(task=task, strata=tuple(strata.tolist()))

    @property
    def is_imbalanced(self) -> bool:
        """Return whether the largest class has over 1.5 times the smallest's examples.

        Below that, weighting classes changes less than the folds' own noise. Where
        weights mean nothing for the kind of target, there is nothing to weigh.
        """
        is_weighed = HEADS[self.task.kind].is_weighed
        return is_weighed and max(self.strata) > 1.5 * min(self.strata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """All that one fit is given besides its examples and targets."""

    task: Task
    """What is to be learnt."""
    config: Config
    """The values of the method's dimensions."""
    seed: int
    """Seed of everything random in the fit."""
    placement: Placement
    """Where it trains."""
    deadline: float | None = None
    """`time.monotonic()` at which the fit must be over; None for no limit."""
    unlabelled: Encodings | None = None
    """Examples that nobody has labelled, as the backbone sees them."""
    parts: int = 1
    """Pieces in which a batch begins to be run, so that memory holds them."""
    checkpoints: bool = False
    """Whether blocks run again for gradients, rather than keep what they made."""
    before_training: Callable[[], None] = lambda: None
    """Is called once all that a training needs is at hand."""

    def fit_head(
        self, features: np.ndarray | SparseRows, targets: np.ndarray, **more: np.ndarray
    ) -> Head:
        """Fit the head that the Config names; if none, the first of its kind.

        Of `more` the kind's `HeadRow` knows.
        """
        row = HEADS[self.task.kind]
        if not row.takes_sparse and not isinstance(features, np.ndarray):
            features = features.toarray()
        return row.fit(features, targets, self.task, self.config, self.seed, **more)


@runtime_checkable
class Fitted(Protocol):
    """A fitted model: outputs for examples, and a form on disk."""

    @property
    def is_finite(self) -> bool:
        """Return whether every number in it is finite."""

    def outputs(self, encodings: Encodings) -> Outputs:
        """Return what is predicted, one row an example.

        During a study, `encodings` come from the frozen backbone the fit began with;
        after loading, from the fitted model's own (`own_encoder`).
        """

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the arrays into a folder; return what else `load` needs, as JSON."""

    @classmethod
    def load(cls, folder: Path, state: dict[str, Any]) -> "Fitted":
        """Return what `save` wrote, ready to predict by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Method(ABC):
    """A way to adapt; one row of `adaptation.table.METHODS`.

    All that others need to know of a method stands in its row: adding one is adding
    its file and its row.
    """

    name: str
    """In Configs, on the command line and in records."""
    title: str
    """For people."""
    meaning: str
    """What it does, as the end of a sentence that begins with its title."""
    trains: bool = False
    """Whether it trains by gradient steps; the others are cheap, and in rung 0."""
    needs_backbone: bool = True
    """Whether it reads a backbone's features."""
    learns: bool = True
    """Whether what it predicts depends on the input; else it is a constant answer."""
    modalities: tuple[str, ...] = ()
    """What it can be used on; empty for everything."""
    kinds: tuple[str, ...] = ()
    """Kinds of target that it can learn; empty for all that have heads (and, if it
    trains, a loss), see `adaptation.kinds`."""
    passes: float = 0.0
    """Forward passes through what is trained that a training step is worth."""
    rung_zero: tuple[Mapping[str, Value], ...] = ({},)
    """Values that rung 0 tries, on each backbone where it needs one."""
    rung_zero_best: tuple[Mapping[str, Value], ...] = ()
    """Values that rung 0 tries once all others are seen, on the best backbone."""

    def suits(self, task: Task) -> bool:
        """Return whether the method can be used on a task."""
        if self.modalities and task.modality not in self.modalities:
            return False
        if self.kinds:
            return task.kind in self.kinds
        row = HEADS.get(task.kind)
        return row is not None and (row.loss is not None or not self.trains)

    def dimensions(self, profile: Profile) -> tuple[Dimension, ...]:
        """Return its dimensions; the condition on `method` is added by the caller.

        Two methods may share a dimension: then both return the same one.
        """
        return ()

    def first_trained(self, config: Config, depth: int) -> int:
        """Return the first block that is trained: -1 for all, `depth` for none."""
        return depth

    def numbers(
        self, config: Config, width: int, task: Task, inputs: Sequence[Input]
    ) -> Numbers:
        """Return the numbers that a model holds besides its backbone and adapter.

        `width` is that of the backbone's features, 0 without a backbone; `inputs` are
        all labelled examples.
        """
        return head_numbers(config, width, task, len(inputs))

    @abstractmethod
    def fit(self, train: Encodings, targets: np.ndarray, job: Job) -> Fitted:
        """Fit to labelled examples.

        Raises:
            TrialError: If it cannot be fitted (NaN loss, out of memory).
            OutOfTime: If the deadline passed first.
        """

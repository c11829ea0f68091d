"""Every kind of target there is, and what is to be learnt in one study."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from fewshot_automl.errors import TaskError, unknown_name
from fewshot_automl.modalities import modality_named
from fewshot_automl.tasks.classes import Classes
from fewshot_automl.tasks.costs import Costs, place_of
from fewshot_automl.tasks.kind import Metric, Outputs, Targets, TaskKind

ROUNDS: Final = 5
"""How often costs are raised in turn until enough is found of several classes."""
TASK_KINDS: Final[dict[str, type[TaskKind]]] = {Classes.name: Classes}
"""By name; add to it. A column is offered to the last row first; almost any can be
classes."""

CODE: Final = re.compile(r"\d|^[A-Z]{1,5}$|^\W*\w{0,2}\W*$")
"""Marks a name that says nothing to a reader of texts: ``c1``, ``ABBR``, ``y``."""


def kind_named(name: str) -> type[TaskKind]:
    """Return the row of that name; the error of another lists the nearest."""
    if name not in TASK_KINDS:
        raise unknown_name("target kind", name, TASK_KINDS, "fewshot fit --help")
    return TASK_KINDS[name]


def metric_named(name: str, kind: str = "classes") -> Metric:
    """Return the metric of that name that a kind of target has."""
    known = kind_named(kind).metrics
    if name not in known:
        raise unknown_name("metric", name, known, "fewshot fit --help")
    return known[name]


def metric_names() -> Iterable[str]:
    """Return the names of the metrics of all kinds, each once."""
    return dict.fromkeys(name for row in TASK_KINDS.values() for name in row.metrics)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """States what is to be learnt; it never knows where the data came from.

    Everything that depends on the kind of target is asked of its `rules`: rooms above
    move `targets[examples, ...]` and `outputs[repeats, examples, width]`.

    >>> Task(modality="text", names=("ham", "spam")).metric
    'accuracy'
    """

    modality: str
    """What one example is; a name of `MODALITIES`."""
    kind: str = "classes"
    """What is predicted for it; a name of `TASK_KINDS`."""
    names: tuple[str, ...] = ()
    """Names of what is told apart (classes); a target may be a place among them."""
    metric: str = ""
    """Name of what predictions are scored by; the kind's default if empty."""
    described: tuple[str, ...] = ()
    """What somebody said of each name, empty where nobody did; or nothing at all."""
    costs: Costs | None = None
    """What mistakes cost, where somebody said so."""

    def __post_init__(self) -> None:
        """Check that the fields agree with each other."""
        modality_named(self.modality)
        rules = self.rules  # it refuses names that do not fit
        object.__setattr__(self, "metric", self.metric or rules.default_metric)
        if self.costs is not None and not rules.takes_costs:
            raise TaskError(
                f"Costs must be of a task of classes, got one of {self.kind}. Leave "
                "them out."
            )
        metric_named(self.metric, self.kind)

    @property
    def rules(self) -> TaskKind:
        """Return what knows its targets and outputs."""
        return kind_named(self.kind)(self.names, self.costs)

    @property
    def words(self) -> tuple[str, ...]:
        """Return what each name says, in words; nothing if one is only a code.

        >>> Task(modality="text", names=("audio_off", "time")).words
        ('audio off', 'time')
        >>> codes = Task(modality="text", names=("c0", "c1"))
        >>> codes.words, codes.describing({"c0": "ham", "c1": "junk mail"}).words
        ((), ('ham', 'junk mail'))
        """
        said = self.described or ("",) * len(self.names)
        pairs = list(zip(said, self.names, strict=True))
        if any(not given and CODE.search(name) for given, name in pairs):
            return ()
        return tuple(given or name.replace("_", " ") for given, name in pairs)

    def describing(self, said: Mapping[str, str]) -> "Task":
        """Return the task with what is said of some of its names.

        Raises:
            TaskError: If it has no such name.
        """
        if odd := [repr(name) for name in said if name not in self.names]:
            raise TaskError(
                f"Described classes must be among {', '.join(self.names)}, got "
                f"{', '.join(odd)}. Write them as in the data."
            )
        described = tuple(said.get(name, "") for name in self.names)
        return replace(self, described=described if said else ())

    def costing(
        self,
        targets: Targets,
        cost: Mapping[str, float],
        no_answer: float | None,
        shares: Mapping[str, float],
    ) -> "Task":
        """Return the task with what mistakes cost; see `Costs.of`."""
        if not cost and no_answer is None and not shares:
            return self
        rules = self.rules
        costs = Costs.of(
            self.names,
            cost,
            no_answer=no_answer,
            shares=shares,
            counts=rules.strata(targets[rules.is_labelled(targets)])
            .sum(axis=0)
            .tolist(),
        )
        return replace(self, costs=costs)

    def finding(
        self, recalls: Mapping[str, float], targets: Targets, outputs: Outputs
    ) -> "Task":
        """Return the task with so many examples of classes found, of some like these.

        Where not all can be had, the last ones are.

        Raises:
            TaskError: If a class is not there.
        """
        costs = self.costs or Costs.of(self.names, {})
        places = {place_of(name, self.names): recalls[name] for name in recalls}
        for _ in range(ROUNDS if len(places) > 1 else 1):  # one may undo another
            before = costs
            for place, share in places.items():
                here = costs.shifted(outputs[targets == place])
                costs = costs.finding(place, share, here) if len(here) else costs
            if costs == before:
                break
        return replace(self, costs=costs)

    def answering(self, share: float, outputs: Outputs) -> "Task":
        """Return the task with so many examples answered, of some like these."""
        costs = self.costs or Costs.of(self.names, {})
        return replace(self, costs=costs.answering(share, costs.shifted(outputs)))

    @property
    def measured(self) -> Metric:
        """Return the metric that the search maximises."""
        return self.rules.metric(self.metric)

    @property
    def width(self) -> int:
        """Return how many numbers a model says of an example."""
        return self.rules.width

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values; of descriptions, those there are."""
        values = {**asdict(self), "names": list(self.names)}
        said = values.pop("described")  # left out, older studies stay the same
        values |= {"described": list(said)} if said else {}
        costs = values.pop("costs")
        return values if costs is None else {**values, "costs": costs}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Task":
        """Return the task that `to_json` wrote, also that of version 0.1."""
        return cls(
            modality=values["modality"],
            kind=values.get("kind", "classes"),
            names=tuple(values.get("names", values.get("class_names", ()))),
            metric=values["metric"],
            described=tuple(values.get("described", ())),
            costs=Costs.from_json(values["costs"]) if "costs" in values else None,
        )

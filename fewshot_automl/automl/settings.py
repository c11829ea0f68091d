"""Everything that shapes a study besides the data, declared once.

A field of `Settings` is an option of ``fewshot fit``, a keyword of `fit` and a key of
``study.json``; its `Option` says how the command line spells and explains it.
"""

import math
import operator
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import KW_ONLY, asdict, dataclass, field, fields
from typing import Any, Final, Literal, cast

import numpy as np

from fewshot_automl.adaptation import method_names
from fewshot_automl.errors import UserError, unknown_name
from fewshot_automl.evaluation.measures import MEASURES, SCORE
from fewshot_automl.executors import EXECUTORS
from fewshot_automl.modalities import MODALITIES
from fewshot_automl.oracle import ORACLES, Aims, Limit, Objective
from fewshot_automl.space import Value
from fewshot_automl.tasks import TASK_KINDS, metric_names

AUTO: Final = "auto"
"""What to say for the executor that suits best."""
NONE: Final = "none"
"""What to say for no limit of time, and for no prior."""
TRACKERS: Final = ("tensorboard", "mlflow", "wandb")
"""What a study may be written down in, too."""
# fmt: off
Kind = Literal[
    "word", "names", "count", "number", "time", "flag",
    "columns", "limits", "ranges", "texts", "costs", "shares",
]
# fmt: on
Group = Literal["data", "space", "goal", "run"]
LIMITS: Final = {row.limit: row for row in MEASURES.values()}
"""The measure that each limit bounds, by the name of the limit."""


@dataclass(frozen=True, slots=True)
class Option:
    """How one setting looks outside Python."""

    help: str
    """A sentence or two, with what the default means."""
    group: Group
    """What it is about. `data` and `space` are options of ``fewshot space`` too."""
    kind: Kind = "word"
    """What its words are: one word, names, a number above 0, a length of time, ..."""
    _: KW_ONLY
    name: str | None = None
    """On the command line and in `fit`, where it isn't the field's."""
    metavar: str | None = None
    """Stands for the value in help."""
    least: int = 1
    """Least number, for a `count`."""
    allowed: Callable[[], Iterable[str]] = tuple
    """The names that it may have, for help; empty for any."""


def _setting(default: Any, *about: Any, **more: Any) -> Any:
    metadata = {"option": Option(*about, **more)}
    if default is dict:
        return field(default_factory=dict, hash=False, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that shapes a study besides the data.

    >>> Settings(budget_seconds=60.0, methods=("probe",)).methods
    ('probe',)
    """

    target: str | None = _setting(
        None, "Column of labels; not needed for class folders.", "data", metavar="COL"
    )
    inputs: Mapping[str, str] = _setting(
        dict,
        'Columns of the examples by what they hold, as in {"text": "review"}. '
        "Default: inferred.",
        "data",
        "columns",
        allowed=lambda: MODALITIES,
    )
    modality: str | None = _setting(
        None,
        "What an example is. Default: inferred.",
        "data",
        allowed=lambda: MODALITIES,
    )
    target_kind: str | None = _setting(
        None,
        "What the target is, where that cannot be inferred, as of number codes that "
        "are classes. Default: inferred.",
        "data",
        name="task",
        allowed=lambda: TASK_KINDS,
    )
    tidy_labels: bool = _setting(
        False,
        "Join spellings of one class (Spam, spam), and read N/A, null, - and the like "
        "as no label. Default: labels are taken as written.",
        "data",
        "flag",
    )
    describe: Mapping[str, str] = _setting(
        dict,
        "What classes of texts are, in words, where their names are codes, as in "
        '"ABBR=an abbreviation"; may be repeated. Default: their names.',
        "data",
        "texts",
        metavar="CLASS=TEXT",
    )
    unlabelled: str | None = _setting(
        None,
        "More examples to learn from, without labels, beside those of the data; may be "
        "those to be predicted. Default: none.",
        "data",
        metavar="DATA",
    )
    backbones: tuple[str, ...] | None = _setting(
        None,
        "Backbones to search. Default: all at hand (see: fewshot zoo).",
        "space",
        "names",
        metavar="ID,...",
    )
    methods: tuple[str, ...] | None = _setting(
        None,
        "Methods to search. Default: all that fit (see: fewshot space DATA).",
        "space",
        "names",
        metavar="NAME,...",
        allowed=method_names,
    )
    narrow: Mapping[str, tuple[Value, ...]] = _setting(
        dict,
        "Other dimensions to narrow: options of a choice, or two ends of a range, as "
        "in frozen_fraction=0.5,0.9; may be repeated.",
        "space",
        "ranges",
        metavar="NAME=VALUE,...",
    )
    metric: str | None = _setting(
        None, "What to maximise. Default: accuracy.", "goal", allowed=metric_names
    )
    objectives: tuple[str, ...] = _setting(
        (SCORE,),
        "What to improve together; the score always is. The report then shows the "
        "Pareto front.",
        "goal",
        "names",
        metavar="NAME,...",
        allowed=lambda: (SCORE, *MEASURES),
    )
    limits: Mapping[str, float] = _setting(
        dict,
        "What the model may cost and must keep, by name of the limit, as in "
        '{"max_latency_ms": 20}.',
        "goal",
        "limits",
        allowed=lambda: LIMITS,
    )
    cost: Mapping[str, float] = _setting(
        dict,
        'What mistakes cost, as in "ham->spam:5" (a ham taken for spam), or a file: '
        "CSV with a row a true class and a column an answer, or JSON. May be repeated; "
        "others cost 1. The answer is the cheapest, and the metric the mean cost.",
        "goal",
        "costs",
        metavar="TRUE->ANSWER:N",
    )
    abstain_cost: float | None = _setting(
        None,
        "What it costs not to answer; then the model does not answer where that is "
        "cheaper. Default: it always answers.",
        "goal",
        "number",
        metavar="N",
    )
    coverage: float | None = _setting(
        None,
        "Share of examples to answer; the least certain ones are left to people. "
        "Default: all.",
        "goal",
        "number",
        metavar="SHARE",
    )
    min_recall: Mapping[str, float] = _setting(
        dict,
        "Share of a class's examples to find, at the price of other mistakes, as in "
        "spam=0.95; may be repeated.",
        "goal",
        "shares",
        metavar="CLASS=SHARE",
    )
    deploy_prevalence: Mapping[str, float] = _setting(
        dict,
        "How frequent a class will be in use, where that differs from the labels, as "
        "in spam=0.02; may be repeated. Default: as among the labels.",
        "goal",
        "shares",
        metavar="CLASS=SHARE",
    )
    members: int | None = _setting(
        None,
        "Most models that the finished one averages, by weights that are learnt. "
        "Default: 5.",
        "goal",
        "count",
    )
    budget_seconds: float | None = _setting(
        300.0,
        "Wall time of everything, the final fit included: 90s, 5min, 2h; none for no "
        "limit. Default: 5min.",
        "run",
        "time",
        name="budget",
        metavar="TIME",
    )
    trials: int | None = _setting(
        None, "Most trials. Default: no limit.", "run", "count"
    )
    seed: int = _setting(
        0, "Of folds, suggestions and trainings. Default: 0.", "run", "count", least=0
    )
    is_strict: bool = _setting(
        False,
        "Refuse unreadable examples instead of leaving them out.",
        "run",
        "flag",
        name="strict",
    )
    storage: str | None = _setting(
        None,
        "Optuna storage of the trials, as postgresql://user@host/db; PGPASSWORD or "
        "~/.pgpass has its password. Default: a journal file in the folder.",
        "run",
        metavar="URL",
    )
    study: str | None = _setting(
        None,
        "Name of the study in --storage; fits that give the same one work on it "
        "together. Default: one of its own.",
        "run",
        metavar="NAME",
    )
    track: str | None = _setting(
        None,
        "Write settings, trials and scores into this tracker, too. Default: none.",
        "run",
        allowed=lambda: TRACKERS,
    )
    oracle: str = _setting(
        "gp",
        "What chooses the next trial. Default: gp.",
        "run",
        allowed=lambda: ORACLES,
    )
    prior: str | None = _setting(
        None,
        "Past studies that advise the oracle (see: fewshot prior); none for no advice. "
        "Default: those that come with fewshot.",
        "run",
        metavar="FILE",
    )
    executor: str | None = _setting(
        None,
        "Where trials run. Default: auto, what suits machine and budget best (see: "
        "fewshot plan DATA).",
        "run",
        allowed=lambda: (AUTO, *EXECUTORS),
    )
    workers: int | None = _setting(
        None, "Trials side by side. Default: as many as pay.", "run", "count"
    )
    processes: int | None = _setting(
        None,
        "Processes that share each training, one for each GPU. Default: 1, or as many "
        "as torchrun or accelerate launch started.",
        "run",
        "count",
    )
    address: str | None = _setting(
        None,
        "Of the Ray cluster, as host:6379, for --executor ray. Default: RAY_ADDRESS, "
        "or the cluster of this machine.",
        "run",
        metavar="ADDRESS",
    )
    device: str | None = _setting(
        None, "cpu, cuda, cuda:1, mps. Default: the best.", "run", metavar="NAME"
    )

    def __post_init__(self) -> None:
        """Make plain what Python gives, and check what no other room checks."""
        for name, value in plain({n: getattr(self, n) for n in options()}).items():
            object.__setattr__(self, name, value)
        if self.budget_seconds is None and self.trials is None:
            raise UserError(
                "Budget must be a time or a number of trials, got neither. "
                "Give --budget 5min or --trials 20."
            )
        if re.search("://[^/@]*:[^/@]*@", self.storage or ""):
            raise UserError(
                "Storage must be a URL without a password, for it is written into the "
                "study and its report. Put it into PGPASSWORD or ~/.pgpass."
            )
        if self.study is not None and self.storage is None:
            raise UserError(
                f"Study must go with a storage, got {self.study!r} alone. Give "
                "--storage too, or --out to name a folder."
            )
        for name, option in options().items():
            value = getattr(self, name)
            if option.kind == "count" and value is not None and value < option.least:
                raise UserError(
                    f"{name} must be {option.least} or more, got {value}. "
                    f"Use {option.least}."
                )
            given = (value,) if isinstance(value, str) else value or ()
            allowed = tuple(option.allowed())
            for one in given if allowed else ():
                if one not in allowed:
                    what = name.replace("_", " ").removesuffix("s")
                    raise unknown_name(what, one, allowed, "fewshot fit --help")
            if option.kind == "names" and value == ():
                raise UserError(
                    f"{name} must name at least one, got none. Leave it out."
                )
        if self.coverage is not None and not 0 < self.coverage <= 1:
            raise UserError(
                f"coverage must be above 0 and at most 1, got {self.coverage}."
            )
        for name, share in self.min_recall.items():
            if not 0 < share <= 1:
                raise UserError(
                    f"min_recall must be above 0 and at most 1, got {name}={share:g}."
                )
        if self.coverage is not None and self.abstain_cost is not None:
            raise UserError(
                "Either coverage or abstain_cost decides what is not answered, got "
                "both. Leave one out."
            )
        is_shared, workers = (self.processes or 1) > 1, self.workers or 1
        if is_shared != (self.runs_in == "ranks") or (is_shared and workers > 1):
            raise UserError(
                "processes must be 2 or more for the executor ranks and one worker, "
                f"and 1 for others, got {self.processes} for {self.runs_in} and "
                f"{workers}. Give --workers N or --processes N, alone."
            )
        if self.executor == "ray" and self.workers is None:
            raise UserError(
                "workers must be given for the executor ray, got none. Say with "
                "--workers N how many trials the cluster runs side by side."
            )
        if self.address is not None and self.executor != "ray":
            raise UserError(
                f"Address must go with the executor ray, got {self.address!r} for "
                f"{self.runs_in}. Leave it out, or give --executor ray."
            )
        objectives = tuple(dict.fromkeys((SCORE, *self.objectives)))
        object.__setattr__(self, "objectives", objectives)
        for name, end in self.limits.items():
            if LIMITS[name].is_maximised and not 0 <= end <= 1:
                raise UserError(f"{name} must be from 0 to 1, got {end}. Use 0.5.")
            if not LIMITS[name].is_maximised and not 0 < end < math.inf:
                raise UserError(
                    f"{name} must be more than 0, got {end}. Leave it out for no limit."
                )

    @property
    def runs_in(self) -> str:
        """Return the name of the executor, or `AUTO`.

        >>> Settings(workers=2).runs_in
        'loky'
        """
        if self.executor not in (None, AUTO):
            return self.executor or AUTO
        if (self.processes or 1) > 1:
            return "ranks"
        if self.workers is None:
            return AUTO
        return "loky" if self.workers > 1 else "in_process"

    @property
    def searched_for(self) -> str | None:
        """Return the name of the metric; None for the default of the target's kind."""
        has_costs = self.cost or self.deploy_prevalence or self.abstain_cost is not None
        return self.metric or ("cost" if has_costs else None)

    @property
    def aims(self) -> Aims:
        """Return what is improved, the score first, and what the model must keep.

        >>> aims = Settings(objectives=("flops",), limits={"max_flops": 1e9}).aims
        >>> [str(row) for row in (*aims.objectives, *aims.limits)]
        ['most score', 'least flops', 'flops at most 1e+09']
        """
        rows = ((LIMITS[name], float(end)) for name, end in self.limits.items())
        return Aims(
            objectives=tuple(
                Objective(name, name == SCORE or MEASURES[name].is_maximised)
                for name in self.objectives
            ),
            limits=tuple(
                Limit(row.name, **{"least" if row.is_maximised else "most": end})
                for row, end in rows
            ),
        )

    @property
    def command(self) -> str:
        """Return the options of ``fewshot fit`` that ask for the same.

        >>> Settings(budget_seconds=60.0, narrow={"rank": (4, 8)}).command
        '--narrow rank=4,8 --budget 60'
        """
        words: list[str] = []
        for name, option in options().items():
            if (value := getattr(self, name)) == getattr(Settings(), name):
                continue
            flag = (option.name or name).replace("_", "-")
            parts = value if isinstance(value, Mapping) else {flag: value}
            for key, part in parts.items():
                text = ",".join(map(str, part)) if isinstance(part, tuple) else part
                text = f"{text:.15g}" if isinstance(text, float) else text or NONE
                if option.kind in ("ranges", "texts", "shares", "costs"):
                    between = ":" if option.kind == "costs" else "="
                    key, text = flag, f"{key}{between}{text}"
                words.append(f"--{key.replace('_', '-')}")
                words += [] if option.kind == "flag" else [str(text)]
        return shlex.join(words)

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values."""
        return {**asdict(self), "narrow": {n: list(v) for n, v in self.narrow.items()}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Settings":
        """Return the settings that `to_json` wrote."""
        return cls(**plain(values))


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings as their fields have them, of JSON's or numpy's values too.

    >>> plain({"trials": np.int64(3), "methods": "probe", "target": 7})
    {'trials': 3, 'methods': ('probe',), 'target': '7'}
    """
    made, rows = dict(values), options()
    for name in made.keys() & rows.keys():
        value, (what, kept) = values[name], _PLAIN[rows[name].kind]
        try:
            made[name] = None if value is None else kept(value)
        except (TypeError, ValueError, AttributeError) as error:
            spelt = rows[name].name or name
            raise UserError(f"{spelt} must be {what}, got {value!r}.") from error
    return made


def _several(values: Any) -> tuple[Value, ...]:
    one = isinstance(values, str)  # its letters are not meant
    return (values,) if one else tuple(np.array(list(values)).tolist())


_PLAIN: Final[Mapping[Kind, tuple[str, Callable[[Any], Any]]]] = {
    "word": ("a word", str),
    "names": ("names", lambda names: tuple(map(str, _several(names)))),
    "count": ("a whole number", operator.index),
    "number": ("a number", float),
    "time": ('a number of seconds or words such as "5min"', float),
    "flag": ("True or False", bool),
    "columns": ("columns by modality", lambda x: {n: str(c) for n, c in x.items()}),
    "limits": ("numbers by limit", lambda x: {n: float(end) for n, end in x.items()}),
    "costs": ("costs by TRUE->ANSWER", lambda x: {n: float(c) for n, c in x.items()}),
    "shares": ("shares by class", lambda x: {str(n): float(s) for n, s in x.items()}),
    "texts": ("texts by class", lambda x: {str(n): str(t) for n, t in x.items()}),
    "ranges": ("values by name", lambda x: {n: _several(v) for n, v in x.items()}),
}
"""What each kind of setting is in words, and what makes its values plain."""


def options(*groups: Group) -> dict[str, Option]:
    """Return the option of each field, in their order; of some groups only if named.

    >>> list(options("space"))
    ['backbones', 'methods', 'narrow']
    """
    every = {row.name: cast(Option, row.metadata["option"]) for row in fields(Settings)}
    return {n: row for n, row in every.items() if not groups or row.group in groups}

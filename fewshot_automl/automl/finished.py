"""A finished study, and the versions of its model.

A version is a study of its own, in ``versions/N`` of the first one's folder, whose
``model`` is always the current version's.
"""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.saved import own_encoder
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.automl.fit import sources_of
from fewshot_automl.automl.record import STUDY_FILE, read_record, read_summary
from fewshot_automl.automl.result import RESULT_FILE, VERSIONS_FILE
from fewshot_automl.automl.settings import Settings
from fewshot_automl.data import Columns, Source, read_beside
from fewshot_automl.errors import DataError, UserError
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.ledger import read_outputs
from fewshot_automl.modalities import Input, content_hashes
from fewshot_automl.places import cache_folder, link_folder
from fewshot_automl.predictor import Predictor
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task
from fewshot_automl.tasks.classes import Classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One model of a study, of the labels that there were then."""

    number: int
    parent: int | None
    date: str
    examples: int
    metric: str
    expected: float
    """Score to expect."""
    said: str
    """What it changed."""

    @classmethod
    def of(
        cls, number: int, parent: int | None, summary: Mapping[str, Any], said: str
    ) -> "Version":
        """Return the row of a study, by its summary and what it changed."""
        return cls(
            number=number,
            parent=parent,
            date=summary.get("date") or datetime.now(UTC).isoformat(timespec="seconds"),
            examples=summary["labelled"],
            metric=summary["score"]["metric"],
            expected=summary["score"]["expected"],
            said=said,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Versions:
    """All versions of a study, the first one included."""

    current: int
    rows: tuple[Version, ...]

    @classmethod
    def of(cls, folder: Path) -> "Versions":
        """Read the versions of a study; one that was never updated has one."""
        path = folder / VERSIONS_FILE
        if (folder / STUDY_FILE).exists():
            read_record(folder)  # that of a newer version is refused
        if path.exists():
            values = json.loads(path.read_text("utf-8"))
            rows = tuple(Version(**row) for row in values["versions"])
            return cls(current=values["current"], rows=rows)
        if not (folder / RESULT_FILE).exists():
            raise UserError(
                f"Folder must be of a finished fit, got {folder}. Finish it first: "
                f"fewshot resume {folder}"
            )
        first = Version.of(1, None, read_summary(folder), "the first fit")
        return cls(current=1, rows=(first,))

    def write(self, folder: Path) -> None:
        """Write them, and put the current one's model in its place."""
        home = folder / "versions"
        first = home / "1" / "model"
        if not first.exists():
            link_folder(folder / "model", first)
        link_folder(home / str(self.current) / "model", folder / "model")
        values = {"current": self.current, "versions": [asdict(v) for v in self.rows]}
        draft = folder / f"{VERSIONS_FILE}.writing"
        draft.write_text(json.dumps(values, indent=2), "utf-8")
        draft.replace(folder / VERSIONS_FILE)

    def study(self, folder: Path) -> Path:
        """Return the folder of the current version's study."""
        return folder if self.current == 1 else folder / "versions" / str(self.current)

    def going_to(self, number: int) -> "Versions":
        """Return the same with another one current."""
        if number not in (known := [row.number for row in self.rows]):
            raise UserError(
                f"Version must be one of {', '.join(map(str, known))}, got {number}."
            )
        return replace(self, current=number)


@dataclass(frozen=True)
class Finished:
    """The study of the current version of a model, of which little is read at once."""

    home: Path
    """The first study's folder, where versions are."""
    folder: Path
    """Of the current version."""
    versions: Versions
    summary: dict[str, Any]

    @classmethod
    def of(cls, home: Path | str) -> "Finished":
        """Read what the study in the `out` folder of a fit says of itself.

        Raises:
            UserError: If it is not finished.
        """
        versions = Versions.of(home := Path(home))
        folder = versions.study(home)
        return cls(home, folder, versions, read_summary(folder))

    @cached_property
    def record(self) -> dict[str, Any]:
        """Return what a resume needs; see `read_record`."""
        return read_record(self.folder)

    @cached_property
    def settings(self) -> Settings:
        """Return what the study was asked for."""
        return Settings.from_json(self.record["settings"])

    @cached_property
    def task(self) -> Task:
        """Return what was learnt, with its decisions."""
        return Task.from_json(self.summary["task"])

    @cached_property
    def columns(self) -> Columns:
        """Return where examples stand in a table."""
        return Columns.from_json(self.summary["columns"])

    @cached_property
    def model(self) -> Predictor:
        """Return the model; loading it takes seconds."""
        return Predictor.load(self.folder)

    def classes(self, what: str) -> Classes:
        """Return the rules of a task of classes; others cannot have `what`."""
        if not isinstance(rules := self.task.rules, Classes):
            kind = self.task.kind
            raise UserError(f"{what} must be of a model of classes, got {kind}.")
        return rules

    def table(
        self, data: Source | None
    ) -> tuple[list[int], tuple[Input, ...], dict[str, list[object]]]:
        """Return which labelled examples are still there, they, and other columns."""
        source, _ = sources_of(self.folder, self.record, data, None)
        read, beside = read_beside(source, self.task, self.columns)
        inputs = read.inputs
        files = [not isinstance(x, Path) or x.is_file() for x in inputs]
        there = np.flatnonzero(files).tolist()
        hashes = content_hashes([inputs[place] for place in there])
        known = dict(zip(hashes, there, strict=True))
        keys = self.summary["keys"]
        rows = [row for row, key in enumerate(keys) if key in known]
        if not rows:
            raise DataError("Data must be those of the fit, got none of its examples.")
        places = [known[keys[row]] for row in rows]
        cells = {name: [column[i] for i in places] for name, column in beside.items()}
        return rows, tuple(inputs[place] for place in places), cells

    @cached_property
    def labels(self) -> np.ndarray:
        """Return the targets of the labelled examples."""
        return np.array(self.summary["labels"])

    @cached_property
    def predictions(self) -> Float[np.ndarray, "repeats examples width"]:
        """Return the model's cross-validated outputs; NaN where there is none."""
        path = self.folder / self.summary["predictions"]
        return read_outputs(path).astype(np.float64)

    @cached_property
    def outputs(self) -> Float[np.ndarray, "examples width"]:
        """Return the same, averaged over the repeats that have them."""
        there = np.isfinite(self.predictions).all(axis=2, keepdims=True)
        sums = np.where(there, self.predictions, 0.0).sum(axis=0)
        with np.errstate(invalid="ignore"):
            return np.asarray(sums / there.sum(axis=0))

    def encoder(
        self, *, frozen: bool = False
    ) -> Callable[[Sequence[Input]], np.ndarray] | None:
        """Return what makes features, and keeps them; None where there is no backbone.

        It is a frozen member's if there is one, and must be if `frozen`: a backbone
        trained on the labelled examples sets them apart from all others. The feature
        store knows each saved backbone by its weights.
        """
        fitted = self.model.fitted
        members = [m.fitted for m in getattr(fitted, "members", ())] or [fitted]
        configs = [Config.from_json(row["config"]) for row in self.summary["members"]]
        trains = [METHODS[config.text("method")].trains for config in configs]
        encoders = [(t, own_encoder(m)) for t, m in zip(trains, members, strict=True)]
        found = [e for t, e in encoders if not t] + [
            e for t, e in encoders if t and not frozen
        ]
        if (encoder := next(filter(None, found), None)) is None:
            return None
        kept = replace(encoder, store=FeatureStore(cache_folder() / "features"))
        return lambda inputs: Encodings(inputs=tuple(inputs), encoder=kept).pooled()

    def next_version(self) -> tuple[int, Path]:
        """Return the number of a new version and the empty place of its study."""
        number = max(row.number for row in self.versions.rows) + 1
        place = self.home / "versions" / str(number)
        shutil.rmtree(place, ignore_errors=True)  # of one that was broken off
        return number, place

    def add(self, number: int, summary: Mapping[str, Any], said: str) -> None:
        """Make a new version of this one the current one."""
        row = Version.of(number, self.versions.current, summary, said)
        rows = (*self.versions.rows, row)
        Versions(current=number, rows=rows).write(self.home)

"""A model of a fit or an export, which answers together what comes together."""

import asyncio
import contextlib
import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import numpy as np

from fewshot_automl.errors import DataError, ExportError
from fewshot_automl.export.reading import MANIFEST, open_export
from fewshot_automl.modalities import Input, modality_named
from fewshot_automl.tasks import Task

LOOK_SECONDS: Final = 1.0
"""Between two looks at a folder that is watched."""
Answer = dict[str, Any]
"""`answer`, None where the model leaves it to a person, and `probabilities`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What requests may cost; more is refused."""

    max_bytes: int = 10_000_000  # of a body
    max_items: int = 64  # examples in a request
    seconds: float = 30.0  # to send a request, to answer it, to end after SIGTERM
    queue: int = 256  # examples that wait
    batch: int = 32  # examples that are answered together
    wait_ms: float = 3.0  # for which a batch waits for more
    connections: int = 1000  # open at a time


def manifest_of(folder: Path) -> tuple[Path, str]:
    """Return the file that lists what a model holds, and the version that it means."""
    places = (folder / MANIFEST, folder / "model.json", folder / "model" / "model.json")
    if (path := next(filter(Path.is_file, places), None)) is None:
        raise ExportError(f"MODEL must be a folder of a fit or export, got {folder}.")
    return path, hashlib.sha256(path.read_bytes()).hexdigest()[:12]


class Served:
    """A model in memory, which has answered an example."""

    def __init__(self, folder: Path) -> None:
        path, self.version = manifest_of(folder)
        facts: dict[str, Any]
        self.ask: Callable[[Sequence[Any]], list[Answer]]
        if path.name == MANIFEST:
            model = open_export(folder)
            self.task, facts = Task.from_json(model.manifest["task"]), model.manifest
            self.ask = model.predict
        else:
            from fewshot_automl.predictor import Predictor  # torch, 400 MB

            self._fitted = Predictor.load(folder)
            self.task, facts = self._fitted.task, {**self._fitted.facts}
            self.ask = self._ask_fitted
        names = facts.keys() & {"format", "score", "labelled", "date", "license"}
        self.about = {"version": self.version, **{name: facts[name] for name in names}}
        self.about |= {"modality": self.task.modality, "classes": self.task.names}
        counts = facts.get("class_counts", {})
        self.shares = {x: float(n / sum(counts.values())) for x, n in counts.items()}
        is_text = self.task.modality == "text"
        self.ask(["an example" if is_text else np.zeros((32, 32, 3), np.uint8)])

    def _ask_fitted(self, inputs: Sequence[Input]) -> list[Answer]:
        outputs = self._fitted.outputs_of(tuple(inputs))
        columns = self.task.rules.columns(outputs).values()
        rows = [dict(zip(self.task.names, row, strict=True)) for row in zip(*columns)]  # noqa: B905
        pairs = zip(self.task.rules.decode(outputs), rows, strict=True)
        return [{"answer": answer, "probabilities": row} for answer, row in pairs]

    def answers(self, inputs: Sequence[Input]) -> list[Answer | DataError]:
        """Return answers; an error in the place of what cannot be read."""
        try:
            return [*self.ask(inputs)]
        except Exception:  # whatever decoders raise
            looks = modality_named(self.task.modality).look(inputs)
            if not any(look.fault for look in looks):
                raise
            good = [x for x, look in zip(inputs, looks, strict=True) if not look.fault]
            made = iter(self.ask(good) if good else [])
            return [DataError(x.fault) if x.fault else next(made) for x in looks]


class Batches:
    """One queue and one worker in front of a model, which may be replaced."""

    def __init__(self, model: Served, limits: Limits) -> None:
        self.model, self.limits = model, limits
        self.queue: asyncio.Queue[tuple[Served, Input, asyncio.Future[Any]]] = (
            asyncio.Queue()
        )

    def put(self, inputs: Sequence[Input]) -> "asyncio.Future[list[Any]] | None":
        """Return the answers to come; None if the queue cannot take all of them."""
        if self.queue.qsize() + len(inputs) > max(self.limits.queue, len(inputs)):
            return None
        made = [asyncio.get_running_loop().create_future() for _ in inputs]
        for one, future in zip(inputs, made, strict=True):
            self.queue.put_nowait((self.model, one, future))
        return asyncio.gather(*made)

    async def work(self) -> None:
        """Answer what is in the queue, for ever."""
        while True:
            taken = [await self.queue.get()]
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.limits.wait_ms / 1000):
                    while len(taken) < self.limits.batch:
                        taken.append(await self.queue.get())
            # Nobody waits any more for those that are done: their time is over.
            waiting = (each for each in taken if not each[2].done())
            for model, group in groupby(waiting, itemgetter(0)):
                _, inputs, futures = zip(*group, strict=True)
                found: Sequence[Any]
                try:
                    found = await asyncio.to_thread(model.answers, inputs)
                except Exception as error:  # noqa: BLE001  the worker must go on
                    found = [error] * len(inputs)
                for future, made in zip(futures, found, strict=True):
                    if not future.done():
                        future.set_result(made)

    async def watch(self, folder: Path) -> None:
        """Take a new version of the model once its folder holds one, for ever."""
        told = ""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                if manifest_of(folder)[1] == self.model.version:
                    continue
                self.model = await asyncio.to_thread(Served, folder)
                log(event="reloaded", version=self.model.version)
            except Exception as error:  # noqa: BLE001  the old one still answers
                if told != (told := f"{type(error).__name__}: {error}"):  # once
                    log(event="reload failed", error=told, serving=self.model.version)


def log(**values: Any) -> None:
    """Write one JSON object as a line of stderr."""
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    sys.stderr.write(json.dumps({"time": moment, **values}) + "\n")

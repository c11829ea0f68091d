"""Trials that train side by side: the folds of several Configs as one job."""

import itertools
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import torch

from fewshot_automl.adaptation.encodings import Encodings
from fewshot_automl.adaptation.method import Fitted, TrainsTogether
from fewshot_automl.adaptation.table import method
from fewshot_automl.errors import OutOfTime, TrialError
from fewshot_automl.evaluation.folds import Fold
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Config, Space
from fewshot_automl.space import Float as FloatDimension
from fewshot_automl.training.placement import free_bytes
from fewshot_automl.trial.evaluate import (
    Evaluate,
    checked,
    job_of,
    predicted,
)
from fewshot_automl.trial.predicted import (
    is_run,
    outcome_of,
    predicted_before,
    repeats_of,
)
from fewshot_automl.trial.workbench import Workbench
from fewshot_automl.trial.workload import first_trained

logger = logging.getLogger(__name__)

FIRST_SLOTS: Final = 16
"""Trainings side by side before anything was measured."""
MOST_SLOTS: Final = 256
WORTH: Final = 1.1
"""How much faster twice as many slots must be to be used."""
MEMORY_SHARE: Final = 0.6
"""Of the free memory, for what a cohort adds to it."""
CUTS_TRIED: Final = 200
"""Frozen fractions looked at to find the range with one cut."""

Kind = tuple[str, str, int]
"""Method, backbone and first trained block of trainings that cost the same a row."""


@dataclass(slots=True, kw_only=True, eq=False)
class Together:
    """Runs Configs of one method, backbone and cut as one job.

    On a GPU a small model leaves the card idle, so trainings side by side cost little
    more than one. On a CPU arithmetic is what costs, and they save nothing
    (benchmarks/speed_cohort.py), so there every trial runs alone.

    The number of slots is bounded by a forecast of memory. Below that it is doubled
    as long as that was measured to train faster.
    """

    workbench: Workbench
    """Problem, cards and placement."""
    whole: Space
    """The study's space."""
    slots: int | None = None
    """Trainings side by side; None: measured on a GPU, and 1 elsewhere."""
    _bytes: dict[Kind, int] = field(default_factory=dict)
    _rates: dict[Kind, dict[int, float]] = field(default_factory=dict)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle without what was measured here: it is of this process."""
        return _together, (self.workbench, self.whole, self.slots)

    def size(self, config: Config) -> int:
        """Return how many trials may run beside each other, this one included."""
        return max(1, self._slots(config) // self._fits(config))

    def alone(self, config: Config, deadline: float | None) -> Outcome:
        """Cross-validate one Config; its folds train together where that pays."""
        if self._slots(config) > 1:
            return self((config,), deadline)[0]
        return Evaluate(workbench=self.workbench)(config, deadline)

    def first_look(self, config: Config, deadline: float | None) -> Outcome:
        """Cross-validate a dear Config on its first folds, any other on all.

        Where folds train together all are run: fewer would save next to nothing.
        """
        if self._slots(config) > 1:
            return self((config,), deadline)[0]
        return Evaluate(workbench=self.workbench).first_look(config, deadline)

    def space(self, config: Config) -> Space | None:
        """Return the Configs of the same method, backbone and cut."""
        narrowed = self.whole
        for name in ("method", "backbone"):
            narrowed = narrowed.narrow(name, [config.text(name)])
        if "frozen_fraction" in config:
            ends = self._same_cut(config)
            narrowed = narrowed.narrow("frozen_fraction", ends)
        return narrowed

    def __call__(
        self, configs: tuple[Config, ...], deadline: float | None
    ) -> tuple[Outcome, ...]:
        """Cross-validate Configs together, each from where a first look has stopped.

        Args:
            configs: Of one method, backbone and cut.
            deadline: `time.monotonic()` at which it must be over.

        Returns:
            An Outcome of each. It is said to have cost its share of the time, by the
            folds that were run here.

        Raises:
            OutOfTime: If the deadline passes first.
        """
        start = time.monotonic()
        bench = self.workbench
        encodings = bench.encodings(configs[0], deadline)
        probas = [predicted_before(bench, config) for config in configs]
        folds = [
            (at, repeat, fold)
            for at, config in enumerate(configs)
            for repeat, row in enumerate(repeats_of(bench, config))
            for fold in row
            if not is_run(probas[at][repeat], fold)
        ]
        slots = max(1, self._slots(configs[0]))
        models: list[Fitted | TrialError] = []
        for begin in range(0, len(folds), slots):
            part = folds[begin : begin + slots]
            models += self._fitted(
                encodings,
                [configs[at] for at, _, _ in part],
                [fold for _, _, fold in part],
                deadline,
            )
        reasons: dict[int, str] = {}
        last: dict[int, Fitted] = {}
        for (at, repeat, fold), model in zip(folds, models, strict=True):
            try:
                if isinstance(model, TrialError):
                    raise model
                proba = predicted(checked(model), encodings, fold)
                probas[at][repeat, fold.validation] = proba
                last[at] = model
            except OutOfTime:
                raise
            except TrialError as error:
                reasons.setdefault(at, f"{type(error).__name__}: {error}")
        each = (time.monotonic() - start) / len(folds)
        costs = [
            each * sum(own == at for own, _, _ in folds) for at in range(len(configs))
        ]
        return tuple(
            Outcome(status="failed", reason=reasons[at], cost_seconds=cost)
            if at in reasons
            else outcome_of(bench, config, last[at], probas[at], cost)
            for at, (config, cost) in enumerate(zip(configs, costs, strict=True))
        )

    def _fitted(
        self,
        encodings: Encodings,
        configs: Sequence[Config],
        folds: Sequence[Fold],
        deadline: float | None,
    ) -> list[Fitted | TrialError]:
        bench = self.workbench
        row = method(configs[0].text("method"))
        assert isinstance(row, TrainsTogether)
        jobs = [job_of(bench, config, deadline) for config in configs]
        start = time.monotonic()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(bench.seed)
            models = row.fit_together(
                encodings, bench.problem.labels, [fold.train for fold in folds], jobs
            )
        work = sum(int(c["steps"]) * int(c["batch_size"]) for c in configs)
        rates = self._rates.setdefault(self._kind(configs[0]), {})
        rates[len(jobs)] = work / (time.monotonic() - start)
        return models

    def _slots(self, config: Config) -> int:
        """Return how many trainings may run side by side; 1 where none should."""
        row = method(config.text("method"))
        is_gpu = self.workbench.placement.device.startswith("cuda")
        if not isinstance(row, TrainsTogether) or not (is_gpu or self.slots):
            return 1
        try:
            backbone = self.workbench.backbone(config.text("backbone"))
            if not row.is_alike(backbone, config, config):
                return 1
            return self.slots or self._best_slots(config)
        except Exception:  # whatever it is, the trial will say it where it is recorded
            logger.debug("No cohort for %s", config, exc_info=True)
            return 1

    def _best_slots(self, config: Config) -> int:
        """Return the largest number of slots that fits and was not seen not to pay."""
        room = int(
            MEMORY_SHARE
            * free_bytes(self.workbench.placement.device)
            / (self._row_bytes(config) * int(config["batch_size"]))
        )
        rates = sorted(self._rates.get(self._kind(config), {}).items())
        slots = FIRST_SLOTS
        if rates:
            slots = 2 * rates[-1][0]
            for (fewer, slow), (more, fast) in itertools.pairwise(rates):
                if more >= 1.5 * fewer and fast < WORTH * slow:
                    slots = fewer
                    break
        return max(1, min(slots, room, MOST_SLOTS))

    def _row_bytes(self, config: Config) -> int:
        """Return the bytes of one training for each row of its batches.

        Weights and moments count too, so it is too much for larger batches than the
        first that was seen.
        """
        kind = self._kind(config)
        if kind not in self._bytes:
            row = method(config.text("method"))
            assert isinstance(row, TrainsTogether)
            bench = self.workbench
            fold = repeats_of(bench, config)[0][0]
            whole = row.slot_bytes(
                bench.encodings(config).take(fold.train),
                bench.problem.labels[fold.train],
                job_of(bench, config, None),
            )
            self._bytes[kind] = -(-whole // int(config["batch_size"]))
        return self._bytes[kind]

    def _kind(self, config: Config) -> Kind:
        name = config.text("backbone")
        depth = self.workbench.card(name).depth
        return config.text("method"), name, first_trained(config, depth)

    def _fits(self, config: Config) -> int:
        return sum(len(folds) for folds in repeats_of(self.workbench, config))

    def _same_cut(self, config: Config) -> tuple[float, float]:
        """Return the ends of the frozen fractions with the cut of a Config."""
        dimension = self.whole["frozen_fraction"]
        assert isinstance(dimension, FloatDimension)
        row = method(config.text("method"))
        assert isinstance(row, TrainsTogether)
        backbone = self.workbench.backbone(config.text("backbone"))
        own = config.number("frozen_fraction")
        alike = [
            float(value)
            for value in np.linspace(dimension.low, dimension.high, CUTS_TRIED)
            if row.is_alike(
                backbone,
                config,
                Config.of({**config.to_json(), "frozen_fraction": float(value)}),
            )
        ]
        return min([own, *alike]), max([own, *alike])


def _together(workbench: Workbench, whole: Space, slots: int | None) -> Together:
    return Together(workbench=workbench, whole=whole, slots=slots)

"""Is an export what its source was? Outputs, answers, score, speed and size."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from jaxtyping import Float

from fewshot_automl.adaptation.saved import MEGABYTE, median_seconds, middling, size_of
from fewshot_automl.errors import ExportError
from fewshot_automl.evaluation.resampling import bootstrap_weights, scorer
from fewshot_automl.export.graph import Graph
from fewshot_automl.modalities import Input
from fewshot_automl.tasks.calibration import LEAST

if TYPE_CHECKING:
    from fewshot_automl.export.formats import Format
    from fewshot_automl.export.write import Evidence
    from fewshot_automl.predictor import Predictor

DRAWS: Final = 1000
"""Bootstrap draws of the examples, for the interval of a change."""
ROWS: Final = 32

Outputs = Float[np.ndarray, "examples width"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """How a score changes from the source to the export."""

    metric: str
    before: float
    after: float
    low: float
    """Lower end of the 95 % interval of the gain (below 0: a loss), paired."""
    high: float
    loss: float
    """How much worse it is; below 0 if it is better."""
    is_cross_validated: bool
    """Whether it is of examples that the model had not learnt from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """How an export compares with its source on some examples."""

    examples: int
    largest_difference: float
    """Of probabilities, from the source."""
    largest_logit_difference: float
    """From the same graph, run by PyTorch in 32-bit floats."""
    largest_logit: float
    agreement: float
    """Share of equal answers."""
    score: Change | None
    """None where nobody knows the labels."""
    latency_ms: tuple[float, float]
    """Median of one example, raw to answer: source, export."""
    megabytes: tuple[float, float]
    """Source in memory, export's folder."""

    @property
    def rows(self) -> list[tuple[str, str, str]]:
        """Return a table: what, of the source, of the export."""
        off = self.largest_difference, self.largest_logit_difference
        found = [
            ("examples compared", "", f"{self.examples:,}"),
            ("largest difference of probabilities", "", f"{off[0]:.1e}"),
            ("largest difference of logits", "", f"{off[1]:.1e}"),
            ("equal answers", "", f"{self.agreement:.1%}"),
        ]
        if (score := self.score) is not None:
            how = "cross-validated" if score.is_cross_validated else "on examples given"
            name = f"{score.metric.replace('_', ' ')}, {how}"
            found.append((name, f"{score.before:.4f}", f"{score.after:.4f}"))
            reach = f"{score.low:+.4f} to {score.high:+.4f}"
            found.append(("95 % interval of the change", "", reach))
        (slow, fast), (large, small) = self.latency_ms, self.megabytes
        return [
            *found,
            ("ms an example, alone", f"{slow:.1f}", f"{fast:.1f}"),
            ("MB, in memory and in its folder", f"{large:.1f}", f"{small:.1f}"),
        ]

    def check(self, row: "Format", quantize: str | None, max_loss: float) -> None:
        """Refuse an export that differs by more than is allowed.

        Raises:
            ExportError: With the number.
        """
        if quantize is None:
            allowed = row.tolerance, row.tolerance * max(1.0, self.largest_logit)
            found = self.largest_difference, self.largest_logit_difference
            if not (found[0] <= allowed[0] and found[1] <= allowed[1]):
                raise ExportError(
                    f"An export to {row.name} must be within {allowed[0]:g} of its "
                    f"source in probabilities and {allowed[1]:.2g} in logits, got "
                    f"{found[0]:.2g} and {found[1]:.2g}. Nothing was written; choose "
                    "another format, and report this."
                )
            return
        assert self.score is not None
        if not self.score.loss <= max_loss:
            metric, reach = self.score.metric.replace("_", " "), self.score
            raise ExportError(
                f"{quantize} must cost at most {max_loss:g} of {metric}, got "
                f"{reach.loss:.4f} (95 % interval of the change {reach.low:+.4f} to "
                f"{reach.high:+.4f}). Nothing was written; leave out --quantize, or "
                "allow more with --max-loss."
            )


def prove(
    predictor: "Predictor",
    graph: Graph,
    model: Any,
    folder: Path,
    evidence: "Evidence",
) -> Proof:
    """Compare an export with its source, through the `Model` of its own predict.py."""
    inputs, rules = evidence.inputs, predictor.task.rules
    before = predictor.outputs_of(inputs)
    logits, after = (x.astype(np.float64) for x in model.outputs(inputs))
    starts = range(0, len(inputs), ROWS)
    parts = [_eager(graph, model, inputs[at : at + ROWS]) for at in starts]
    expected = np.concatenate(parts)
    moved = logits - expected
    answers = zip(rules.decode(before), model.decide(after), strict=True)
    one = middling(inputs)
    seconds = (
        median_seconds(lambda: predictor.outputs_of((one,))),
        median_seconds(lambda: model.outputs([one])),
    )
    files = [x.stat().st_size for x in folder.rglob("*") if x.is_file()]
    return Proof(
        examples=len(inputs),
        largest_difference=float(np.abs(after - before).max()),
        largest_logit_difference=float(np.abs(moved).max()),
        largest_logit=float(np.abs(expected).max()),
        agreement=float(np.mean([a == b for a, b in answers])),
        score=_change(predictor, evidence, before, after, moved),
        latency_ms=(1e3 * seconds[0], 1e3 * seconds[1]),
        megabytes=(size_of(predictor.fitted)["memory_mb"], sum(files) / MEGABYTE),
    )


def _eager(graph: Graph, model: Any, inputs: tuple[Input, ...]) -> np.ndarray:
    """Return logits by PyTorch."""
    tensors = [torch.from_numpy(x) for x in model.prepare(inputs).values()]
    with torch.no_grad():
        logits: np.ndarray = graph(*tensors)[0].numpy()
    return logits.astype(np.float64)


def _change(
    predictor: "Predictor",
    evidence: "Evidence",
    before: Outputs,
    after: Outputs,
    moved: Outputs,
) -> Change | None:
    """Return the change of the score.

    Of cross-validated outputs: the logits of each example are moved as far as the
    export moved the model's own.
    """
    targets, honest = evidence.targets, evidence.honest
    if targets is None:
        return None
    if honest is not None:
        proba = np.maximum(honest, LEAST) * np.exp(moved - moved.max(1, keepdims=True))
        before, after = honest, proba / proba.sum(2, keepdims=True)
    metric = predictor.task.measured
    of = scorer(metric, targets, [before, after])
    first, second = of(np.ones((1, len(targets))))[0]
    weights = bootstrap_weights(len(targets), DRAWS, np.random.default_rng(0))
    gaps = np.diff(of(weights))[:, 0]
    ends = np.nanquantile(gaps, [0.025, 0.975])
    return Change(
        metric=metric.name,
        before=metric.orient(float(first)),
        after=metric.orient(float(second)),
        low=float(ends[0]),
        high=float(ends[1]),
        loss=float(first - second),
        is_cross_validated=honest is not None,
    )

"""A finished study's model for another runtime, proven on the study's examples."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from fewshot_automl.automl.finished import Finished
from fewshot_automl.data import Source
from fewshot_automl.errors import ExportError
from fewshot_automl.export.write import MAX_LOSS, Evidence, Export, write_export


def export_study(
    folder: Path | str,
    name: str,
    out: Path | str,
    *,
    quantize: str | None = None,
    max_loss: float = MAX_LOSS,
    data: Source | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Export:
    """Export the current version of a study's model; see `write_export`.

    int8 is judged by the model's cross-validated outputs on the labelled examples.

    Args:
        folder: The `out` folder of a fit.
        name: Of the format.
        out: Folder of the export.
        quantize: ``int8``, ``float32``, or None for what suits the format: int8 for a
            page that reads texts, if it is good enough.
        max_loss: Most that int8 may cost in the metric of the study.
        data: The fit's data again, if they were in memory or have moved.
        say: Hears what is done.
    """
    study = Finished.of(folder)
    rows, inputs, _ = study.table(data)
    evidence = Evidence(
        inputs=inputs, targets=study.labels[rows], honest=study.predictions[:, rows]
    )
    write = partial(
        write_export, study.model, name, out, evidence, study=study.summary, say=say
    )
    if name == "web" and quantize is None and study.model.task.modality == "text":
        try:  # what is loaded over a network should be small
            return write(quantize="int8", max_loss=max_loss)
        except ExportError as error:
            say(str(error).partition(" Nothing")[0] + " It stays in 32-bit floats.")
    return write(quantize="int8" if quantize == "int8" else None, max_loss=max_loss)

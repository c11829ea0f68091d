"""An exported folder, opened without torch."""

from pathlib import Path
from typing import Final

from fewshot_automl.errors import ExportError
from fewshot_automl.export.alone.predict import Model

MANIFEST: Final = "manifest.json"


def open_export(folder: Path | str) -> Model:
    """Return the model in an exported folder, run by this package's own copy.

    Raises:
        ExportError: If it is no export, or was changed.
    """
    try:
        return Model(folder)
    except (OSError, ValueError, KeyError) as error:
        raise ExportError(
            f"Folder must be what `fewshot export` wrote, got {folder} ({error}). "
            "Export the model again."
        ) from error

"""Past studies: what a new one is advised by, and how a finished one is read."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fewshot_automl.automl.record import read_record, settings_of
from fewshot_automl.automl.settings import Settings
from fewshot_automl.errors import UserError
from fewshot_automl.ledger import Ledger
from fewshot_automl.oracle import Prior
from fewshot_automl.outcome import History
from fewshot_automl.space import Space

NO_PRIOR: Final = "none"
"""What to say to start without any."""
PRIOR_FILE: Final = "prior.json"
"""A study's copy of the prior that it was given; it may be resumed elsewhere."""
SPACE_NOTE: Final = "space"
"""Where the ledger says what was searched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastStudy:
    """Holds what a study's folder says of the search."""

    name: str
    """Its own in any storage."""
    kind: str
    """What an example is."""
    space: Space
    """What was searched at last."""
    history: History
    """Every trial."""


def chosen_prior(asked: str | None, folder: Path | None) -> Prior:
    """Return the prior that settings ask for; without studies if they want none.

    Args:
        asked: Path of a file, `none`, or None for the one that comes with the package.
        folder: The study's, whose copy is read where the file that it was given is
            gone; None if it has none yet.

    Raises:
        UserError: If the file cannot be read.
    """
    if asked is None:
        return Prior.default()
    if asked == NO_PRIOR:
        return Prior()
    copy = None if folder is None else folder / PRIOR_FILE
    if copy is not None and copy.exists() and not Path(asked).exists():
        assert folder is not None
        if settings_of(folder).prior == asked:
            return Prior.read(copy)
    return Prior.read(Path(asked))


def settled_prior(asked: str | None, folder: Path) -> Prior:
    """Return the `chosen_prior`, and leave a copy of a user's own in the folder."""
    prior = chosen_prior(asked, folder)
    if asked not in (None, NO_PRIOR):
        prior.write(folder / PRIOR_FILE)
    return prior


def prior_in_words(asked: str | None, prior: Prior) -> str:
    """Return in words which prior a study has.

    >>> prior_in_words("none", Prior())
    'none'
    """
    if asked == NO_PRIOR:
        return NO_PRIOR
    name = "the shipped one" if asked is None else Path(asked).name
    count = len(prior.studies)
    studies = "study" if count == 1 else "studies"
    return f"{name}, {count} past {studies}, key {prior.key}"


def note_space(ledger: Ledger, kind: str, space: Space) -> None:
    """Write down what a study searches, for those that come after it."""
    ledger.note(SPACE_NOTE, {"kind": kind, "dimensions": space.to_json()})


def past_study(folder: Path | str) -> PastStudy:
    """Return what was tried in the output folder of a fit.

    Raises:
        UserError: If the folder holds no study, one without trials, or one that did
            not note its space.
        LedgerError: If its ledger cannot be read.
    """
    folder = Path(folder)
    record = read_record(folder)
    settings = Settings.from_json(record["settings"])
    name = str(record["name"])
    location = settings.storage or folder
    ledger = Ledger.open(location, study=name, space=Space(()))
    history = ledger.history()
    if not history:
        raise UserError(
            f"The study in {folder} must have tried something, got no trial. "
            f"Leave it out, or begin it: fewshot resume {folder}"
        )
    noted = ledger.notes().get(SPACE_NOTE)
    if not isinstance(noted, dict):
        raise UserError(
            f"The study in {folder} must have noted what it searched, got none: it was "
            "made by an older version. Go on with it for a while: "
            f"fewshot resume {folder} --budget 1min"
        )
    return PastStudy(
        name=name,
        kind=str(noted["kind"]),
        space=Space.from_json(noted["dimensions"]),
        history=history,
    )

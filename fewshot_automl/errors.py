"""Every error that fewshot_automl raises on purpose.

The tree::

    FewShotError
    ├── UserError (also ValueError)   the caller can mend it; exit code 2
    │   ├── DataError                 the data cannot be learnt from, or not read
    │   ├── TaskError                 the task does not fit the data or the metric
    │   ├── SpaceError                a search space or a Config is not valid
    │   ├── UnknownNameError          a name that no table has
    │   └── ShapeError                arrays that do not agree
    └── RunError                      the run failed; exit code 1
        ├── CardError                 a zoo card or its weights
        ├── TrialError                one trial; becomes an Outcome, ends no study
        │   └── OutOfTime             the trial's allowance of seconds ran out
        ├── LedgerError               the record of a study
        └── ExportError               a model could not be written or read

Messages read ``<name> must be <what is allowed>, got <value>. <What to do.>``
"""

import difflib
from collections.abc import Iterable


class FewShotError(Exception):
    """Is the root of every error raised on purpose."""


class UserError(FewShotError, ValueError):
    """Says what the caller gave, what is allowed and what to do."""


class DataError(UserError):
    """The data cannot be read or cannot be learnt from."""


class TaskError(UserError):
    """The task does not fit the data, the target or the metric."""


class SpaceError(UserError):
    """A search space or a Config is not valid."""


class UnknownNameError(UserError):
    """A name that no table has."""


class ShapeError(UserError):
    """Arrays that do not agree in shape."""


class RunError(FewShotError):
    """The run failed for a reason that is not the caller's words."""


class CardError(RunError):
    """A zoo card is wrong, or its weights are missing or not the pinned ones."""


class TrialError(RunError):
    """One trial failed; the study records the reason and goes on."""


class OutOfTime(TrialError):
    """The seconds allowed to a trial ran out before it was finished."""


class LedgerError(RunError):
    """The record of a study cannot be read or written."""


class ExportError(RunError):
    """A finished model cannot be written or read."""


def unknown_name(
    kind: str, name: str, known: Iterable[str], hint: str
) -> UnknownNameError:
    """Return the error for a name that a table does not have, with the nearest.

    >>> print(unknown_name("backbone", "minilm-l7", ["minilm-l6"], "fewshot zoo"))
    No backbone named 'minilm-l7'. Closest: 'minilm-l6'. List them with: fewshot zoo
    """
    near = difflib.get_close_matches(str(name), list(known), n=3, cutoff=0.5)
    closest = f" Closest: {', '.join(map(repr, near))}." if near else ""
    return UnknownNameError(
        f"No {kind} named {name!r}.{closest} List them with: {hint}"
    )

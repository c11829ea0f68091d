"""One thing that reading or auditing noticed, and where."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Severity = Literal["note", "warning", "fatal"]

SHOWN: Final = 5
"""How many places a finding names; a list of hundreds would not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Says what was noticed, how bad it is and where it stands."""

    kind: str
    """A short name that a program can look for, such as ``empty``."""
    severity: Severity
    """A ``note`` informs, a ``warning`` should be looked at, ``fatal`` ends the run."""
    message: str
    """One or two sentences: what it is and what to do."""
    where: tuple[str, ...] = ()
    """The first few places, as file and row or as a path."""
    count: int = 0
    """How many examples it concerns; 0 if it concerns none in particular."""

    @classmethod
    def at(
        cls, kind: str, severity: Severity, message: str, origins: Sequence[str]
    ) -> "Finding":
        """Return a finding that concerns these examples and names the first few.

        >>> Finding.at("empty", "warning", "1 text is empty.", ["a.csv:7"]).line()
        'warning: 1 text is empty. (a.csv:7)'
        """
        return cls(
            kind=kind,
            severity=severity,
            message=message,
            where=tuple(origins[:SHOWN]),
            count=len(origins),
        )

    @classmethod
    def any_at(
        cls, kind: str, severity: Severity, message: str, origins: Sequence[str]
    ) -> "list[Finding]":
        """Return the finding in a list, or an empty list if it concerns no example."""
        return [cls.at(kind, severity, message, origins)] if origins else []

    def line(self) -> str:
        """Return the finding as one line for people."""
        return f"{self.severity}: {self.message}{self.places()}"

    def places(self) -> str:
        """Return the places in brackets, with the number of those not named."""
        if not self.where:
            return ""
        more = self.count - len(self.where)
        return f" ({', '.join(self.where)}{f' and {more} more' if more > 0 else ''})"


def counted(count: int, singular: str, plural: str | None = None) -> str:
    """Return a number with its noun.

    >>> counted(1, "text"), counted(1200, "class", "classes")
    ('1 text', '1,200 classes')
    """
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"

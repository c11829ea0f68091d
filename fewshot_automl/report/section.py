"""What a report says about one kind of target."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The part of a report that only one kind of target has."""

    anchor: str = ""
    """Where links to it lead."""
    title: str = ""
    template: str = ""
    """File in `templates/` that shows `found`; empty if there is nothing to show."""
    about: str
    """What was learnt, in a phrase, for the head of the page."""
    right: str
    """What a right prediction is: new examples are expected to ..."""
    found: Any = None
    """What the template shows; None if nothing can be said."""
    why_not: str = ""
    """Why nothing can be said; empty otherwise."""

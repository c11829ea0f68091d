"""A typed reader of one TOML or JSON table that names what is wrong where."""

from collections.abc import Mapping
from types import UnionType
from typing import Any

from fewshot_automl.errors import CardError


class Table:
    """Takes typed fields out of a table and refuses what nobody asked for.

    >>> table = Table({"width": "384"}, "zoo/text/x.toml")
    >>> table.integer("width")
    Traceback (most recent call last):
    ...
    fewshot_automl.errors.CardError: zoo/text/x.toml: width must be a whole number \
from 1 up, got '384'. Correct the card.
    """

    def __init__(self, values: Mapping[str, Any], where: str, path: str = "") -> None:
        self._left = {key: value for key, value in values.items() if value is not None}
        self._where = where
        self._path = path

    def wrong(self, name: str, allowed: str, got: object) -> CardError:
        """Return the error for one field."""
        return CardError(
            f"{self._where}: {self._path}{name} must be {allowed}, got {got!r}. "
            "Correct the card."
        )

    def _take(
        self, name: str, kind: type | UnionType, allowed: str, default: object
    ) -> Any:
        if name not in self._left:
            if default is not ...:
                return default
            raise self.wrong(name, allowed, "nothing")
        value = self._left.pop(name)
        if not isinstance(value, kind) or (
            isinstance(value, bool) and kind is not bool
        ):
            raise self.wrong(name, allowed, value)
        return value

    def text(
        self, name: str, default: str | None = None, *, empty: bool = False
    ) -> str:
        """Take a string; it may be absent only with a default, and empty if said."""
        fallback: object = ... if default is None else default
        value: str = self._take(name, str, "text", fallback)
        if not value.strip() and not empty and value != default:
            raise self.wrong(name, "text that is not empty", value)
        return value

    def optional_text(self, name: str) -> str | None:
        """Take a string that may be absent."""
        return self.text(name) if name in self._left else None

    def choice(self, name: str, allowed: tuple[str, ...]) -> Any:
        """Take a string that is one of a closed list."""
        value = self._take(name, str, f"one of {', '.join(allowed)}", ...)
        if value not in allowed:
            raise self.wrong(name, f"one of {', '.join(allowed)}", value)
        return value

    def integer(self, name: str) -> int:
        """Take a positive whole number."""
        value: int = self._take(name, int, "a whole number from 1 up", ...)
        if value < 1:
            raise self.wrong(name, "a whole number from 1 up", value)
        return value

    def fraction(self, name: str) -> float:
        """Take a number above 0 and at most 1."""
        value = self._take(name, int | float, "a number above 0 up to 1", ...)
        if not 0 < value <= 1:
            raise self.wrong(name, "a number above 0 up to 1", value)
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """Take a boolean."""
        return bool(self._take(name, bool, "true or false", default))

    def numbers(self, name: str, length: int) -> tuple[float, ...]:
        """Take a list of so many numbers."""
        allowed = f"a list of {length} numbers"
        values = self._take(name, list | tuple, allowed, ...)
        if len(values) != length or not all(isinstance(v, int | float) for v in values):
            raise self.wrong(name, allowed, values)
        return tuple(float(value) for value in values)

    def texts(
        self, name: str, default: tuple[str, ...] | None = None
    ) -> tuple[str, ...]:
        """Take a list of strings."""
        fallback: object = ... if default is None else default
        values = self._take(name, list | tuple, "a list of texts", fallback)
        if not all(isinstance(value, str) and value for value in values):
            raise self.wrong(name, "a list of texts", values)
        return tuple(values)

    def mapping(self, name: str) -> dict[str, Any]:
        """Take a free table; an absent one is empty."""
        value: dict[str, Any] = self._take(name, dict, "a table", {})
        return dict(value)

    def table(self, name: str) -> "Table":
        """Take a nested table, to be read in the same way."""
        value = self._take(name, dict, "a table", ...)
        return Table(value, self._where, f"{self._path}{name}.")

    def tables(self, name: str) -> list["Table"]:
        """Take a list of tables; an absent one is empty."""
        values = self._take(name, list | tuple, "a list of tables", ())
        for value in values:
            if not isinstance(value, Mapping):
                raise self.wrong(name, "a list of tables", values)
        return [
            Table(value, self._where, f"{self._path}{name}[{i}].")
            for i, value in enumerate(values)
        ]

    def finish(self) -> None:
        """Refuse fields that were never taken."""
        for name, value in self._left.items():
            raise self.wrong(name, "a field that cards have", value)

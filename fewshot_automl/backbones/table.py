"""Reads TOML and JSON tables into dataclasses, and names what is wrong where."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from fewshot_automl.errors import CardError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Rule:
    """What a value must be besides its type."""

    words: str
    holds: Callable[[Any], object]


Text = Annotated[str, Rule("text that is not empty", str.strip)]
Count = Annotated[int, Rule("a whole number from 1 up", lambda n: n >= 1)]
Fraction = Annotated[float, Rule("a number above 0 up to 1", lambda x: 0 < x <= 1)]

_WORDS: Final[Mapping[Any, str]] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def wrong(where: str, name: str, allowed: str, got: object) -> CardError:
    """Return the error for one field."""
    return CardError(
        f"{where}: {name} must be {allowed}, got {got!r}. Correct the card."
    )


def read(
    kind: type[T],
    values: Mapping[str, Any],
    where: str,
    path: str = "",
    hints: Mapping[str, Any] | None = None,
) -> T:
    """Return a dataclass filled from a table, by the types of its fields.

    Args:
        kind: Fields are texts, numbers, flags, lists (tuples), free tables
            (mappings), other dataclasses, or a union of dataclasses told apart by
            their literal `kind`.
        values: As TOML or JSON gives them; None counts as absent.
        where: File name for messages.
        path: Where in the file the table stands.
        hints: Types of fields that depend on other fields.

    Raises:
        CardError: If a field is missing, unknown or not allowed.

    >>> from fewshot_automl.backbones.card import TextInput
    >>> read(TextInput, {"max_tokens": "256", "pooling": "mean"}, "x.toml")
    Traceback (most recent call last):
    ...
    fewshot_automl.errors.CardError: x.toml: max_tokens must be a whole number from 1 \
up, got '256'. Correct the card.
    """
    types = get_type_hints(kind, include_extras=True) | dict(hints or {})
    left = {name: value for name, value in values.items() if value is not None}
    found = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        at = path + field.name
        if field.name in left:
            found[field.name] = _value(
                types[field.name], left.pop(field.name), where, at
            )
        elif field.default is field.default_factory is dataclasses.MISSING:
            raise wrong(where, at, _allowed(types[field.name]), "nothing")
    for name, value in left.items():
        raise wrong(where, path + name, "a field that cards have", value)
    return kind(**found)


def _value(hint: Any, value: Any, where: str, at: str) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    error = wrong(where, at, _allowed(hint), value)
    if origin is Annotated:
        if not _is_of(inner[0], value) or not inner[1].holds(value):
            raise error
        return float(value) if inner[0] is float else value
    if origin in (UnionType, Union):
        options = [each for each in inner if each is not type(None)]
        return _value(
            options[0] if len(options) == 1 else _tagged(options, value, where, at),
            value,
            where,
            at,
        )
    if origin is tuple:
        is_any_length = inner[-1] is ...
        if not isinstance(value, list | tuple) or (
            not is_any_length and len(value) != len(inner)
        ):
            raise error
        kinds = [inner[0]] * len(value) if is_any_length else inner
        return tuple(
            _value(each, item, where, f"{at}[{index}]")
            for index, (each, item) in enumerate(zip(kinds, value, strict=True))
        )
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if not isinstance(value, Mapping):
            raise error
        return read(hint, value, where, f"{at}.")
    if not _is_of(hint, value):
        raise error
    return float(value) if hint is float else value


def _is_of(hint: Any, value: Any) -> bool:
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, get_origin(hint) or hint)


def _tagged(options: list[Any], value: Any, where: str, at: str) -> Any:
    kinds = {get_args(get_type_hints(each)["kind"])[0]: each for each in options}
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if kind not in kinds:
        raise wrong(where, f"{at}.kind", f"one of {', '.join(kinds)}", kind)
    return kinds[kind]


def _allowed(hint: Any) -> str:
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        words: str = inner[1].words
        return words
    if origin is Literal:
        return f"one of {', '.join(inner)}"
    if origin in (UnionType, Union):
        return _allowed(inner[0])
    if origin is tuple:
        item = _allowed(inner[0]).split(" that ")[0].removeprefix("a ")
        return (
            f"a list of {len(inner)} {item}s"
            if inner[-1] is not ...
            else (f"a list of {item}s")
        )
    return _WORDS.get(hint, "a table")

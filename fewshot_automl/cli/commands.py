"""How commands and groups read their words and print their help."""

import inspect
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click


def keep_examples(help: str) -> str:
    r"""Return a help text whose indented blocks click will not wrap.

    >>> keep_examples("Do it.\n\nExamples:\n  fewshot demo")
    'Do it.\n\n\x08\nExamples:\n  fewshot demo'
    """
    return re.sub(r"\n\n(?=[^\n]+:\n  )", "\n\n\b\n", inspect.cleandoc(help))


class Command(click.Command):
    """Keeps the lines of examples in its help."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = keep_examples(self.help or "")


class Group(click.Group):
    """Lists its commands in the order in which one meets them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = keep_examples(self.help or "")

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands as they were added."""
        return list(self.commands)


class ListCommand(Command):
    """Lets an option that takes several values take them one after another.

    ``--backbones a b``, ``--backbones a,b`` and ``--backbones a --backbones b`` are
    the same.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat the option before each of its values, then parse as usual."""
        return super().parse_args(ctx, repeat_options(args, self.params))


class NamesOption(click.Option):
    """Lists in its help the names that it may have, read from their table."""

    def __init__(
        self, *args: Any, table: Callable[[], Iterable[str]], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.table = table

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """Return the option and its help, the names put in."""
        record = super().get_help_record(ctx)
        if record is None:
            return None
        return record[0], f"{record[1]} One of {', '.join(self.table())}."


def repeat_options(args: Sequence[str], params: Sequence[click.Parameter]) -> list[str]:
    """Return arguments in which every value has its own option before it.

    An option's list ends at the next option. A command with one argument gets the
    list's last word if the argument stands nowhere else.

    >>> names = click.Option(["--names"], multiple=True)
    >>> data = click.Argument(["data"])
    >>> repeat_options(["d.csv", "--names", "a", "b"], [names, data])
    ['d.csv', '--names', 'a', '--names', 'b']
    >>> repeat_options(["--names", "a", "b", "d.csv"], [names, data])
    ['--names', 'a', '--names', 'b', 'd.csv']
    """
    options = {
        name: param
        for param in params
        if isinstance(param, click.Option)
        for name in (*param.opts, *param.secondary_opts)
    }
    made: list[str] = []
    listing: str | None = None  # the option whose list we are in
    awaited = False  # whether the next word is the value of an ordinary option
    has_argument = False
    for word in args:
        if awaited:
            made.append(word)
            awaited = False
        elif word.startswith("-") and word != "-":
            option = options.get(word)
            listing = word if option is not None and option.multiple else None
            awaited = option is not None and not option.is_flag and listing is None
            if listing is None:
                made.append(word)
        elif listing is not None:
            made += [listing, word]
        else:
            has_argument = True
            made.append(word)
    if listing is not None and args[-1] == listing:
        made.append(listing)  # without a value: let click say so
    if not has_argument and any(isinstance(p, click.Argument) for p in params):
        made = _give_back(made, options)
    return made


def _give_back(made: list[str], options: dict[str, click.Option]) -> list[str]:
    """Turn the last word of a list of two or more back into an argument."""
    lists = [
        i
        for i, word in enumerate(made)
        if word in options and options[word].multiple and i + 1 < len(made)
    ]
    for place in reversed(lists):
        if place - 2 in lists and made[place - 2] == made[place]:
            return [*made[:place], *made[place + 1 :]]
    return made

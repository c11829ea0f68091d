"""How commands and groups read their words and print their help."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import import_module
from typing import Any

import click


def keep_examples(help: str) -> str:
    r"""Return a help text whose indented blocks click will not wrap.

    >>> keep_examples("Do it.\n\nExamples:\n  fewshot demo")
    'Do it.\n\n\x08\nExamples:\n  fewshot demo'
    """
    return re.sub(r"\n\n(?=[^\n]+:\n  )", "\n\n\b\n", inspect.cleandoc(help))


class Command(click.Command):
    """Keeps the lines of examples in its help, and takes lists of values.

    For an option that may have several values ``--backbones a b``, ``--backbones a,b``
    and ``--backbones a --backbones b`` are the same.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.help = keep_examples(self.help or "")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Repeat a list's option before each of its values, then parse as usual."""
        return super().parse_args(ctx, repeat_options(args, self.params))


class Group(click.Group):
    """Lists its commands in the order in which one meets them.

    Commands that have a home are imported when they are first used, so that help of
    the whole is quick.
    """

    def __init__(
        self,
        *args: Any,
        homes: Mapping[str, tuple[str, str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.help = keep_examples(self.help or "")
        self.homes = homes or {}
        """Module and short help by name; the module's attribute has the same name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands as they were added."""
        return [
            *self.homes,
            *(name for name in self.commands if name not in self.homes),
        ]

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """Return a command, imported if need be."""
        if name in self.homes and name not in self.commands:
            self.add_command(getattr(import_module(self.homes[name][0]), name), name)
        return super().get_command(ctx, name)

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write a line a command, without importing those that have a home."""
        if not self.homes:
            super().format_commands(ctx, formatter)
            return
        with formatter.section("Commands"):
            formatter.write_dl([(name, help) for name, (_, help) in self.homes.items()])


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
        return record and (record[0], f"{record[1]} One of {', '.join(self.table())}.")


def repeat_options(args: Sequence[str], params: Sequence[click.Parameter]) -> list[str]:
    """Return arguments in which every value has its own option before it.

    An option's list ends at the next option. A command with one argument gets the
    last word of a list of two or more if the argument stands nowhere else.

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
    is_value_next = False  # of an ordinary option
    lists: list[int] = []  # where the values of lists stand that are not the first
    has_argument = not any(isinstance(param, click.Argument) for param in params)
    for word in args:
        if is_value_next:
            made.append(word)
            is_value_next = False
        elif word.startswith("-") and word != "-":
            option = options.get(word)
            listing = word if option is not None and option.multiple else None
            is_value_next = (
                option is not None and not option.is_flag and listing is None
            )
            if listing is None:
                made.append(word)
        elif listing is not None:
            if made[-2:-1] == [listing]:
                lists.append(len(made))
            made += [listing, word]
        else:
            has_argument = True
            made.append(word)
    if listing is not None and args[-1] == listing:
        made.append(listing)  # without a value: let click say so
    if lists and not has_argument:
        del made[lists[-1]]
    return made

import click
import pytest

from fewshot_automl.cli.commands import ListCommand, keep_examples, repeat_options
from fewshot_automl.cli.options import names

PARAMS = [
    click.Option(["--names"], multiple=True),
    click.Option(["--out"]),
    click.Option(["--json"], is_flag=True),
    click.Argument(["data"]),
]


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("d --names a b", "d --names a --names b"),
        ("d --names a,b", "d --names a,b"),
        ("d --names a --names b", "d --names a --names b"),
        ("--names a b d", "--names a --names b d"),
        ("--names a d", "--names a d"),
        ("d --names a b --json", "d --names a --names b --json"),
        ("--names a --json d", "--names a d --json"),
        ("--names a --out o d", "--names a d --out o"),
        ("d --out --names", "d --out --names"),
        ("d --names", "d --names"),
        ("--out o --json d", "--out o --json d"),
    ],
)
def test_lists_of_names(given, made):
    assert parsed(given.split()) == parsed(made.split())


def parsed(words):
    seen = {}

    @click.command(cls=ListCommand)
    @click.argument("data")
    @click.option("--names", multiple=True, callback=names)
    @click.option("--out")
    @click.option("--json", is_flag=True)
    def command(**values):
        seen.update(values)

    try:
        command.main(list(words), standalone_mode=False)
    except click.UsageError as error:
        return error.format_message()
    return seen


def test_all_spellings_of_a_list_are_one():
    expected = {"data": "d", "names": ("a", "b"), "out": None, "json": False}
    for words in ("d --names a b", "--names a,b d", "d --names=a --names b"):
        assert parsed(words.split()) == expected


def test_without_a_list_nothing_changes():
    words = ["d", "--out", "-", "--json", "--unknown", "x"]
    assert repeat_options(words, PARAMS) == words


def test_examples_keep_their_lines():
    assert keep_examples("A.\n\nB.") == "A.\n\nB."
    assert "\b\nExamples:" in keep_examples("A.\n\nExamples:\n  x\n  y")

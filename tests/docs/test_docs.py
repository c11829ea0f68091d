"""The pages in docs/ name what there is, and their links and snippets hold."""

import ast
import dataclasses
import inspect
import re
from pathlib import Path

import click
import pytest

import fewshot_automl
from fewshot_automl import oracle
from fewshot_automl.automl.fit import fit, resume
from fewshot_automl.automl.settings import Settings
from fewshot_automl.cli.app import app
from fewshot_automl.evaluation.measures import MEASURES
from fewshot_automl.oracle.gp import GpOracle

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("docs/**/*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
)
REFERENCE = (ROOT / "docs" / "reference.md").read_text("utf-8")


def commands(group, path=("fewshot",)):
    for name, command in group.commands.items():
        yield " ".join((*path, name)), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


@pytest.mark.parametrize(("name", "command"), [*commands(app)])
def test_the_reference_names_every_command_and_its_options(name, command):
    assert name in REFERENCE
    flags = [
        flag
        for parameter in command.params
        if isinstance(parameter, click.Option)
        for flag in parameter.opts
        if flag.startswith("--")
    ]
    if name == "fewshot fit":
        section = REFERENCE.split("### `fewshot fit DATA`")[1].split("###")[0]
    else:
        begins = (f"| `{name}`", f"| `{name} ")
        lines = [x for x in REFERENCE.splitlines() if x.startswith(begins)]
        section = "\n".join(lines)
    assert [flag for flag in flags if f"`{flag}" not in section] == []


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("## Python", fewshot_automl.__all__),
        ("### Settings", [field.name for field in dataclasses.fields(Settings)]),
        ("### The oracle", oracle.__all__),
        ("### The oracle", [field.name for field in dataclasses.fields(GpOracle)]),
        ("### Objectives", MEASURES),
    ],
)
def test_the_reference_names_what_there_is_in_python(title, names):
    level = title.split()[0]
    section = REFERENCE.split(f"\n{title}\n")[1].split(f"\n{level} ")[0]
    words = set(re.findall(r"\w+", section))
    assert [name for name in names if name not in words] == []


@pytest.mark.parametrize("function", [fit, resume])
def test_the_reference_has_the_arguments_of_functions(function):
    name = function.__name__
    (row,) = (x for x in REFERENCE.splitlines() if x.startswith(f"| `{name}("))
    named = re.findall(r"\w+", row.split(")")[0])
    assert named[1:] == list(inspect.signature(function).parameters)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        where, _, anchor = link.partition("#")
        if where.startswith("http"):
            continue
        target = page.parent / where if where else page
        assert target.exists(), link
        if anchor:
            titles = re.findall(r"^#+ (.+)$", target.read_text("utf-8"), re.MULTILINE)
            assert anchor in map(anchored, titles), link


def anchored(title):
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_snippets_parse(page):
    for block in re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        ast.parse(block)


def test_the_index_lists_every_decision():
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    for page in (ROOT / "docs" / "decisions").glob("*.md"):
        title = page.read_text("utf-8").splitlines()[0].removeprefix("# ")
        words = title.removeprefix(f"{page.name[:4]}: ")
        assert f"- [{page.name[:4]}](decisions/{page.name}): {words}" in index

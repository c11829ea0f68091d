"""The pages in docs/ name what there is, and their links hold."""

import ast
import importlib.util
import inspect
import re
import subprocess
import tomllib
from pathlib import Path

import click
import pytest
import yaml

import fewshot_automl
from fewshot_automl import oracle
from fewshot_automl.automl.fit import fit, resume
from fewshot_automl.cli.entry import app
from fewshot_automl.outcome import Outcome

ROOT = Path(__file__).parents[2]
PAGES = [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/decisions/*.md"), *ROOT.glob("*.md")]
REFERENCE = (ROOT / "docs" / "reference.md").read_text("utf-8")


@pytest.mark.parametrize("page", ["reference.md", "hardware.md"])
def test_the_tables_are_those_of_the_code(page, monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    spec = importlib.util.spec_from_file_location("tables", ROOT / "docs/tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    text = (ROOT / "docs" / page).read_text("utf-8")
    assert tables.renewed(page) == text, "run: python docs/tables.py"


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("## Python", fewshot_automl.__all__),
        ("### The oracle", oracle.__all__),
        ("### The oracle", [*Outcome.__dataclass_fields__]),
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
    text = page.read_text("utf-8")
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
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


def test_the_index_lists_every_decision():
    index = (ROOT / "docs" / "index.md").read_text("utf-8")
    for page in (ROOT / "docs" / "decisions").glob("*.md"):
        title = page.read_text("utf-8").splitlines()[0].removeprefix("# ")
        words = title.removeprefix(f"{page.name[:4]}: ")
        assert f"- [{page.name[:4]}](decisions/{page.name}): {words}" in index


def test_the_site_can_import_every_module():
    """What is not installed by ``make setup`` must be mocked, or `make docs` fails."""
    conf = (ROOT / "docs" / "conf.py").read_text("utf-8")
    mocked = re.findall(r'^autodoc_mock_imports = \["(\w+)"\]', conf, re.MULTILINE)
    for path in (ROOT / "fewshot_automl").rglob("*.py"):
        for line in ast.parse(path.read_text("utf-8")).body:
            if isinstance(line, ast.ImportFrom | ast.Import):
                first = getattr(line, "module", None) or line.names[0].name
                name = first.split(".")[0]
                assert name in mocked or importlib.util.find_spec(name), path


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 120


def test_recipes_for_clusters_name_what_there_is():
    page = (ROOT / "docs" / "clusters.md").read_text("utf-8")
    (manifest,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (script,) = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    job = yaml.safe_load(manifest)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    pods = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert all(pod["template"]["spec"]["containers"] for pod in pods)
    subprocess.run(["bash", "-n"], input=script, text=True, check=True)
    for recipe in (job["spec"]["entrypoint"], script, page):
        found = re.findall(r"fewshot (fit|resume) ([^;`\n\"']*)", recipe)
        assert found
        for name, words in found:
            command = app.get_command(click.Context(app), name)
            known = {flag for each in command.params for flag in each.opts}
            assert set(re.findall(r"(?<!\S)--[a-z-]+", words)) <= known
    for extra in re.findall(r"fewshot-automl\[(\w+)\]", page):
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
        assert extra in extras["project"]["optional-dependencies"]

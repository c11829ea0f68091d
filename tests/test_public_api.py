import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fewshot_automl

HEAVY = {"torch", "numpy", "sklearn", "pandas", "optuna", "transformers", "rich"}


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, fewshot_automl; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert not loaded & HEAVY
    assert "fewshot_automl.automl" not in done.stdout.split()


@pytest.mark.parametrize("name", fewshot_automl.__all__)
def test_every_public_name_can_be_had_and_is_documented(name):
    assert getattr(fewshot_automl, name).__doc__


def test_names_for_programs_and_for_type_checkers_are_the_same():
    tree = ast.parse(Path(fewshot_automl.__file__).read_text("utf-8"))
    checked = next(node for node in tree.body if isinstance(node, ast.If))
    imported = {
        alias.name
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert imported == set(fewshot_automl.__all__) == set(fewshot_automl._HOMES)
    assert fewshot_automl.__all__ == sorted(fewshot_automl.__all__)


def test_dir_shows_names_that_were_not_used_yet():
    assert set(fewshot_automl.__all__) <= set(dir(fewshot_automl))


def test_a_wrong_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        fewshot_automl.fitt  # noqa: B018


def test_the_version_is_the_installed_one():
    assert fewshot_automl.__version__[0].isdigit()


def test_functions_are_not_hidden_by_modules_of_their_name():
    assert callable(fewshot_automl.fit)
    assert callable(fewshot_automl.resume)

import json
import sys

import pytest

from fewshot_automl.cli.entry import run


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSHOT_ZOO_PATH", str(tmp_path / "zoo"))
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("COLUMNS", "120")


def test_it_tells_what_there_is_without_any_network(capsys, monkeypatch):
    monkeypatch.setattr(sys.modules["fewshot_automl.cli.doctor"], "subprocess", None)
    assert run(["doctor", "--json"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out.splitlines()[-1])
    assert found["problems"] == []
    assert "cpu" in found["devices"]["visible"]
    assert found["cache"]["is_writable"]
    assert found["cache"]["bytes"] == 0
    assert found["weights"]["at_hand"] == []
    assert found["pip"] == {"is_installed": True, "reaches_index": None}
    assert "Nothing to mend." in err


def test_an_unreachable_index_is_a_problem(capsys, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert run(["doctor", "--network"]) == 1
    assert "pip reaches no package index" in capsys.readouterr().out


def test_a_cache_that_cannot_be_written_is_a_problem(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "file"))
    assert run(["doctor"]) == 1
    assert "cache folder must be writable" in " ".join(capsys.readouterr().out.split())

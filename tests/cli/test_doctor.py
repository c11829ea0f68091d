import pytest

from fewshot_automl.cli.entry import run

pytestmark = pytest.mark.usefixtures("own_places")


def test_it_says_what_there_is_without_any_network(last_json, monkeypatch):
    monkeypatch.setattr("fewshot_automl.cli.doctor.subprocess", None)
    assert run(["doctor", "--json"]) == 0
    found, err = last_json()
    assert found["problems"] == []
    assert "cpu" in found["devices"]["visible"]
    assert found["cache"]["is_writable"]
    assert found["cache"]["bytes"] == 0
    assert found["weights"]["at_hand"] == []
    assert found["pip"] == {"is_installed": True, "reaches_index": "not asked"}
    assert "Nothing to mend." in err


def test_an_unreachable_index_is_a_problem(capsys, no_index):
    assert run(["doctor", "--network"]) == 1
    assert "pip reaches no package index" in capsys.readouterr().out


def test_a_cache_that_cannot_be_written_is_a_problem(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "file"))
    assert run(["doctor"]) == 1
    assert "cache folder must be writable" in " ".join(capsys.readouterr().out.split())

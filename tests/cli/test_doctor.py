import pytest

from fewshot_automl.cli.entry import run

pytestmark = pytest.mark.usefixtures("own_places")


def test_it_says_what_there_is(last_json):
    assert run(["doctor", "--json"]) == 0
    found, err = last_json()
    assert found["problems"] == []
    assert "cpu" in found["devices"]["visible"]
    assert found["cache"]["is_writable"]
    assert found["cache"]["bytes"] == 0
    assert found["weights"]["at_hand"] == []
    assert found["has_pip"]
    assert "Nothing to mend." in err


def test_a_cache_that_cannot_be_written_is_a_problem(capsys, monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FEWSHOT_CACHE", str(tmp_path / "file"))
    assert run(["doctor"]) == 1
    assert "cache folder must be writable" in " ".join(capsys.readouterr().out.split())

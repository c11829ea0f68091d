import os
import subprocess
import sys

import pytest

from fewshot_automl.cli.entry import run


@pytest.fixture
def filled(own_places, tmp_path):
    home = tmp_path / "cache"
    for name in ("features/g/a.safetensors", "studies/20260101/study.json"):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_bytes(bytes(2_000_000))
    return home


def test_it_shows_what_there_is_and_clears_what_is_named(filled, capsys):
    assert run(["cache"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[:3] for row in rows if row[:1] == ["features"]] == [
        ["features", "2.0", "MB"]
    ]
    assert ["20260101", "2.0", "MB"] in rows
    assert run(["cache", "features", "--clear"]) == 0
    assert [path.name for path in filled.iterdir()] == ["studies"]
    assert run(["cache", "--clear"]) == 0
    assert list(filled.iterdir()) == []
    assert run(["cache", "elsewhere"]) == 2


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_stdout_of_any_encoding_ends_no_command(encoding, tmp_path):
    places = {"FEWSHOT_CACHE": str(tmp_path / "缓存 é"), "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "fewshot_automl", "cache"],
        env={**os.environ, **places, "PYTHONIOENCODING": encoding},
        capture_output=True,
    )
    assert done.returncode == 0, done.stderr
    assert b"Cache folder" in done.stdout

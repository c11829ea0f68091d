import json
import sys
from wsgiref.util import setup_testing_defaults

import optuna_dashboard
import pytest

from fewshot_automl.cli.entry import run

pytestmark = pytest.mark.usefixtures("at_home")


def test_the_dashboard_is_of_the_studys_own_ledger(home, monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(
        optuna_dashboard, "run_server", lambda *of, **more: asked.append((of, more))
    )
    words = "fit reviews.csv --target stars --budget none --trials 1 --out shown"
    assert run([*words.split(), "--methods", "majority"]) == 3
    assert run(["dashboard", "shown", "--port", "8099"]) == 0
    ((storage,), more) = asked[0]
    assert more == {"host": "127.0.0.1", "port": 8099}
    request = {}
    setup_testing_defaults(request)
    request["PATH_INFO"] = "/api/studies"
    answer = optuna_dashboard.wsgi(storage)(request, lambda *of: None)
    (study,) = json.loads(b"".join(answer))["study_summaries"]
    assert study["study_name"].startswith("shown-")
    assert "http://127.0.0.1:8099" in capsys.readouterr().err


def test_what_is_missing_is_named(home, monkeypatch, capsys):
    assert run(["dashboard", str(home)]) == 2
    assert "Folder must hold a study" in capsys.readouterr().err
    words = "fit reviews.csv --target stars --budget none --trials 1 --out alone"
    assert run([*words.split(), "--methods", "majority"]) == 3
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    assert run(["dashboard", "alone"]) == 2
    assert "pip install 'fewshot-automl[dashboard]'" in capsys.readouterr().err

"""Optuna's own tools work on a ledger."""

import importlib.util
import io
import json

import pytest

from fewshot_automl.ledger import Ledger
from fewshot_automl.outcome import Outcome
from fewshot_automl.space import Choice, Float, Space

SPACE = Space(
    (
        Choice(name="method", options=("probe", "lora")),
        Float(name="lr", low=1e-5, high=1e-1, log=True),
    )
)


@pytest.fixture(params=["folder", "sqlite"])
def ledger(request, tmp_path):
    location = tmp_path if request.param == "folder" else f"sqlite:///{tmp_path}/db"
    ledger = Ledger.open(location, study="toy", space=SPACE)
    for mean, lr in [(0.5, 1e-4), (0.6, 1e-3), (0.4, 1e-2)]:
        outcome = Outcome(status="done", mean=mean, scores=(mean,), cost_seconds=1.0)
        ledger.finish(ledger.start(SPACE.default(lr=lr)), outcome)
    number = ledger.start(SPACE.default(method="lora"))
    ledger.finish(number, Outcome(status="failed", reason="NaN"))
    ledger.start(SPACE.default(lr=2e-3))
    return ledger


def get(app, path):
    """Return what a WSGI application answers to a GET."""
    path, _, query = path.partition("?")
    answer = {}
    environ = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "wsgi.errors": io.StringIO(),
    }
    body = b"".join(app(environ, lambda status, *_: answer.update(status=status)))
    assert answer["status"].startswith("200"), (answer, body)
    return json.loads(body)


@pytest.mark.filterwarnings("ignore")  # the dashboard's own affair
def test_the_dashboard_shows_the_study_and_its_trials(ledger):
    dashboard = pytest.importorskip("optuna_dashboard")
    app = dashboard.wsgi(ledger.address)
    (study,) = get(app, "/api/studies")["study_summaries"]
    assert study["study_name"] == "toy"
    assert study["directions"] == ["maximize"]
    detail = get(app, f"/api/studies/{study['study_id']}?after=0")
    states = [trial["state"] for trial in detail["trials"]]
    assert states == ["Complete", "Complete", "Complete", "Fail", "Running"]
    assert detail["trials"][1]["values"] == [0.6]
    assert {p["name"] for p in detail["trials"][0]["params"]} == {"method", "lr"}
    assert any(a["key"] == "outcome" for a in detail["trials"][3]["user_attrs"])


def test_the_dashboard_follows_a_study_that_runs(ledger):
    dashboard = pytest.importorskip("optuna_dashboard")
    app = dashboard.wsgi(ledger.address)
    ledger.finish(4, Outcome(status="done", mean=0.9))
    ledger.start(SPACE.default())
    (study,) = get(app, "/api/studies")["study_summaries"]
    detail = get(app, f"/api/studies/{study['study_id']}?after=0")
    assert [trial["state"] for trial in detail["trials"]][-2:] == [
        "Complete",
        "Running",
    ]


@pytest.mark.skipif(not importlib.util.find_spec("plotly"), reason="needs plotly")
@pytest.mark.filterwarnings("ignore")
def test_optunas_plots_work(ledger):
    import optuna

    study = optuna.load_study(study_name="toy", storage=ledger._storage)
    for plot in ("plot_optimization_history", "plot_slice", "plot_parallel_coordinate"):
        assert getattr(optuna.visualization, plot)(study).data


@pytest.mark.filterwarnings("ignore")  # matplotlib plots are "experimental"
def test_optunas_matplotlib_plots_work(ledger):
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    import optuna
    from matplotlib import pyplot

    study = optuna.load_study(study_name="toy", storage=ledger._storage)
    for plot in ("plot_optimization_history", "plot_slice", "plot_timeline"):
        assert getattr(optuna.visualization.matplotlib, plot)(study) is not None
    pyplot.close("all")

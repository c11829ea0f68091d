"""The page answers in Chromium as its source does; MLflow opens what is for it."""

import base64
import functools
import hashlib
import http.server
import json
import shutil
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from fewshot_automl.adaptation.encodings import Encoder, Encodings
from fewshot_automl.adaptation.method import Job
from fewshot_automl.adaptation.saved import Ensemble, Member
from fewshot_automl.adaptation.table import METHODS
from fewshot_automl.export.web import single_file, write_page
from fewshot_automl.export.write import Evidence, write_export
from fewshot_automl.features.store import FeatureStore
from fewshot_automl.predictor import Predictor
from fewshot_automl.space import Config
from fewshot_automl.tasks import Task
from fewshot_automl.tasks.costs import Costs
from fewshot_automl.training.placement import choose_placement

TEXTS = (
    *("a good film", "the GOOD city", "a bad film", "the bad city", "what is it?", ""),
    *("naïve café", "\N{GRINNING FACE} 中文 한국어", "good " * 300, "Bad,bad;bad_x"),
    *("<b>who</b> & 'what'", "tab\tand\nline", "a", "ÀÉÎ õü", "x y z", "1 2 3"),
    *("who was good", "river film", "the name of the city", "is it 4 or 5 %"),
)
PROBE = {"method": "probe", "scaling": "unit", "head": "lda"}
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
ASK = """async ([name, items, isText]) => {
  const { ask } = await import(name);
  const bytes = (x) => Uint8Array.from(atob(x), (c) => c.charCodeAt(0));
  return ask(isText ? items : items.map((x) => new File([bytes(x)], "x")));
}"""
READY = "() => !document.getElementById('ask').disabled"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Return files of five kinds; a JPEG is turned, a PNG has transparency."""
    home, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, size in (
        ("a.png", (70, 50)),
        ("b.jpg", (300, 200)),
        ("c.webp", (64, 64)),
    ):
        small = rng.integers(0, 255, (9, 7, 3), dtype=np.uint8)
        shown = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
        shown.save(home / name, **({"exif": exif} if name == "b.jpg" else {}))
    grey = Image.fromarray(rng.integers(0, 255, (33, 90), dtype=np.uint8))
    grey.save(home / "d.png")
    grey.convert("RGB").save(home / "e.gif")
    return tuple(sorted(home.iterdir()))


@pytest.fixture(scope="module")
def predictor(tiny_backbone, pictures):
    """Return ``modality -> predictor``: two members, costs, and no answer for some."""

    def make(modality):
        name = {"text": "tiny-bert", "image": "tiny-resnet"}[modality]
        inputs = TEXTS if modality == "text" else pictures
        encoder = Encoder(backbone=tiny_backbone(name), store=FeatureStore(None))
        names = ("bad", "good")
        task = Task(modality=modality, names=names)
        members = []
        tfidf = {"method": "tfidf", "head": "logistic"}
        for config in (PROBE, tfidf if modality == "text" else PROBE):
            job = Job(
                task=task,
                config=Config.of(config),
                seed=0,
                placement=choose_placement("cpu"),
            )
            method = METHODS[config["method"]]
            labels = np.arange(len(inputs)) % 2
            fitted = method.fit(Encodings(inputs=inputs, encoder=encoder), labels, job)
            members.append(
                Member(fitted=fitted, calibration={}, encoder=encoder, weight=0.5)
            )
        made = Predictor(
            task=task,
            config=job.config,
            fitted=Ensemble(members=tuple(members)),
            calibration={"temperature": 0.7},
        )
        unsure = np.sort(1 - made.outputs_of(inputs).max(axis=1))
        middle = len(unsure) // 2  # half is not answered
        limit = float(unsure[middle - 1 : middle + 1].mean())
        costs = Costs.of(names, {}, no_answer=limit)
        return replace(made, task=replace(task, costs=costs))

    return make


@pytest.fixture(scope="module")
def browser():
    sync = pytest.importorskip("playwright.sync_api", reason="playwright is absent")
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("Chromium is absent")
    with sync.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=[*FLAGS])
        yield opened
        opened.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture
def hosted():
    """Return ``folder -> address``."""
    servers = []

    def host(folder):
        handler = functools.partial(Quiet, directory=str(folder))
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever).start()
        return f"http://127.0.0.1:{servers[-1].server_port}/"

    yield host
    for each in servers:
        each.shutdown()
        each.server_close()


def opened(browser, address, **options):
    page = browser.new_context(**options).new_page()
    said = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(address)
    end = time.monotonic() + 120
    while not page.evaluate(READY):
        assert time.monotonic() < end, (page.inner_text("#about"), said)
        time.sleep(0.1)
    return page, said


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["text", "image"])
def test_the_page_answers_as_the_predictor(
    modality, predictor, pictures, browser, hosted, tmp_path
):
    inputs = TEXTS if modality == "text" else pictures
    made, out = predictor(modality), tmp_path / "page"
    write_export(made, "web", out, Evidence(inputs=inputs))
    single_file(out, tmp_path / "one.html")
    proba = made.outputs_of(inputs)
    expected = made.task.rules.decode(proba)
    assert len(set(expected)) > 1
    items = inputs
    if modality == "image":
        items = [base64.b64encode(x.read_bytes()).decode() for x in pictures]
    for address, name, options in (
        (hosted(out), "./ask.mjs", {}),
        (f"file://{tmp_path}/one.html", "ask.mjs", {"offline": True}),
    ):
        page, said = opened(browser, address, **options)
        found = page.evaluate(ASK, [name, items, modality == "text"])
        shown = np.array([[*one["probabilities"].values()] for one in found])
        assert np.abs(shown - proba).max() < (1e-4 if modality == "text" else 0.05)
        assert [one["answer"] for one in found] == expected
        if modality == "text":
            page.fill("#text", "<img src=x onerror=alert(1)> good")
            page.click("#ask")
        else:
            page.set_input_files("#files", [str(pictures[0])])
            page.click("#ask")
        page.wait_for_selector("#answers strong")
        assert page.query_selector("#answers img") is None
        assert [x for x in said if "404" not in x] == []  # of the favicon
        if modality == "text":
            assert serious(page) == []


def serious(page):
    """Return what axe finds grave."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page).response["violations"]
    return [x["id"] for x in found if x["impact"] in ("serious", "critical")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*type hints:UserWarning")
def test_mlflow_opens_and_asks_its_folder(predictor, tmp_path):
    pyfunc = pytest.importorskip("mlflow.pyfunc", reason="MLflow is absent")
    import pandas as pd

    made, out = predictor("text"), tmp_path / "out"
    write_export(made, "mlflow", out, Evidence(inputs=TEXTS))
    told = (out / "MLmodel").read_text()
    assert str(tmp_path) not in told
    assert "fewshot_automl/" not in told, "the place of the maker's files"
    model = pyfunc.load_model(str(out))
    found = model.predict(pd.DataFrame({"input": [*TEXTS]}))
    proba = made.outputs_of(TEXTS)
    shown = [[*row.values()] for row in found["probabilities"]]
    assert np.abs(np.array(shown) - proba).max() < 1e-4
    answers = [None if pd.isna(x) else x for x in found["answer"]]
    assert answers == made.task.rules.decode(proba)


def test_the_page_is_whole_and_what_is_not_ours_is_what_was_vendored(tmp_path):
    write_page(tmp_path)
    for line in (tmp_path / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split()
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest
    names = {path.name for path in tmp_path.iterdir()}
    assert {"index.html", "page.mjs", "ask.mjs", "LICENSES.txt", name} <= names
    assert "unsafe-inline" not in (tmp_path / "index.html").read_text()
    (tmp_path / "manifest.json").write_text(json.dumps({"classes": ["</script>"]}))
    single_file(tmp_path, tmp_path / "one.html")
    one = (tmp_path / "one.html").read_text()
    assert 'href="page.css"' not in one
    assert 'from "./' not in one
    assert "unsafe-inline" not in one

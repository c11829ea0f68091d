"""Every answer code of the server, and what it tells and does not tell."""

import asyncio
import base64
import contextlib
import io
import json
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="FastAPI, of the extra `serve`, is absent")

from PIL import Image
from pydantic import ValidationError
from starlette.testclient import TestClient

from fewshot_automl.errors import ExportError
from fewshot_automl.predictor import Predictor
from fewshot_automl.serve import answering
from fewshot_automl.serve.answering import Batches, Limits, Served
from fewshot_automl.serve.app import Ask, make_app


def picture(kind="PNG", size=(60, 40)):
    rng, made = np.random.default_rng(1), io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (*size, 3), dtype=np.uint8)).save(made, kind)
    return made.getvalue()


@pytest.fixture(scope="module")
def models(folders):
    return {name: Served(folder) for name, folder in folders.items()}


@pytest.fixture
def client(models):
    """Return ``(model, limits, token) -> client``, which runs until the test ends."""
    opened = []

    def make(name="text", token=None, **limits):
        app = make_app(models[name], Limits(**limits), token)
        opened.append(TestClient(app, raise_server_exceptions=False))
        return opened[-1].__enter__()

    yield make
    for each in opened:
        each.__exit__(None, None, None)


@pytest.mark.parametrize("name", ["text", "export"])
def test_one_many_and_files_are_answered_as_by_the_model(name, client, folders):
    ask, texts = client(name), ["a good city", "bad, bad", "", "\ud800"]
    expected = Predictor.load(folders["text"]).predict_proba(texts)
    sent = post(json.dumps({"inputs": texts}))
    many = ask.post("/predict", **sent).json()["answers"]
    found = [[*one["probabilities"].values()] for one in many]
    assert np.allclose(found, expected, atol=1e-6)
    assert [one["answer"] for one in many][:2] == ["good", "bad"]
    one = ask.post("/predict", json={"inputs": texts[0]}).json()["answers"]
    files = [("files", (f"{x}.txt", x.encode())) for x in texts[:2]]
    sent = ask.post("/predict/files", files=files).json()["answers"]
    for got, wanted in zip([*one, *sent], [many[0], *many[:2]], strict=True):
        assert got["answer"] == wanted["answer"]
        assert got["probabilities"] == pytest.approx(wanted["probabilities"])


def test_images_come_as_files_or_base64(client, folders):
    ask, sent = client("image"), [picture(), picture("JPEG", (300, 500))]
    expected = Predictor.load(folders["image"]).predict_proba(sent)
    files = [("files", ("x", one)) for one in sent]
    coded = [base64.b64encode(one).decode() for one in sent]
    for reply in (
        ask.post("/predict/files", files=files),
        ask.post("/predict", json={"inputs": coded}),
    ):
        found = [[*one["probabilities"].values()] for one in reply.json()["answers"]]
        assert np.allclose(found, expected, atol=1e-5)


def post(body, kind="application/json"):
    return {"content": body, "headers": {"content-type": kind}}


@pytest.mark.parametrize(
    ("sent", "code", "words"),
    [
        (post("{"), 422, "body"),
        (post("[" * 100_000), 400, "parsing"),
        (post('{"inputs": ' + "[" * 5000 + "]" * 5000 + "}"), 400, "parsing"),
        (post("secret words"), 422, "JSON"),
        (post('{"inputs": ["secret", 7]}'), 422, "inputs"),
        (post('{"inputs": []}'), 422, "1 to 4 examples"),
        (post('{"inputs": ["a","b","c","d","e"]}'), 413, "1 to 4 examples, got 5"),
        (post("x" * 2001), 413, "2,000 bytes"),
        (post(iter([b"x" * 1500] * 2)), 413, "2,000 bytes"),
        (post("secret", "text/html"), 422, "body"),
    ],
)
def test_what_cannot_be_read_is_refused_in_words(sent, code, words, client):
    ask = client(max_bytes=12_000 if "[[[[" in str(sent) else 2000, max_items=4)
    if len(str(sent)) > 50_000:
        ask = client()
    reply = ask.post("/predict", **sent)
    assert reply.status_code == code
    assert words in reply.json()["detail"]
    assert "secret" not in reply.text


def test_a_bad_image_is_named_and_costs_no_other_its_answer(client):
    ask, whole = client("image"), picture("JPEG")
    for bad in (whole[: len(whole) // 2], b"<html>", b"", picture()[:60]):
        files = [("files", ("x", one)) for one in (whole, bad)]
        reply = ask.post("/predict/files", files=files)
        assert reply.status_code == 422
        assert reply.json()["detail"].startswith("Example 1 cannot be read")
    assert ask.post("/predict/files", files=[("files", ("x", whole))]).is_success
    bomb = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(bomb, "PNG")
    reply = ask.post("/predict/files", files=[("files", ("x", bomb.getvalue()))])
    assert reply.status_code == 422
    assert "pixels" in reply.json()["detail"]
    assert ask.post("/predict", json={"inputs": "not base64!"}).status_code == 422
    text = client().post("/predict/files", files=[("files", ("x", b"\xff\xfe\xfa"))])
    assert text.status_code == 422
    assert text.json()["detail"] == "An example must be a text in UTF-8."


class Slow(Served):
    """Answers when it is told to."""

    def __init__(self, model):
        self.__dict__.update(model.__dict__)
        self.go, self.sizes = threading.Event(), []
        self.ask = self.wait

    def wait(self, inputs):
        assert self.go.wait(20)
        self.sizes.append(len(inputs))
        if "fail" in inputs:
            raise ZeroDivisionError("secret")
        return [{"answer": None, "probabilities": {"good": 0.5, "bad": 0.5}}] * len(
            inputs
        )


def test_a_full_queue_refuses_and_a_late_answer_is_503(models):
    slow, late = Slow(models["text"]), []
    limits = Limits(queue=2, batch=1, seconds=2.0)
    with TestClient(make_app(slow, limits)) as ask:

        def wait():
            late.append(ask.post("/predict", json={"inputs": ["a", "b"]}))

        thread = threading.Thread(target=wait)
        thread.start()
        for _ in range(500):  # one is being answered, one waits
            if "fewshot_queue 1.0" in ask.get("/metrics").text:
                break
        refused = ask.post("/predict", json={"inputs": ["a", "b"]})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        thread.join()
        assert late[0].status_code == 503
        assert int(late[0].headers["retry-after"]) >= 1
        slow.go.set()
        assert ask.post("/predict", json={"inputs": "a"}).is_success
        assert sum(slow.sizes) == 2, "nobody waits for the second any more"


def test_requests_that_come_together_are_one_batch(models):
    slow = Slow(models["text"])
    slow.go.set()

    async def ask():
        batches = Batches(slow, Limits(batch=8, wait_ms=200.0))
        work = asyncio.create_task(batches.work())
        found = await asyncio.gather(*(batches.put([str(n)]) for n in range(10)))
        work.cancel()
        return found

    assert len(asyncio.run(ask())) == 10
    assert slow.sizes == [8, 2]


def test_a_failure_tells_the_log_and_nobody_else(models, capsys):
    slow = Slow(models["text"])
    slow.go.set()
    with TestClient(make_app(slow, Limits()), raise_server_exceptions=False) as ask:
        reply = ask.post("/predict", json={"inputs": "fail"})
        assert reply.status_code == 500
        assert "secret" not in reply.text
        assert "Traceback" not in reply.text
        assert ask.post("/predict", json={"inputs": "secret text"}).is_success
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {"error", "request"} == {line["event"] for line in lines}
    assert lines[0]["error"] == "ZeroDivisionError"
    assert "secret" not in json.dumps(lines)


def test_a_token_is_asked_for(client):
    ask = client(token="wörd")
    assert ask.get("/healthz").is_success
    assert ask.get("/readyz").is_success
    for path in ("/", "/info", "/metrics", "/docs", "/openapi.json"):
        assert ask.get(path).status_code == 401
    for word in ("Bearer other", "Bearer", "Basic x", "Basic !!", "nothing"):
        refused = ask.get("/info", headers={"authorization": word})
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith("Basic")
    for word in (
        "Bearer wörd",
        "Basic " + base64.b64encode("x:wörd".encode()).decode(),
    ):
        told = {"authorization": word.encode()}
        assert ask.get("/info", headers=told).is_success


def test_metrics_count_answers_abstentions_and_drift(models, client):
    ask = client()
    ask.post("/predict", json={"inputs": ["good", "good", "good", "bad"]})
    ask.get("/nothing/secret")
    text = ask.get("/metrics").text
    assert 'fewshot_answers_total{answer="good"} 3.0' in text
    assert "fewshot_drift 0.25" in text
    assert 'fewshot_requests_total{route="/predict",status="200"} 1.0' in text
    assert "secret" not in text
    slow = Slow(models["text"])
    slow.go.set()
    with TestClient(make_app(slow, Limits())) as ask:
        ask.post("/predict", json={"inputs": ["a", "b"]})
        assert "fewshot_abstentions_total 2.0" in ask.get("/metrics").text


def test_what_is_told_of_the_model_and_the_interface(client, models):
    ask = client()
    told = ask.get("/info").json()
    assert told["version"] == models["text"].version
    assert told["classes"] == ["good", "bad"]
    assert told["license"] == "Apache-2.0"
    paths = ask.get("/openapi.json").json()["paths"]
    assert {"/predict", "/predict/files", "/metrics", "/info"} <= paths.keys()
    assert "429" in paths["/predict"]["post"]["responses"]
    page = ask.get("/docs").text
    assert "http://" not in page.replace("http://testserver", "")
    assert "https://" not in page
    form = ask.get("/")
    assert "default-src 'self'" in form.text
    for name in ("page.css", "page.mjs", "ask.mjs"):
        assert ask.get(f"/{name}").is_success
    assert "fetch(" in ask.get("/ask.mjs").text


def test_no_model_is_said(tmp_path):
    with pytest.raises(ExportError, match="folder of a fit or export"):
        Served(tmp_path)


def test_many_wrong_items_are_one_error():
    with pytest.raises(ValidationError) as caught:
        Ask.model_validate({"inputs": [1] * 1000})
    assert caught.value.error_count() == 2  # no text, and no list of texts


def test_other_names_and_other_sites_are_refused(models):
    app = make_app(models["text"], Limits(), hosts=("localhost", "[::1]"))
    with TestClient(app, base_url="http://localhost:8000") as ask:
        for host, code in (("evil.example", 400), ("[::1]:8000", 200)):
            assert ask.get("/info", headers={"host": host}).status_code == code
        files = [("files", ("x", b"a text"))]
        for site, code in (("cross-site", 403), ("same-origin", 200)):
            told = {"sec-fetch-site": site}
            reply = ask.post("/predict/files", files=files, headers=told)
            assert reply.status_code == code
            assert reply.headers["x-content-type-options"] == "nosniff"


def test_an_answer_is_of_the_version_that_it_names(models):
    first, second = Slow(models["text"]), Slow(models["text"])
    second.go.set()

    async def ask():
        batches = Batches(first, Limits(wait_ms=200.0))
        work = asyncio.create_task(batches.work())
        before = batches.put(["a", "b"])
        batches.model = second
        after = batches.put(["c"])
        first.go.set()
        await asyncio.gather(before, after)
        work.cancel()

    asyncio.run(ask())
    assert (first.sizes, second.sizes) == ([2], [1])


def test_an_export_needs_no_torch():
    code = (
        "import sys, fewshot_automl.cli.serve, fewshot_automl.serve.app;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_broken_version_is_said_once_and_not_taken(
    folders, tmp_path, capsys, monkeypatch
):
    folder = tmp_path / "model"
    shutil.copytree(folders["export"], folder)
    batches = Batches(model := Served(folder), Limits())
    monkeypatch.setattr(answering, "LOOK_SECONDS", 0.01)
    (folder / "model.pt2").write_bytes(b"broken")
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text() + " ")

    async def watch():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(batches.watch(folder), 0.5)

    asyncio.run(watch())
    assert batches.model is model
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert line["event"] == "reload failed"
    assert "damaged" in line["error"]
    assert line["serving"] == model.version

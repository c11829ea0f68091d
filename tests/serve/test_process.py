"""The command itself: SIGTERM and a new version lose no request that was taken."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="FastAPI, of the extra `serve`, is absent")
pytestmark = pytest.mark.slow


@pytest.fixture
def server(make_model, tmp_path):
    """Return the folder of a model that is served, its port and the process."""
    folder = tmp_path / "model"
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    make_model("text").save(folder)
    words = ("serve", str(folder), "--port", str(port), "--reload")
    command = [sys.executable, "-m", "fewshot_automl", *words]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log)
    try:
        until(lambda: get(port, "/healthz"))
        yield folder, port, process
    finally:
        process.kill()
        process.wait()


def until(found, seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if made := found():
                return made
        except OSError:
            pass
        time.sleep(0.05)
    pytest.fail("it did not come in time")


def get(port, path, body=None):
    method = "GET" if body is None else "POST"
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as made:
        made.request(method, path, body, {"Content-Type": "application/json"})
        reply = made.getresponse()
        return reply.status, json.loads(reply.read())


def test_a_new_version_is_taken_and_sigterm_ends_after_the_answers(server, make_model):
    folder, port, process = server
    replies, is_over = [], threading.Event()
    body = json.dumps({"inputs": ["a good film"] * 8})

    def ask():
        while not is_over.is_set():
            replies.append(get(port, "/predict", body))

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    first = get(port, "/info")[1]["version"]
    turned = [1, 1, 0, 0] * 2
    make_model("text", np.array(turned)).save(folder)
    until(lambda: get(port, "/info")[1]["version"] != first)
    until(lambda: replies[-1][1]["answers"][0]["answer"] == "bad")
    is_over.set()
    for asker in askers:
        asker.join()
    assert {status for status, _ in replies} == {200}
    assert {each["answers"][0]["answer"] for _, each in replies} == {"good", "bad"}

    large = json.dumps({"inputs": ["a good film " * 3000] * 60})
    sent, last = [], []

    def ask_much():
        kind = {"Content-Type": "application/json"}
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as made:
            made.request("POST", "/predict", large, kind)
            sent.append(1)
            reply = made.getresponse()
            last.append((reply.status, len(json.loads(reply.read())["answers"])))

    askers = [threading.Thread(target=ask_much) for _ in range(3)]
    for asker in askers:
        asker.start()
    until(lambda: len(sent) == 3)
    time.sleep(0.3)  # they are with the server, which answers for a while
    process.send_signal(signal.SIGTERM)
    for asker in askers:
        asker.join()
    assert last == [(200, 60)] * 3
    assert process.wait(30) in (0, -signal.SIGTERM)

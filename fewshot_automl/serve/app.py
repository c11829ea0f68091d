"""The application: what is asked at which path, and what comes back."""

import asyncio
import base64
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final

import prometheus_client as prometheus
from fastapi import FastAPI, HTTPException, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, Field
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from fewshot_automl.errors import DataError
from fewshot_automl.export.web import PAGE
from fewshot_automl.modalities import Input, modality_named
from fewshot_automl.serve.answering import Answer, Batches, Limits, Served
from fewshot_automl.serve.guard import Guard

RECENT: Final = 1000
"""Answers whose shares are compared with those of the labels."""
CODES: Final[dict[int | str, dict[str, Any]]] = {
    code: {"description": HTTPStatus(code).phrase}
    for code in (400, 401, 408, 413, 422, 429, 503)
}


class Ask(BaseModel):
    """One example or several: texts; or images, encoded in base64."""

    # Else a million wrong items are a million errors, of 1 KB each.
    inputs: str | Annotated[list[str], Field(fail_fast=True)] = Field(
        examples=["a text", ["a text", "another"]]
    )


class Meters:
    """What `/metrics` tells."""

    def __init__(self, batches: Batches) -> None:
        self.batches, self.registry = batches, prometheus.CollectorRegistry()
        self.recent: deque[str] = deque(maxlen=RECENT)
        at: Any = {"registry": self.registry}
        counter = prometheus.Counter
        names = ("route", "status")
        self.requests = counter("fewshot_requests", "Requests.", names, **at)
        self.seconds = prometheus.Histogram("fewshot_seconds", "Of a request.", **at)
        self.given = counter("fewshot_answers", "By class.", ("answer",), **at)
        self.left = counter("fewshot_abstentions", "Examples left to people.", **at)
        waiting = prometheus.Gauge("fewshot_queue", "Examples that wait.", **at)
        waiting.set_function(batches.queue.qsize)
        about = "Total variation between shares of recent answers and of labels."
        prometheus.Gauge("fewshot_drift", about, **at).set_function(self.drift)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self.requests.labels(route, status).inc()
        self.seconds.observe(seconds)

    def answered(self, answers: Sequence[Answer]) -> None:
        """Count answers."""
        names = [one["answer"] for one in answers if one["answer"] is not None]
        self.left.inc(len(answers) - len(names))
        self.recent.extend(names)
        for name in names:
            self.given.labels(name).inc()

    def drift(self) -> float:
        """Return how far shares of answers are from those of the labels, 0 to 1."""
        shares, counts = self.batches.model.shares, Counter(self.recent)
        if not shares or not counts:
            return float("nan")
        names, total = shares.keys() | counts.keys(), counts.total()
        return sum(abs(shares.get(x, 0.0) - counts[x] / total) for x in names) / 2


def make_app(
    model: Served,
    limits: Limits,
    token: str | None = None,
    watched: Path | None = None,
    hosts: Sequence[str] = ("*",),
) -> ASGIApp:
    """Return the application that serves a model.

    Requests must send `token`, if there is one. New versions of the model are taken
    from the folder `watched`, if there is one. Requests must name one of `hosts`.
    """
    batches = Batches(model, limits)
    meters = Meters(batches)

    @contextlib.asynccontextmanager
    async def alive(app: FastAPI) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(batches.work())]
        if watched is not None:
            tasks.append(asyncio.create_task(batches.watch(watched)))
        yield
        for task in tasks:
            task.cancel()

    app = FastAPIOffline(title="fewshot", redoc_url=None, lifespan=alive)

    async def answers_to(given: Sequence[str | bytes]) -> dict[str, Any]:
        if not 0 < len(given) <= limits.max_items:
            many = f"1 to {limits.max_items} examples, got {len(given)}"
            raise HTTPException(413 if given else 422, f"A request must have {many}.")
        used = batches.model
        future = batches.put([_read(x, used.task.modality) for x in given])
        if future is None:
            raise HTTPException(429, "Too many wait already.", {"Retry-After": "1"})
        try:
            found = await asyncio.wait_for(future, limits.seconds)
        except TimeoutError:
            raise HTTPException(503, "No answer yet.", {"Retry-After": "5"}) from None
        for at, one in enumerate(found):
            if isinstance(one, DataError):
                raise HTTPException(422, f"Example {at} cannot be read: {one}.")
            if isinstance(one, Exception):
                raise one
        meters.answered(found)
        return {"version": used.version, "answers": found}

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]  # without its input, which is the user's
        place = ".".join(map(str, first["loc"]))
        return JSONResponse({"detail": f"{place}: {first['msg']}"}, 422)

    @app.post("/predict", responses=CODES)
    async def predict(asked: Ask) -> dict[str, Any]:
        """Answer one example or several."""
        given = asked.inputs
        return await answers_to([given] if isinstance(given, str) else given)

    @app.post("/predict/files", responses=CODES)
    async def predict_files(files: list[UploadFile]) -> dict[str, Any]:
        """Answer files: images, or one text each."""
        return await answers_to([await one.read() for one in files])

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """Say that the process is alive."""
        return {"status": "alive"}

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        """Say whether a request would be taken now: 503 if not."""
        if batches.queue.qsize() >= limits.queue:
            raise HTTPException(503, "Too many wait.", {"Retry-After": "1"})
        return {"status": "ready"}

    @app.get("/info")
    async def info() -> dict[str, Any]:
        """Say which model answers."""
        return batches.model.about

    @app.get("/metrics", response_class=Response)
    async def metrics() -> Response:
        """Return what Prometheus reads."""
        text = prometheus.generate_latest(meters.registry)
        return Response(text, media_type=prometheus.CONTENT_TYPE_LATEST)

    form = StaticFiles(directory=PAGE, packages=[(__package__, "page")], html=True)
    app.mount("/", form, name="form")
    trusted = TrustedHostMiddleware(app, [*hosts], www_redirect=False)
    return Guard(trusted, limits, token, meters.request)


def _read(one: str | bytes, modality: str) -> Input:
    try:
        if modality == "text":
            one = one if isinstance(one, str) else one.decode("utf-8-sig")
        elif isinstance(one, str):
            one = base64.b64decode(one)
    except ValueError as error:
        wanted = "a text in UTF-8" if modality == "text" else "an image in base64"
        raise HTTPException(422, f"An example must be {wanted}.") from error
    return modality_named(modality).read(one, None, "a request")

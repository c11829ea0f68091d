"""What stands before the application: a token, limits, one line a request."""

import asyncio
import base64
import contextlib
import hmac
import time
import traceback
from collections.abc import Callable
from typing import Any, Final

from fastapi import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from fewshot_automl.serve.answering import Limits, log

OPEN: Final = ("/healthz", "/readyz")  # without a token
HEAD_SECONDS: Final = 10.0  # in which the next head of a request must come
UNKNOWN: Final = JSONResponse(
    {"detail": "Send the token: Authorization: Bearer TOKEN"},
    401,
    {"WWW-Authenticate": 'Basic realm="fewshot"'},
)
FOREIGN: Final = JSONResponse({"detail": "Another site must not ask."}, 403)
HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """An ASGI application around another; `seen` hears route, status and seconds."""

    def __init__(
        self, app: ASGIApp, limits: Limits, token: str | None, seen: Callable[..., None]
    ) -> None:
        self.app, self.limits, self.token, self.seen = app, limits, token, seen

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request, began, status = Request(scope), time.monotonic(), 0
        length = request.headers.get("content-length", "")
        announced, read = int(length) if length.isdecimal() else 0, 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)

        def check(size: int) -> None:
            if size > (most := self.limits.max_bytes):
                raise HTTPException(413, f"A request must have at most {most:,} bytes.")

        async def limited() -> Message:
            nonlocal read
            check(announced)
            left = max(self.limits.seconds - (time.monotonic() - began), 0)
            try:
                message = await asyncio.wait_for(receive(), left)
            except TimeoutError:
                raise HTTPException(408, "The request took too long to come.") from None
            read += len(message.get("body", b""))
            check(read)
            return message

        app = self.app if self._is_known(request) else UNKNOWN
        # Browsers send files for any site, and say for which.
        site = request.headers.get("sec-fetch-site", "none")
        if request.method == "POST" and site not in ("none", "same-origin"):
            app = FOREIGN
        try:
            await app(scope, limited, answer)
        except Exception as error:  # noqa: BLE001  nobody outside sees where
            at = traceback.extract_tb(error.__traceback__)[-1]
            log(event="error", error=type(error).__name__, at=f"{at.name}:{at.lineno}")
        # Not the path that was asked for: people write all kinds of things there.
        route = getattr(scope.get("route"), "path", "other")
        seconds = time.monotonic() - began
        self.seen(route, status, seconds)
        told = {"route": route, "status": status, "bytes": read}
        log(event="request", **told, ms=round(1000 * seconds, 1))

    def _is_known(self, request: Request) -> bool:
        if self.token is None or request.url.path in OPEN:
            return True
        header = request.headers.get("authorization", "").encode("latin-1")
        kind, _, word = header.partition(b" ")
        if kind.lower() == b"basic":  # so a browser asks for it, as a password
            with contextlib.suppress(ValueError):
                word = base64.b64decode(word).partition(b":")[2]
        return hmac.compare_digest(word, self.token.encode())


class Protocol(H11Protocol):
    """Closes connections on which no request comes, or only half of its head."""

    def connection_made(self, transport: Any) -> None:
        """Begin to look at the connection now and then."""
        super().connection_made(transport)
        self.loop.call_later(HEAD_SECONDS, self._look, None)

    def _look(self, before: object) -> None:
        is_idle = getattr(self.cycle, "response_complete", True)
        if is_idle and self.cycle is before:
            self.transport.abort()
        elif not self.transport.is_closing():
            self.loop.call_later(HEAD_SECONDS, self._look, self.cycle)

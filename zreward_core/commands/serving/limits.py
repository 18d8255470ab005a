"""ASGI middleware of the scoring server: limits on request bodies, and the shape of errors."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zreward_core.config import UserError

MAX_BYTES = 64_000_000
"""Bytes of a request's body."""
MAX_HELD_BYTES = 512_000_000
"""Bytes of the bodies of all requests that are being read or answered."""
MAX_VALUES = 200_000
"""Commas and opening brackets in JSON, those in strings included; it inflates with them."""
DRAINED = 16
"""Bodies up to this times the limit are read to their end, and discarded, so that a client that
sends before it listens gets the answer; the connection is closed on longer ones."""
MAX_PAUSE = 30.0
"""Seconds between two parts of a body, at most: a client that is gone without having closed its
connection would keep it forever."""
MAX_READ = 600.0
"""Seconds in which a body must have come: a client that sends a byte at a time pauses for less than
``MAX_PAUSE``."""
MAX_MESSAGE = 2_000
"""Characters of a reason."""
JSON = "application/json"
CODES = {
    429: "TOO_MANY_REQUESTS", 401: "UNAUTHORIZED", 403: "FORBIDDEN", 404: "NOT_FOUND",
    405: "METHOD_NOT_ALLOWED",
}  # fmt: skip


async def read_json(request: Request) -> Any:
    """Content of a request in JSON.

    Raises:
        UserError: it is not JSON, or nested too deeply.
    """
    try:
        return await request.json()
    except RecursionError:
        raise UserError("the request cannot be read: it is nested too deeply") from None
    except ValueError as error:
        raise UserError(f"the request cannot be read: {error}") from None


class RequestLimits:
    """Refuses requests that are too large or of another media type.

    The body is read up to the limit before the application sees it: HTTP 413 above it, 415 for
    another type (CSV and Parquet inflate), 429 where too many bodies are held, 408 if no more of
    it comes. Only those of POST requests to the paths that take one: the application answers others
    (404, 405) without reading it.
    """

    def __init__(
        self,
        app: ASGIApp,
        accepted: Mapping[str, tuple[str, ...]],
        max_bytes: int = MAX_BYTES,
        max_values: int = MAX_VALUES,
        max_held: int = MAX_HELD_BYTES,
        max_pause: float = MAX_PAUSE,
        max_read: float = MAX_READ,
    ) -> None:
        """
        Args:
            app: the application.
            accepted: path to the media types of its bodies, for all paths that take one.
            max_bytes, max_values: of a request.
            max_held: bytes of all requests.
            max_pause, max_read: seconds between two parts of a body, and for all of it.
        """
        self._app = app
        self._accepted = accepted
        self._max_bytes = max_bytes
        self._max_values = max_values
        self._max_held = max_held
        self._max_pause = max_pause
        self._max_read = max_read
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] != "POST" or scope["path"] not in self._accepted:
            await self._answer(scope, receive, send)
            return
        body = bytearray()
        num_bytes = 0
        try:
            refusal = await self._read(scope, receive, body)
            num_bytes = len(body)
            if refusal:
                await refusal(scope, receive, send)
                return
            messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
            del body  # the application holds it no longer than it needs it

            async def replay() -> Message:
                return messages.pop() if messages else await receive()

            await self._answer(scope, replay, send)
        finally:
            self._held -= num_bytes

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application's answer, whose errors have one shape."""
        answer = _Answer(send)
        try:
            await self._app(scope, receive, answer.pass_on)
        finally:
            await answer.finish(scope, receive)

    async def _read(self, scope: Scope, receive: Receive, body: bytearray) -> JSONResponse | None:
        """Read a body, whose bytes are held from then on; returns why it is refused, if it is."""
        kind = Headers(scope=scope).get("content-type", "").partition(";")[0].strip().lower()
        accepted = self._accepted[scope["path"]]
        if kind not in accepted:
            return _refusal(415, f"send the request as {' or '.join(filter(None, accepted))}")
        refusal = None
        num_bytes = 0
        end = asyncio.get_running_loop().time() + self._max_read
        while num_bytes <= DRAINED * self._max_bytes:
            try:
                async with asyncio.timeout_at(end), asyncio.timeout(self._max_pause):
                    message = await receive()
            except TimeoutError:
                late = asyncio.get_running_loop().time() >= end
                refusal = _refusal(408, (
                    f"the body was not complete after {self._max_read:g} seconds" if late
                    else f"no part of the body came for {self._max_pause:g} seconds"
                ))  # fmt: skip
                break
            if message["type"] == "http.disconnect":
                refusal = _refusal(400, "the client closed the connection")
                break
            part = message.get("body", b"")
            num_bytes += len(part)
            if num_bytes > self._max_bytes:
                refusal = _refusal(413, f"the body has more than {self._max_bytes:,} bytes")
            elif self._held + len(part) > self._max_held:
                refusal = refusal or _refusal(429, "too many requests at a time: try again later")
            if not refusal:
                body += part
                self._held += len(part)
            elif body:
                self._held -= len(body)
                body.clear()
            if not message.get("more_body", False):
                break
        num_values = sum(map(body.count, (b",", b"[", b"{"))) if kind == JSON else 0
        if not refusal and num_values > self._max_values:
            return _refusal(413, f"the body has more than {self._max_values:,} commas and brackets")
        return refusal


class _Answer:
    """Passes an answer on; one with an error is held, and sent in one shape."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._status = 0
        self._body = b""
        self._allow: str | None = None

    async def pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._status = message["status"]
            self._allow = Headers(raw=message["headers"]).get("allow")
        elif self._status:
            self._body += message.get("body", b"")
        else:
            await self._send(message)

    async def finish(self, scope: Scope, receive: Receive) -> None:
        if not self._status:
            return
        try:
            content = json.loads(self._body)
        except ValueError:  # plain text
            content = {"message": self._body.decode(errors="replace")}
        if not isinstance(content, dict):
            content = {"message": str(content)}
        response = _refusal(self._status, str(content.get("message", content)))
        if self._allow:  # of 405
            response.headers["Allow"] = self._allow
        await response(scope, receive, self._send)


def _refusal(status: int, reason: str) -> JSONResponse:
    kept = reason if len(reason) <= MAX_MESSAGE else f"{reason[:MAX_MESSAGE]} ..."
    code = CODES.get(status, "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR")
    closed = {"Connection": "close"}
    headers = {408: closed, 413: closed, 429: {"Retry-After": "1"}}.get(status)
    return JSONResponse({"error_code": code, "message": kept}, status, headers)

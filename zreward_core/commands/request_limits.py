"""ASGI middleware of scoring servers: limits on request bodies, and errors without stack traces."""

import json
import logging

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)
MAX_BYTES = 64_000_000
"""Bytes of a request's body."""
MAX_VALUES = 200_000
"""Commas and opening brackets in a body, those in strings included; JSON inflates with them."""
DRAINED = 16
"""Bodies up to this times the limit are read to their end, and discarded, so that a client that
sends before it listens gets the answer; the connection is closed on longer ones."""
MAX_MESSAGE = 2_000
"""Characters of a reason; MLflow repeats the whole request in some."""
PARSER_FAULTS = (RecursionError, ValueError, TypeError, LookupError, AttributeError)
"""Errors of a server that does not understand a body. MLflow reports those of models itself."""


class RequestLimits:
    """Refuses requests that are too large or not JSON, and removes stack traces from answers.

    The body is read up to the limit before the application sees it: HTTP 413 above it, 415 for
    another type than JSON (CSV and Parquet inflate), 400 for JSON that is nested too deeply.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: int = MAX_BYTES, max_values: int = MAX_VALUES
    ) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._max_values = max_values

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http" or scope["method"] in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        body = bytearray()
        refusal = await self._read(Headers(scope=scope), receive, body)
        if refusal:
            await refusal(scope, receive, send)
            return
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        del body  # the application holds it no longer than it needs it

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        answer = _Answer(send)
        try:
            await self._app(scope, replay, answer.pass_on)
        except PARSER_FAULTS as error:
            nested = isinstance(error, RecursionError)
            reason = "it is nested too deeply" if nested else f"{type(error).__name__}: {error}"
            answer.replace(400, f"the request cannot be read: {reason}")
        finally:
            await answer.finish(scope, receive)

    async def _read(
        self, headers: Headers, receive: Receive, body: bytearray
    ) -> JSONResponse | None:
        """Read a body; returns why it is refused, if it is."""
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            return _refusal(415, "send the request as application/json")
        num_bytes = 0
        while num_bytes <= DRAINED * self._max_bytes:
            message = await receive()
            if message["type"] == "http.disconnect":
                return _refusal(400, "the client closed the connection")
            part = message.get("body", b"")
            num_bytes += len(part)
            if num_bytes <= self._max_bytes:
                body += part
            else:
                body.clear()
            if not message.get("more_body", False):
                break
        if num_bytes > self._max_bytes:
            return _refusal(413, f"the body has more than {self._max_bytes:,} bytes")
        if sum(map(body.count, (b",", b"[", b"{"))) > self._max_values:
            return _refusal(413, f"the body has more than {self._max_values:,} commas and brackets")
        return None


class _Answer:
    """Passes an answer on; one with an error is held, and sent without its stack trace."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._status = 0
        self._body = b""

    async def pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            self._status = message["status"]
        elif self._status:
            self._body += message.get("body", b"")
        else:
            await self._send(message)

    def replace(self, status: int, reason: str) -> None:
        self._status, self._body = status, json.dumps({"message": reason}).encode()

    async def finish(self, scope: Scope, receive: Receive) -> None:
        if not self._status:
            return
        try:
            content = json.loads(self._body)
        except ValueError:  # plain text
            content = {"message": self._body.decode(errors="replace")}
        if not isinstance(content, dict):
            content = {"message": str(content)}
        if "stack_trace" in content:  # an error in the model's code, which MLflow answers with 400
            logger.error("%s", content["stack_trace"])
            self._status = 500
        response = _refusal(self._status, str(content.get("message", content)))
        await response(scope, receive, self._send)


def _refusal(status: int, reason: str) -> JSONResponse:
    kept = reason if len(reason) <= MAX_MESSAGE else f"{reason[:MAX_MESSAGE]} ..."
    code = "BAD_REQUEST" if status < 500 else "INTERNAL_ERROR"
    headers = {"Connection": "close"} if status == 413 else None
    return JSONResponse({"error_code": code, "message": kept}, status, headers)

"""Connections of the scoring server: how many there may be, and how long one may be idle.

uvicorn closes a connection that is idle after an answer (``timeout_keep_alive``). It has no limit
for one that never sends a request, or sends the head of one (request line and headers) slowly or
without end. Such a connection would count as one of ``MAX_CONNECTIONS`` for good.
"""

import asyncio
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_CONNECTIONS = 1024
"""Connections at a time, answers included; more get HTTP 503."""
HEAD_SECONDS = 10.0
"""The head of a request must be complete after this time, counted from its first byte; of the first
request of a connection, from the opening of the connection."""
MAX_HEAD_BYTES = 65_536
"""Of the request line and headers."""
STOP_SECONDS = 30
"""After a signal to stop, requests that are being answered have this long."""


class BoundedHeads(HttpToolsProtocol):
    """uvicorn's protocol, which closes a connection whose request does not begin in time.

    While no request is being read or answered, the next one's head must be complete within
    ``HEAD_SECONDS`` and ``MAX_HEAD_BYTES``. So must what is left of a body, or follows it, after
    its request was answered.
    """

    head_seconds = HEAD_SECONDS
    max_head_bytes = MAX_HEAD_BYTES
    _deadline: asyncio.TimerHandle | None = None
    _in_head = False
    _num_head_bytes = 0

    def connection_made(self, transport: Any) -> None:
        """A client has connected."""
        super().connection_made(transport)
        self._start_deadline()

    def on_message_begin(self) -> None:
        """The first byte of a request has come."""
        super().on_message_begin()
        self._in_head = True
        self._num_head_bytes = 0

    def on_headers_complete(self) -> None:
        """The head of a request is complete."""
        self._in_head = False
        self._end_deadline()
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        """Bytes of a connection have come."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:
            self._start_deadline()
        if self._in_head:
            self._num_head_bytes += len(data)
            if self._num_head_bytes > self.max_head_bytes:
                self.send_400_response(f"The headers have more than {self.max_head_bytes:,} bytes.")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._end_deadline()
        super().connection_lost(exc)

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.head_seconds, self.transport.close)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def server_config(app: ASGIApp, **options: Any) -> uvicorn.Config:
    """Configuration of uvicorn with the limits of connections.

    Args:
        app: the application.
        options: further ones of ``uvicorn.Config``.
    """
    return uvicorn.Config(
        app,
        http=BoundedHeads,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=STOP_SECONDS,
        access_log=False,
        **options,
    )

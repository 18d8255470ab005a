"""Prometheus metrics of the scoring server."""

from time import perf_counter

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class ServerMetrics:
    """Metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "zreward_requests", "Requests.", ("path", "status"), registry=registry
        )
        self.seconds = Histogram(
            "zreward_request_seconds", "From request to answer.", ("path",), registry=registry
        )
        self.rows = Counter("zreward_rows", "Rows of requests.", ("outcome",), registry=registry)
        self.waiting = Gauge(
            "zreward_waiting_rows", "Rows that wait or are being scored.", registry=registry
        )
        self.batch_rows = Histogram(
            "zreward_batch_rows", "Rows of a batch.", buckets=BATCH_ROWS, registry=registry
        )
        self.batch_seconds = Histogram(
            "zreward_batch_seconds", "Decoding and scoring of a batch.", registry=registry
        )

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class Metered:
    """ASGI middleware that counts requests by path and status."""

    def __init__(self, app: ASGIApp, metrics: ServerMetrics, paths: frozenset[str]) -> None:
        """``paths`` are counted by name, others together."""
        self._app = app
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500
        start = perf_counter()

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, counted)
        finally:
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.requests.labels(path, str(status)).inc()
            self._metrics.seconds.labels(path).observe(perf_counter() - start)

"""The scoring server's application: JSON, forms, the dialects of trainers, metrics and a page.

``server_app`` adds the limits of requests, the token and the counting of requests.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from zreward_core import pages
from zreward_core.commands.serving.access import Access
from zreward_core.commands.serving.dialects import PICKLE, dialect_routes, pickle_paths
from zreward_core.commands.serving.limits import JSON, MAX_BYTES, RequestLimits, read_json
from zreward_core.commands.serving.metrics import Metered, ServerMetrics
from zreward_core.commands.serving.openapi import openapi
from zreward_core.commands.serving.queue import QueueFull, ScoringQueue
from zreward_core.config import UserError
from zreward_core.models.requests import RequestScorer, RequestTooLarge, require_all
from zreward_core.pages.render import render
from zreward_core.schemas import NotFinite

MAX_WAITING_ROWS = 2048
"""Rows that may wait to be scored."""
RECORDS = "dataframe_records"
COLUMNS = ("prompt", "image")
FORM = "multipart/form-data"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; img-src blob: data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page loads nothing from anywhere else."""


def server_app(
    scorer: RequestScorer,
    *,
    max_waiting: int = MAX_WAITING_ROWS,
    token: str | None = None,
    with_pickle: bool = False,
) -> ASGIApp:
    """The application with limits, access control and metrics.

    Args:
        scorer: of the model.
        max_waiting: rows that may wait to be scored.
        token: that requests must have, if any.
        with_pickle: also the trainers that send pickles.
    """
    metrics = ServerMetrics()
    app = scoring_app(scorer, metrics, max_waiting, with_pickle)
    routes = [route for route in app.routes if isinstance(route, Route)]
    accepted: dict[str, tuple[str, ...]] = {
        route.path: (JSON,) for route in routes if "POST" in (route.methods or ())
    }
    accepted["/v1/score"] = (JSON, FORM)
    if with_pickle:
        accepted |= dict.fromkeys(pickle_paths(scorer.model.dimensions), ("", PICKLE))
    paths = frozenset(route.path for route in routes)
    return Metered(Access(RequestLimits(app, accepted), token), metrics, paths)


def scoring_app(
    scorer: RequestScorer, metrics: ServerMetrics, max_waiting: int, with_pickle: bool
) -> Starlette:
    """The application without limits on bodies; ``server_app`` is what is served."""
    queue = ScoringQueue(scorer, max_waiting, metrics)
    dimensions = scorer.model.dimensions

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with queue.running():
            yield

    async def score(request: Request) -> Response:
        prompts, images = await _items(request)
        found = await queue.score(prompts, images)
        return JSONResponse({"results": [
            {"overall": None, "dimensions": None, "error": str(one)}
            if isinstance(one, UserError)
            else {"overall": one.overall, "dimensions": one.dimensions, "error": None}
            for one in found
        ]})  # fmt: skip

    async def invocations(request: Request) -> Response:
        records = await _list_of(request, RECORDS)
        rows = require_all(await queue.score(*_columns(records)))
        return JSONResponse({"predictions": [row.dimensions for row in rows]})

    async def ping(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def metrics_text(_: Request) -> Response:
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def specification(_: Request) -> Response:
        return JSONResponse(openapi(dimensions, with_pickle))

    async def page(_: Request) -> Response:
        text = render("serve", title="Z-Reward server", spec=openapi(dimensions, with_pickle))
        return HTMLResponse(text, headers={"Content-Security-Policy": POLICY})

    async def script(_: Request) -> Response:
        content = (Path(pages.__file__).parent / "serve.js").read_text()
        return Response(content, media_type="text/javascript")

    return Starlette(
        routes=[
            Route("/v1/score", score, methods=["POST"]),
            Route("/invocations", invocations, methods=["POST"]),
            Route("/ping", ping),
            Route("/metrics", metrics_text),
            Route("/openapi.json", specification),
            Route("/docs", page),
            Route("/docs/page.js", script),
            *dialect_routes(queue, dimensions, with_pickle),
        ],
        exception_handlers={
            QueueFull: _answer(429),
            RequestTooLarge: _answer(413),
            NotFinite: _answer(500),
            UserError: _answer(400),
            ClientDisconnect: _answer(400),
        },
        lifespan=lifespan,
    )


def _answer(status: int) -> Callable[[Request, Exception], Awaitable[Response]]:
    async def answer(_: Request, error: Exception) -> Response:
        return JSONResponse({"message": str(error)}, status)

    return answer


async def _list_of(request: Request, name: str) -> list:
    content = await read_json(request)
    found = content.get(name) if isinstance(content, dict) else None
    if not isinstance(found, list):
        raise UserError(f'send {{"{name}": [{{"prompt": text, "image": base64}}, ...]}}')
    return found


async def _items(request: Request) -> tuple[Sequence[object], Sequence[object]]:
    """Prompts and images of a request in JSON or of a form."""
    if not request.headers.get("content-type", "").startswith(FORM):
        items = await _list_of(request, "items")
        given = [item if isinstance(item, dict) else {} for item in items]
        return [item.get("prompt") for item in given], [item.get("image") for item in given]
    try:
        form = await request.form(max_part_size=MAX_BYTES)  # an image may be sent as a field
    except HTTPException as error:
        raise UserError(f"the form cannot be read: {error.detail}") from None
    prompts: list[object] = list(form.getlist("prompt"))
    images: list[object] = [
        await part.read() if isinstance(part, UploadFile) else part
        for part in form.getlist("image")
    ]
    if len(prompts) == 1:  # of all images
        prompts *= len(images)
    if len(prompts) != len(images):
        raise UserError(f"{len(prompts)} fields prompt for {len(images)} fields image")
    return prompts, images


def _columns(records: list) -> tuple[list[object], list[object]]:
    """Prompts and images of records."""
    for row, record in enumerate(records):
        missing = [name for name in COLUMNS if not isinstance(record, dict) or name not in record]
        if missing:
            raise UserError(f"row {row}: {' and '.join(missing)} missing")
    return [one["prompt"] for one in records], [one["image"] for one in records]

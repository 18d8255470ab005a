"""HTTP scoring of a model folder without MLflow: the requests and answers of a registered version.

``POST /invocations`` takes ``{"dataframe_records": [{"prompt": ..., "image": base64}, ...]}``.
"""

from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zreward_core.commands.request_limits import PARSER_FAULTS
from zreward_core.config import UserError
from zreward_core.models.requests import RequestScorer, RequestTooLarge

RECORDS = "dataframe_records"
COLUMNS = ("prompt", "image")


def scoring_app(scorer: RequestScorer) -> Starlette:
    """The application; ``RequestLimits`` bounds its requests and shapes its errors."""

    async def invocations(request: Request) -> Response:
        content = await request.json()  # what it raises is answered with 400 by RequestLimits
        try:
            prompts, images = _columns(content)
            rows = await run_in_threadpool(scorer.score, prompts, images)
        except RequestTooLarge as error:
            return JSONResponse({"message": str(error)}, 413)
        except UserError as error:
            return JSONResponse({"message": str(error)}, 400)
        except PARSER_FAULTS as error:  # not the client's fault: 500, not 400
            raise RuntimeError("scoring failed") from error
        return JSONResponse({"predictions": rows})

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ready"})

    return Starlette(
        routes=[
            Route("/invocations", invocations, methods=["POST"]),
            Route("/ping", health),
            Route("/health", health),
        ]
    )


def _columns(content: Any) -> tuple[list[object], list[object]]:
    """Prompts and images of a request's JSON."""
    records = content.get(RECORDS) if isinstance(content, dict) else None
    if not isinstance(records, list):
        raise UserError(f'send {{"{RECORDS}": [{{"prompt": text, "image": base64}}, ...]}}')
    for row, record in enumerate(records):
        missing = [name for name in COLUMNS if not isinstance(record, dict) or name not in record]
        if missing:
            raise UserError(f"row {row}: {' and '.join(missing)} missing")
    return [one["prompt"] for one in records], [one["image"] for one in records]

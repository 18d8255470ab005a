"""Requests and answers of RL trainers, for the clients that they contain.

| trainer | request | answer | where a row has no score |
| --- | --- | --- | --- |
| Flow-Factory `rewards/my_reward_remote.py` | POST /compute, JSON | `rewards` | `error`, null |
| UniRL `unirl/reward/remote.py` | POST /score, JSON; GET /rewards | `results` | `errors` |
| verl-omni `reward_score/http_scorer_client.py` | POST /, pickle | `scores` | `error` |
| flow_grpo, DiffusionNFT `flow_grpo/rewards.py` | POST /, pickle | `outputs` | `error` |

A reward is ``overall``; the same paths below ``/NAME`` give the mean of the dimension NAME. None of
these clients takes an answer without a score for a reward: training stops with the reason.
"""

import pickle
from collections.abc import Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from zreward_core.commands.serving.limits import read_json
from zreward_core.commands.serving.plain_pickle import NotPlain, load_plain, texts
from zreward_core.commands.serving.queue import ScoringQueue
from zreward_core.config import UserError
from zreward_core.models.requests import RowScores

REWARD = "zreward"
"""Name of the reward for UniRL: overall, which trains, and the dimensions."""
IDENTITY = (
    "request_id", "sample_id", "group_id", "source_rank", "policy_version", "idempotency_key",
)  # fmt: skip
"""Fields of a request that UniRL's client compares with those of the answer."""
PICKLE = "application/octet-stream"
Found = RowScores | UserError


def dialect_routes(
    queue: ScoringQueue, dimensions: Sequence[str], with_pickle: bool
) -> list[Route]:
    """Routes of all dialects.

    Args:
        queue: scores rows.
        dimensions: of the model.
        with_pickle: of those that speak pickle too.
    """

    async def unirl(request: Request) -> Response:
        return JSONResponse(await _unirl(queue, dimensions, await read_json(request)))

    async def rewards(_: Request) -> Response:
        return JSONResponse({"rewards": [REWARD, *dimensions]})

    routes = [
        Route("/score", unirl, methods=["POST"]),
        Route("/rewards", rewards),
    ]
    for prefix, value in [("", _overall), *((f"/{name}", _mean(name)) for name in dimensions)]:
        routes += [
            Route(f"{prefix}/compute", _flow_factory(queue, value), methods=["POST"]),
            Route(f"{prefix}/health", _health(dimensions)),
        ]
        if with_pickle:
            routes.append(Route(prefix or "/", _pickled(queue, value), methods=["POST"]))
    return routes


def pickle_paths(dimensions: Sequence[str]) -> frozenset[str]:
    """Paths of the dialects that speak pickle."""
    return frozenset({"/", *(f"/{name}" for name in dimensions)})


def _overall(scores: RowScores) -> float:
    return scores.overall


def _mean(dimension: str) -> Callable[[RowScores], float]:
    return lambda scores: scores.dimensions[dimension]["mean"]


def _health(dimensions: Sequence[str]) -> Callable[[Request], Any]:
    async def health(_: Request) -> Response:  # in the shape that UniRL's client checks
        names = [REWARD, *dimensions]
        return JSONResponse({"status": "ok", "rewards": {name: [True] for name in names}})

    return health


def _reasons(found: Sequence[Found]) -> str:
    return "; ".join(str(one) for one in found if isinstance(one, UserError))


def _flow_factory(
    queue: ScoringQueue, value: Callable[[RowScores], float]
) -> Callable[[Request], Any]:
    async def compute(request: Request) -> Response:
        content = await read_json(request)
        if not isinstance(content, dict):
            raise UserError('send {"prompt": [texts], "image": [base64]}')
        for field in ("video", "condition_images", "condition_videos"):
            if content.get(field):
                raise UserError(
                    f"{field}: only images are scored, each for its prompt; leave it out"
                )
        found = await queue.score(*_columns(content, "prompt", "image"))
        rewards = [None if isinstance(one, UserError) else value(one) for one in found]
        reasons = _reasons(found)
        return JSONResponse({"rewards": rewards} | ({"error": reasons} if reasons else {}))

    return compute


def _columns(content: dict, *names: str) -> list[list]:
    columns = [content.get(name) for name in names]
    for name, column in zip(names, columns, strict=True):
        if not isinstance(column, list):
            raise UserError(f"{name} must be a list")
    if len({len(column) for column in columns if column is not None}) > 1:
        raise UserError(f"{' and '.join(names)} must have the same length")
    return columns  # type: ignore[return-value]


async def _unirl(queue: ScoringQueue, dimensions: Sequence[str], content: object) -> dict:
    requests = content.get("requests") if isinstance(content, dict) else None
    if not isinstance(requests, list):
        raise UserError('send {"requests": [{"history": [...], "required_rewards": [...]}, ...]}')
    if not requests:
        return {"results": [], "errors": [], "identities": []}
    prompts, images, wanted = [], [], []
    for index, request in enumerate(requests):
        prompt, image, names = _unirl_row(index, request, dimensions)
        prompts.append(prompt)
        images.append(image)
        wanted.append(names)
    identities = [{key: request.get(key) for key in IDENTITY} for request in requests]
    results, errors = [], []
    for names, one in zip(wanted, await queue.score(prompts, images), strict=True):
        failed = isinstance(one, UserError)
        errors.append({name: str(one) for name in names} if failed else {})
        results.append({} if isinstance(one, UserError) else _unirl_scores(one, names))
    return {"results": results, "errors": errors, "identities": identities}


def _unirl_row(
    index: int, request: object, dimensions: Sequence[str]
) -> tuple[object, object, list[str]]:
    """Prompt, image and names of rewards of a request."""
    row = request if isinstance(request, dict) else {}
    history, names = row.get("history"), row.get("required_rewards")
    if not isinstance(history, list) or not history or not isinstance(history[-1], dict):
        raise UserError(f"requests[{index}]: history must be a list of turns with text, image_b64")
    if not isinstance(names, list):
        raise UserError(f"requests[{index}]: required_rewards must be a list")
    unknown = [name for name in names if name not in (REWARD, *dimensions)]
    if unknown:
        raise UserError(
            f"requests[{index}]: unknown reward {unknown[0]!r}: choose from {[REWARD, *dimensions]}"
        )
    if len(history) > 1:
        raise UserError(
            f"requests[{index}]: {len(history)} turns: only one image is scored for its prompt"
        )
    return history[0].get("text"), history[0].get("image_b64"), names


def _unirl_scores(scores: RowScores, names: list[str]) -> dict[str, dict[str, float]]:
    means = {name: numbers["mean"] for name, numbers in scores.dimensions.items()}
    return {
        name: {"overall": scores.overall} | means if name == REWARD else {"mean": means[name]}
        for name in names
    }


def _pickled(queue: ScoringQueue, value: Callable[[RowScores], float]) -> Callable[[Request], Any]:
    async def score(request: Request) -> Response:
        try:
            content = load_plain(await request.body())
            if not isinstance(content, dict) or not isinstance(content.get("images"), list):
                raise NotPlain('send {"images": [bytes], "prompts": [texts]}')
            prompts = texts(content.get("prompts"), "prompts")
        except NotPlain as error:
            raise UserError(str(error)) from None
        images = content["images"]
        if len(images) != len(prompts) or not all(isinstance(one, bytes) for one in images):
            raise UserError("images must be a list of bytes, one for each prompt")
        found = await queue.score(prompts, images)
        reasons = _reasons(found)
        if reasons:
            return Response(pickle.dumps({"error": reasons}), media_type=PICKLE)
        rewards = [value(one) for one in found if isinstance(one, RowScores)]
        return Response(pickle.dumps({"scores": rewards, "outputs": rewards}), media_type=PICKLE)

    return score

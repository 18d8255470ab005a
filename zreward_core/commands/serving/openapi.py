"""OpenAPI description of the scoring server."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field, TypeAdapter

from zreward_core import __version__


class Item(BaseModel):
    """An image and its prompt."""

    prompt: str
    image: str = Field(description="An image file in base64, or as a data URI.")


class ScoreRequest(BaseModel):
    """Images to score."""

    items: list[Item]


class DimensionScore(BaseModel):
    """Score of an image in a dimension, in rubric units."""

    mean: float
    std: float
    mass: float = Field(description="Probability of the score tokens together.")
    probs: list[float] = Field(description="Distribution over the rubric's levels.")


class Result(BaseModel):
    """Scores of an image; all null but ``error`` where it has none."""

    overall: float | None
    dimensions: dict[str, DimensionScore] | None
    error: str | None


class ScoreResponse(BaseModel):
    """Results in the order of the items."""

    results: list[Result]


class Refusal(BaseModel):
    """Why a request was refused."""

    error_code: str
    message: str


class ComputeRequest(BaseModel):
    """Request of Flow-Factory's remote reward."""

    prompt: list[str]
    image: list[str]


class ComputeResponse(BaseModel):
    """Answer to Flow-Factory's remote reward."""

    rewards: list[float | None]
    error: str | None = None


MODELS = (ScoreRequest, ScoreResponse, Refusal, ComputeRequest, ComputeResponse)
REFUSALS = {
    "400": "Malformed.", "401": "The token is missing or wrong.", "413": "Over a limit.",
    "415": "Of another media type.", "429": "Too many rows are waiting; try again.",
}  # fmt: skip
FORM = {
    "type": "object",
    "properties": {
        "prompt": {"type": "array", "items": {"type": "string"}},
        "image": {"type": "array", "items": {"type": "string", "format": "binary"}},
    },
}


def openapi(dimensions: Sequence[str], with_pickle: bool) -> dict[str, Any]:
    """OpenAPI 3.1 document.

    Args:
        dimensions: of the model.
        with_pickle: whether trainers may send pickles.
    """
    inputs = [(model, "validation", TypeAdapter(model)) for model in MODELS]
    template = "#/components/schemas/{model}"
    _, schemas = TypeAdapter.json_schemas(inputs, ref_template=template)  # type: ignore[arg-type]
    paths = {
        "/v1/score": _post("Score images", "ScoreRequest", "ScoreResponse", form=True),
        "/invocations": _post("Score as `mlflow models serve` does; a bad row refuses all"),
        "/compute": _post("Flow-Factory's remote reward", "ComputeRequest", "ComputeResponse"),
        "/score": _post("UniRL's remote reward"),
        "/rewards": _get("Names of UniRL's rewards"),
        "/health": _get("Answers when the model is loaded"),
        "/metrics": _get("Metrics in Prometheus' text format", "text/plain"),
    }
    for name in dimensions:
        title = f"Flow-Factory's remote reward: {name}"
        paths[f"/{name}/compute"] = _post(title, "ComputeRequest", "ComputeResponse")
    if with_pickle:
        paths["/"] = _post("Remote reward of verl-omni, flow_grpo and DiffusionNFT, in pickles")
    return {
        "openapi": "3.1.0",
        "info": {"title": "Z-Reward", "version": __version__},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _content(schema: str | None, kind: str = "application/json") -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/{schema}"} if schema else {}
    return {kind: {"schema": reference}}


def _get(title: str, kind: str = "application/json") -> dict[str, Any]:
    answers = {"200": {"description": "The answer.", "content": _content(None, kind)}}
    return {"get": {"summary": title, "responses": answers}}


def _post(
    title: str, request: str | None = None, answer: str | None = None, form: bool = False
) -> dict[str, Any]:
    body = _content(request) | ({"multipart/form-data": {"schema": FORM}} if form else {})
    answers: dict[str, Any] = {"200": {"description": "Scores.", "content": _content(answer)}}
    for status, reason in REFUSALS.items():
        answers[status] = {"description": reason, "content": _content("Refusal")}
    return {
        "post": {
            "summary": title,
            "requestBody": {"required": True, "content": body},
            "responses": answers,
        }
    }

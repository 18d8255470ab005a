"""The application of `zreward serve`; tests/commands/test_serving.py covers the process."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from starlette.applications import Starlette
from starlette.testclient import TestClient
from starlette.types import Message

from tests.commands.serving import b64, client_of, png, tiny_model
from zreward_core import RewardModel
from zreward_core.commands.serving.app import server_app
from zreward_core.commands.serving.limits import JSON, RequestLimits
from zreward_core.images import encode_png
from zreward_core.models.requests import RequestScorer, Row

IMAGES = [png(32 + 8 * index) for index in range(4)]
PROMPTS = ["a red circle", "a blue square on a red circle", "red", "a red circle"]


@pytest.fixture(scope="module")
def model() -> RewardModel:
    return tiny_model()


@pytest.fixture(scope="module")
def client(model: RewardModel) -> Iterator[TestClient]:
    with client_of(model) as client:
        yield client


def items() -> list[dict[str, str]]:
    pairs = zip(PROMPTS, IMAGES, strict=True)
    return [{"prompt": prompt, "image": b64(image)} for prompt, image in pairs]


def check(results: list[dict[str, Any]], model: RewardModel) -> None:
    expected = model.score(PROMPTS, IMAGES)
    found = [result["overall"] for result in results]
    np.testing.assert_allclose(found, expected.overall.numpy(), rtol=1e-6)
    for result, row in zip(results, expected.rows(), strict=True):
        assert result["error"] is None
        for name, numbers in row.items():
            np.testing.assert_allclose(
                result["dimensions"][name]["probs"],
                numbers["probs"],  # type: ignore[arg-type]
                atol=1e-6,
            )


def test_json_and_forms_have_the_scores_of_the_model(
    client: TestClient, model: RewardModel
) -> None:
    check(client.post("/v1/score", json={"items": items()}).json()["results"], model)
    parts = [("image", (f"{index}.png", image)) for index, image in enumerate(IMAGES)]
    answer = client.post("/v1/score", data={"prompt": PROMPTS}, files=parts)
    check(answer.json()["results"], model)


def test_a_form_may_have_one_prompt_for_all_images(client: TestClient, model: RewardModel) -> None:
    parts = [("image", (f"{index}.png", image)) for index, image in enumerate(IMAGES)]
    answer = client.post("/v1/score", data={"prompt": "red"}, files=parts).json()
    expected = model.score("red", IMAGES).overall.tolist()
    assert [one["overall"] for one in answer["results"]] == pytest.approx(expected, rel=1e-6)
    answer = client.post("/v1/score", data={"prompt": ["red", "blue"]}, files=parts)
    assert answer.status_code == 400 and "2 fields prompt for 4" in answer.json()["message"]


BAD_ROWS = {
    "not an image": ({"prompt": "red", "image": b64(b"hello")}, "not a readable image"),
    "torn": ({"prompt": "red", "image": b64(IMAGES[0][:300])}, "not a readable image"),
    "not base64": ({"prompt": "red", "image": "@@"}, "not valid base64"),
    "no image": ({"prompt": "red"}, "image must be a string"),
    "no prompt": ({"image": b64(IMAGES[0])}, "prompt must be a string"),
    "blank prompt": ({"prompt": " ", "image": b64(IMAGES[0])}, "the prompt is empty"),
    "not an item": (5, "prompt must be a string"),
    "half a character": ({"prompt": "\\ud800", "image": b64(IMAGES[0])}, "not Unicode"),
}


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_bad_row_costs_itself_only(client: TestClient, model: RewardModel, case: str) -> None:
    bad, reason = BAD_ROWS[case]
    if isinstance(bad, dict) and bad.get("prompt") == "\\ud800":
        bad = bad | {"prompt": "\ud800"}
        import json

        body = json.dumps({"items": [*items(), bad]}).encode()
        kind = {"Content-Type": "application/json"}
        answer = client.post("/v1/score", content=body, headers=kind)
    else:
        answer = client.post("/v1/score", json={"items": [*items(), bad]})
    assert answer.status_code == 200
    *good, failed = answer.json()["results"]
    check(good, model)
    assert failed["overall"] is None and failed["dimensions"] is None
    assert failed["error"].startswith("row 4: ") and reason in failed["error"]


def test_a_score_that_is_not_finite_costs_its_row_only(model: RewardModel) -> None:
    class Defective(RewardModel):
        """Has no score for one prompt."""

        def _distributions(self, prompts: list[str], *rest: Any) -> Any:  # type: ignore[override]
            probs, mass = super()._distributions(prompts, *rest)
            probs[[prompt == "blue" for prompt in prompts]] = torch.nan
            return probs, mass

    with client_of(Defective(model.backbone)) as client:
        bad = {"prompt": "blue", "image": b64(IMAGES[0])}
        *good, failed = client.post("/v1/score", json={"items": [*items(), bad]}).json()["results"]
        check(good, model)
        assert failed["overall"] is None and "finite" in failed["error"]
        answer = client.post("/invocations", json={"dataframe_records": [bad]})
        assert answer.status_code == 500


def test_invocations_refuse_a_request_with_a_bad_row(
    client: TestClient, model: RewardModel
) -> None:
    answer = client.post("/invocations", json={"dataframe_records": items()})
    names = list(answer.json()["predictions"][0])
    assert names == model.dimensions
    answer = client.post(
        "/invocations", json={"dataframe_records": [*items(), {"prompt": "red", "image": "@"}]}
    )
    assert answer.status_code == 400 and answer.json()["message"].startswith("row 4: image")


def test_a_full_queue_is_answered_with_429(model: RewardModel) -> None:
    with client_of(model, max_waiting=3) as client:
        answer = client.post("/v1/score", json={"items": items()})
        assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
        assert client.post("/v1/score", json={"items": items()[:3]}).status_code == 200
        assert client.post("/v1/score", json={"items": items()[:3]}).status_code == 200


def test_held_bodies_are_bounded(model: RewardModel) -> None:
    with client_of(model) as client:
        limits = client.app._app._app  # type: ignore[attr-defined]
        assert isinstance(limits, RequestLimits)
        limits._max_held = 1000
        answer = client.post("/v1/score", json={"items": items()})
        assert answer.status_code == 429 and limits._held == 0


@pytest.mark.parametrize(
    ("pause", "limit", "reason"),
    [
        (60, {"max_pause": 0.05}, "no part of the body came for 0.05 seconds"),
        (0.01, {"max_read": 0.1}, "the body was not complete after 0.1 seconds"),
    ],
)
def test_a_body_that_stops_coming_is_answered_with_408(
    pause: float, limit: dict[str, float], reason: str
) -> None:
    """Of a client that is gone, or sends slowly; its connection would be kept forever."""
    sent: list[Message] = []

    async def receive() -> Message:
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": b"[", "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    limits = RequestLimits(Starlette(), {"/v1/score": (JSON,)}, **limit)  # type: ignore[arg-type]
    headers = [(b"content-type", b"application/json"), (b"content-length", b"100")]
    scope = {"type": "http", "method": "POST", "path": "/v1/score", "headers": headers}
    asyncio.run(limits(scope, receive, send))
    assert sent[0]["status"] == 408 and (b"connection", b"close") in sent[0]["headers"]
    assert reason.encode() in sent[1]["body"]
    assert limits._held == 0


@pytest.mark.parametrize("method", ["PUT", "OPTIONS", "DELETE", "PATCH", "TRACE", "BREW"])
@pytest.mark.parametrize(("path", "allowed"), [("/v1/score", "POST"), ("/health", "GET, HEAD")])
def test_another_method_is_answered_with_405_and_the_allowed_ones(
    client: TestClient, method: str, path: str, allowed: str
) -> None:
    for kind in ("application/json", "text/csv"):
        answer = client.request(method, path, content=b"x" * 99, headers={"Content-Type": kind})
        assert answer.status_code == 405
        assert sorted(answer.headers["allow"].split(", ")) == sorted(allowed.split(", "))
        assert answer.json()["error_code"] == "METHOD_NOT_ALLOWED"
    assert "access-control-allow-origin" not in answer.headers


def test_the_path_and_the_method_precede_the_media_type(client: TestClient) -> None:
    table = {"content": b"a,b", "headers": {"Content-Type": "text/csv"}}
    statuses = {"/nowhere": 404, "/health": 405, "/metrics": 405, "/v1/score": 415}
    for path, status in statuses.items():
        answer = client.post(path, **table)
        assert answer.status_code == status and answer.json()["message"], path
    assert client.get("/v1/score").status_code == 405
    assert client.get("/nowhere").json()["error_code"] == "NOT_FOUND"


def test_an_image_may_be_a_field_or_a_data_uri(client: TestClient, model: RewardModel) -> None:
    """Fields that are not files have a limit of 1 MB by default."""
    large = encode_png(np.random.default_rng(0).integers(0, 256, (700, 700, 3), dtype=np.uint8))
    assert len(large) > 2**20
    uri = f"data:image/png;base64,{b64(large)}"
    form = client.post("/v1/score", files={"prompt": (None, "red"), "image": (None, uri)})
    in_json = client.post("/v1/score", json={"items": [{"prompt": "red", "image": uri}]})
    expected = pytest.approx(model.score("red", large).overall.item())
    for answer in (form, in_json):
        assert answer.json()["results"][0]["overall"] == expected, answer.text


def test_a_defect_is_answered_with_500_and_without_its_text(model: RewardModel) -> None:
    class Defective(RequestScorer):
        """Has a defect of ours."""

        def score_rows(self, rows: Any) -> Any:
            return [None][1]

    app = server_app(Defective(model))
    with TestClient(app, raise_server_exceptions=False) as client:
        for path, name in (("/v1/score", "items"), ("/invocations", "dataframe_records")):
            answer = client.post(path, json={name: items()})
            assert answer.status_code == 500 and "list index" not in answer.text


def test_a_token_is_required_if_the_server_has_one(model: RewardModel) -> None:
    request = {"items": items()[:1]}
    with client_of(model, token="secret") as client:
        assert client.post("/v1/score", json=request).status_code == 401
        assert client.get("/metrics").status_code == 401
        for wrong in ("Bearer nope", "Bearer ", "Basic !", "secret"):
            headers = {"Authorization": wrong}
            assert client.post("/v1/score", json=request, headers=headers).status_code == 401
        headers = {"Authorization": "Bearer secret"}
        assert client.post("/v1/score", json=request, headers=headers).status_code == 200
        answer = client.post("/v1/score", json=request, auth=("any", "secret"))
        assert answer.status_code == 200
        assert client.get("/health").status_code == 200 == client.get("/docs").status_code


def test_pages_of_other_sites_are_refused(client: TestClient) -> None:
    request = {"items": items()[:1]}
    headers = {"Origin": "http://example.com"}
    assert client.post("/v1/score", json=request, headers=headers).status_code == 403
    headers = {"Origin": "http://127.0.0.1:5001"}
    assert client.post("/v1/score", json=request, headers=headers).status_code == 200


def test_metrics_count_requests_rows_and_batches(model: RewardModel) -> None:
    with client_of(model) as client:
        client.post("/v1/score", json={"items": [*items(), {}]})
        client.post("/nowhere/at/all", json={})
        text = client.get("/metrics").text
    assert 'zreward_requests_total{path="/v1/score",status="200"} 1.0' in text
    assert 'zreward_requests_total{path="other",status="404"} 1.0' in text
    assert 'zreward_rows_total{outcome="scored"} 4.0' in text
    assert 'zreward_rows_total{outcome="failed"} 1.0' in text
    assert "zreward_batch_rows_sum 4.0" in text and "zreward_waiting_rows 0.0" in text


def test_the_page_loads_nothing_from_the_network(client: TestClient) -> None:
    page = client.get("/docs")
    assert 'type="file"' in page.text and "<h1>" in page.text
    assert re.findall(r'(?:src|href)="([^"]*)"', page.text) == ["/openapi.json", "/docs/page.js"]
    assert "default-src 'none'" in page.headers["content-security-policy"]
    script = client.get("/docs/page.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert "http" not in script.text


def test_the_description_lists_the_paths_that_are_served(client: TestClient) -> None:
    spec = client.get("/openapi.json").json()
    assert spec["openapi"] == "3.1.0"
    for path, methods in spec["paths"].items():
        for method in methods:
            answer = client.request(method, path, json=[])
            assert answer.status_code in ((200,) if method == "get" else (400,)), path
    references = re.findall(r'"#/components/schemas/(\w+)"', client.get("/openapi.json").text)
    assert set(references) <= set(spec["components"]["schemas"])


def test_rows_of_several_requests_keep_their_numbers(model: RewardModel) -> None:
    scorer = RequestScorer(model)
    rows = [row for row in scorer.admit(PROMPTS, IMAGES) if isinstance(row, Row)]
    torn = Row(7, "red", IMAGES[0][:300], 60)
    found = scorer.score_rows([*rows, torn])
    assert str(found[4]).startswith("row 7: image")

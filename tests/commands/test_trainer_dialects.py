"""The protocols of trainers, spoken as their clients do."""

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.commands import trainer_clients as clients
from tests.commands.serving import b64, client_of, jpeg, png, tiny_model
from zreward_core import RewardModel

PROMPTS = ["a red circle", "a blue square on a red circle", "red"]
IMAGES = [png(32 + 8 * index) for index in range(3)]
DAMAGED = [IMAGES[0], IMAGES[1][:400], IMAGES[2]]


@pytest.fixture(scope="module")
def model() -> RewardModel:
    return tiny_model()


@pytest.fixture(scope="module")
def client(model: RewardModel) -> Iterator[TestClient]:
    with client_of(model, with_pickle=True) as client:
        yield client


def overall(model: RewardModel, images: list[bytes]) -> list[float]:
    return pytest.approx(model.score(PROMPTS, images).overall.tolist(), rel=1e-6)  # type: ignore[return-value]


def test_flow_factory(client: TestClient, model: RewardModel) -> None:
    assert clients.flow_factory(client, PROMPTS, IMAGES) == overall(model, IMAGES)
    with pytest.raises(RuntimeError, match="row 1: image"):
        clients.flow_factory(client, PROMPTS, DAMAGED)
    answer = client.post("/compute", json={"prompt": PROMPTS, "image": [b64(DAMAGED[1])] * 3})
    assert answer.json()["rewards"] == [None] * 3


def test_the_mean_of_a_dimension_is_a_reward_of_its_own(
    client: TestClient, model: RewardModel
) -> None:
    for name in model.dimensions:
        scores = model.score(PROMPTS, IMAGES, [name]).mean[:, 0].tolist()
        found = clients.flow_factory(client, PROMPTS, IMAGES, f"/{name}")
        assert found == pytest.approx(scores, rel=1e-6)
        score = model.score(PROMPTS[0], jpeg(IMAGES[0]), [name]).mean.item()
        assert clients.verl_omni(client, PROMPTS[0], IMAGES[0], f"/{name}") == pytest.approx(score)


def test_unirl(client: TestClient, model: RewardModel) -> None:
    name = model.dimensions[0]
    found = clients.unirl(client, PROMPTS, IMAGES, ["zreward", name])
    images = [jpeg(image) for image in IMAGES]
    expected = model.score(PROMPTS, images)
    for b, result in enumerate(found["results"]):
        assert next(iter(result["zreward"])) == "overall"  # the first metric trains
        assert result["zreward"]["overall"] == pytest.approx(expected.overall[b].item())
        assert result["zreward"][name] == pytest.approx(expected.mean[b, 0].item())
        assert result[name] == {"mean": result["zreward"][name]}
    assert found["errors"] == [{}] * 3
    assert client.get("/rewards").json() == {"rewards": ["zreward", *model.dimensions]}


def test_unirl_without_a_score(client: TestClient) -> None:
    turn = {"text": "red", "image_b64": b64(DAMAGED[1])}
    good = {"text": "red", "image_b64": b64(IMAGES[0])}
    requests = [{"history": [one], "required_rewards": ["zreward"]} for one in (good, turn)]
    found = client.post("/score", json={"requests": requests}).json()
    assert found["results"][0]["zreward"]["overall"] and found["results"][1] == {}
    assert found["errors"][0] == {} and "row 1: image" in found["errors"][1]["zreward"]
    none: dict = {"results": [], "errors": [], "identities": []}
    assert client.post("/score", json={"requests": []}).json() == none


MALFORMED = {
    "flow-factory: no object": ("/compute", [], "prompt"),
    "flow-factory: a video": ("/compute", {"prompt": ["a"], "video": [["x"]]}, "video: only"),
    "flow-factory: lengths": ("/compute", {"prompt": ["a"], "image": []}, "same length"),
    "flow-factory: no list": ("/compute", {"prompt": "a", "image": []}, "prompt must be a list"),
    "flow-factory: empty": ("/compute", {"prompt": [], "image": []}, "0 rows"),
    "unirl: no requests": ("/score", {"items": []}, "requests"),
    "unirl: no history": ("/score", {"requests": [{}]}, "requests[0]: history"),
    "unirl: unknown": (
        "/score",
        {"requests": [{"history": [{}], "required_rewards": ["hpsv3"]}]},
        "unknown reward 'hpsv3': choose from ['zreward'",
    ),
    "unirl: two turns": (
        "/score",
        {"requests": [{"history": [{}, {}], "required_rewards": []}]},
        "2 turns",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_requests_are_answered_with_400(client: TestClient, case: str) -> None:
    path, content, reason = MALFORMED[case]
    answer = client.post(path, json=content)
    assert answer.status_code == 400 and reason in answer.json()["message"], answer.text


def test_verl_omni(client: TestClient, model: RewardModel) -> None:
    expected = model.score(PROMPTS[0], jpeg(IMAGES[0])).overall.item()
    assert clients.verl_omni(client, PROMPTS[0], IMAGES[0]) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(RuntimeError, match=r"row 0: the prompt .* has 3,001 tokens"):
        clients.verl_omni(client, "red " * 3000, IMAGES[0])


def test_flow_grpo(client: TestClient, model: RewardModel) -> None:
    expected = overall(model, [jpeg(image) for image in IMAGES])
    assert clients.flow_grpo(client, PROMPTS, IMAGES) == expected
    with pytest.raises(KeyError, match="outputs"):
        clients.flow_grpo(client, ["red", "red " * 3000, "red"], IMAGES)


def test_pickles_are_refused_unless_asked_for(model: RewardModel) -> None:
    with client_of(model) as client, pytest.raises(RuntimeError, match=r"HTTP (404|415)"):
        clients.verl_omni(client, PROMPTS[0], IMAGES[0])

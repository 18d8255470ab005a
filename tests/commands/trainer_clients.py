"""What trainers' clients send and how they read the answer, written after their own code.

Flow-Factory `src/flow_factory/rewards/my_reward_remote.py`, UniRL `unirl/reward/remote.py`,
verl-omni `verl_omni/utils/reward_score/http_scorer_client.py`, flow_grpo `flow_grpo/rewards.py`
(`unifiedreward_score_remote`; DiffusionNFT has the same).
"""

import hashlib
import pickle

import numpy as np
from starlette.testclient import TestClient

from tests.commands.serving import b64, jpeg


def flow_factory(
    client: TestClient, prompts: list[str], images: list[bytes], place: str = ""
) -> list[float]:
    assert client.get(f"{place}/health").is_success
    payload = {
        "prompt": prompts,
        "image": [b64(image) for image in images],
        "video": None,
        "condition_images": None,
        "condition_videos": None,
    }
    answer = client.post(f"{place}/compute", json=payload)
    answer.raise_for_status()
    if answer.json().get("error"):
        raise RuntimeError(f"Server error: {answer.json()['error']}")
    return answer.json()["rewards"]


def unirl(client: TestClient, prompts: list[str], images: list[bytes], names: list[str]) -> dict:
    health = client.get("/health").json()
    assert set(names) <= set(health["rewards"])
    requests = [
        {
            "history": [{"text": prompt, "image_b64": b64(jpeg(image))}],
            "required_rewards": names,
            "metadata": None,
            "request_id": f"request {index}",
            "sample_id": f"sample {index}",
            "group_id": None,
            "source_rank": 3,
            "policy_version": None,
            "scorer_version": None,
            "idempotency_key": hashlib.sha256(image).hexdigest(),
        }
        for index, (prompt, image) in enumerate(zip(prompts, images, strict=True))
    ]
    answer = client.post("/score", json={"protocol_version": "1", "requests": requests})
    answer.raise_for_status()
    content = answer.json()
    for request, identity in zip(requests, content["identities"], strict=True):
        for key in ("request_id", "sample_id", "group_id", "source_rank", "idempotency_key"):
            assert identity[key] == request[key]  # with require_identity_echo
    return content


def verl_omni(client: TestClient, prompt: str, image: bytes, place: str = "/") -> float:
    payload = pickle.dumps({"images": [jpeg(image)], "prompts": [prompt], "metadata": {}})
    headers = {"Content-Type": "application/octet-stream"}  # aiohttp's for bytes
    answer = client.post(place, content=payload, headers=headers)
    if answer.status_code != 200:
        raise RuntimeError(f"Scorer server returned HTTP {answer.status_code}: {answer.text}")
    content = pickle.loads(answer.content)
    if "error" in content:
        raise RuntimeError(f"Scorer server error: {content['error']}")
    return float(content["scores"][0])


def flow_grpo(client: TestClient, prompts: list[str], images: list[bytes]) -> list[float]:
    jpegs = [jpeg(image) for image in images]
    for part in np.array_split(np.array(prompts), 1):
        body = pickle.dumps({"images": jpegs, "prompts": part})
        answer = client.post("/", content=body)  # without a content type
        scores = pickle.loads(answer.content)["outputs"]
    return scores

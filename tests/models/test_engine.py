"""The client of a rollout engine, against a server that samples with our own decoder."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.sampling_server import SamplingServer, sampling_server
from zreward_core.adapters import adapter_weights
from zreward_core.config import UserError
from zreward_core.models import engine
from zreward_core.models.backbone import Backbone, LoraSettings
from zreward_core.models.engine import Engine
from zreward_core.models.engine_client import EngineClient
from zreward_core.models.rollouts import Rollouts, sample_rollouts
from zreward_core.models.traces import trace_log_probs

QUERIES = [(0, 0), (1, 2), (1, 1)]
GROUP, LIMIT = 3, 5


@pytest.fixture(scope="module")
def pixels(backbone: Backbone, images: list[np.ndarray]) -> list[torch.Tensor]:
    """The first is not resized, and so equal at the server."""
    return [backbone.pixels.prepare(image) for image in images[:2]]


@pytest.fixture
def server(backbone: Backbone) -> Iterator[SamplingServer]:
    with sampling_server(backbone) as started:
        yield started


@pytest.fixture
def remote(backbone: Backbone, server: SamplingServer, tmp_path: Path) -> Backbone:
    """The backbone with an engine."""
    model = copy.copy(backbone)
    model.engine = Engine(EngineClient(server.url, None, 60.0), tmp_path / "engine", 2)
    return model


def roll(model: Backbone, prompts: list[str], pixels: list, temperature: float = 1.0) -> Rollouts:
    seeds = [11, 22, 33]
    return sample_rollouts(model, prompts[:2], pixels, QUERIES, GROUP, LIMIT, seeds, temperature)


@torch.no_grad()
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_all_numbers_are_those_of_our_own_forward(
    remote: Backbone, server: SamplingServer, prompts: list[str], pixels: list, temperature: float
) -> None:
    found = roll(remote, prompts, pixels, temperature)
    chat = remote.chat
    assert len(server.requests) == len(QUERIES)
    assert {request["sampling_params"]["n"] for request in server.requests} == {GROUP}
    assert len({tuple(tokens) for tokens in found.tokens}) > 5
    for tokens, closed in zip(found.tokens, found.closed.tolist(), strict=True):
        assert closed == (tokens[-1] == chat.close_id) and (closed or len(tokens) == LIMIT)
        assert not set(tokens) & set(chat.forbidden)
    for q, (image, dimension) in enumerate(QUERIES):
        rows = slice(q * GROUP, (q + 1) * GROUP)
        ours = trace_log_probs(
            remote,
            prompts[image : image + 1],
            [pixels[image]],
            [dimension],
            found.tokens[rows],
            temperature,
            found.answers[rows],
        )
        assert torch.allclose(ours.scores_NS, found.log_probs[rows], atol=1e-4)
        assert torch.allclose(ours.mass_N, found.mass[rows], atol=1e-5)
        assert torch.isfinite(ours.log_probs_NT[:, -1]).all()  # answers that can be sampled
    assert [len(row) for row in found.log_ratios] == [len(row) for row in found.tokens]
    gaps = [abs(ratio) for row in found.log_ratios for ratio in row]
    assert max(gaps[: sum(map(len, found.tokens[:GROUP]))]) < 1e-4  # an image that is not resized
    assert max(gaps) < 0.05  # pixels rounded to 8 bits
    again = roll(remote, prompts, pixels, temperature)
    assert again.tokens == found.tokens and torch.equal(again.answers, found.answers)


def test_greedy_traces_are_those_of_the_local_decoder(
    backbone: Backbone, remote: Backbone, server: SamplingServer, prompts: list[str], pixels: list
) -> None:
    exact = pixels[:1] * 2  # rounding to 8 bits would change tokens of the other image
    local, found = (roll(model, prompts, exact, 0.0) for model in (backbone, remote))
    assert local.tokens == found.tokens
    assert torch.equal(local.answers, found.answers)
    assert torch.allclose(local.log_probs, found.log_probs, atol=1e-4)
    assert local.log_ratios is None
    assert {request["sampling_params"]["n"] for request in server.requests} == {1}


def test_an_adapter_is_renewed(
    remote: Backbone,
    server: SamplingServer,
    prompts: list[str],
    pixels: list,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "MAX_GAP", 1e9)
    model = copy.deepcopy(remote)
    model.engine = remote.engine
    model.train_mode(LoraSettings(rank=2, alpha=16), seed=5)
    model.network.eval()
    stale, renewed = [], []
    for step in range(3):
        with torch.no_grad():
            for n, parameter in enumerate(model.trainable()):
                generator = torch.Generator().manual_seed(100 * step + n)
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        for gaps in (stale, renewed):
            rows = roll(model, prompts, pixels[:1] * 2).log_ratios
            gaps.append(max(abs(ratio) for row in rows for ratio in row))
            if gaps is stale:
                model.engine.renew(model.adapted, adapter_weights(model.adapted))
    assert max(renewed) < 1e-3 < 1e-2 < min(stale)
    assert len(set(server.loaded)) == 3
    assert list(server.models) == [server.name, server.loaded[-1]]  # earlier ones are removed
    assert {request["model"] for request in server.requests} == {server.name, *server.loaded}
    assert not list((tmp_path / "engine").iterdir())
    model.engine.close()
    assert list(server.models) == [server.name]


def first(answer: dict[str, Any]) -> dict[str, Any]:
    return answer["choices"][0]


def with_token(place: int, token: Callable[[Backbone], int]) -> Callable:
    def change(model: Backbone, answer: dict) -> None:
        first(answer)["token_ids"] = [model.chat.label_ids[0]] * LIMIT
        first(answer)["logprobs"]["content"] = [{"logprob": -1.0}] * LIMIT
        first(answer)["token_ids"][place] = token(model)

    return change


WRONG: dict[str, tuple[Callable[[Backbone, dict], Any], str]] = {
    "a trace too few": (lambda _, answer: answer["choices"].pop(), "2 traces instead of 3"),
    "too many tokens": (
        lambda _, answer: first(answer).update(token_ids=[5] * (LIMIT + 1)),
        f"has {LIMIT + 1} tokens",
    ),
    "no token": (lambda _, answer: first(answer).update(token_ids=[]), "has 0 tokens"),
    "ended before": (
        lambda model, answer: first(answer).update(
            token_ids=model.chat.label_ids[:1], logprobs={"content": [{"logprob": -1.0}]}
        ),
        "neither with its closing",
    ),
    "forbidden": (with_token(1, lambda model: model.chat.image_token_id), "unknown or forbidden"),
    "unknown": (with_token(1, lambda model: 10**6), "tokens [1000000], which are unknown"),
    "after the end": (with_token(1, lambda model: model.chat.close_id), "goes on after it"),
    "no log-probabilities": (
        lambda _, answer: first(answer).update(logprobs=None),
        "'logprobs' is 'None'",
    ),
    "another prompt": (lambda _, answer: answer["prompt_token_ids"].pop(), "it has read"),
    "another model": (
        lambda _, answer: [
            c.update(logprob=c["logprob"] - 3.0)
            for one in answer["choices"]
            for c in one["logprobs"]["content"]
        ],
        "processed_logprobs",
    ),
    "no choices": (lambda _, answer: answer.clear(), "it has read 0 tokens"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_answer_is_one_error(
    remote: Backbone, server: SamplingServer, prompts: list[str], pixels: list, name: str
) -> None:
    change, message = WRONG[name]

    def changed(answer: dict) -> dict:
        change(remote, answer)
        return answer

    server.change = changed
    with pytest.raises(UserError) as caught:
        roll(remote, prompts, pixels)
    assert message in str(caught.value) and server.url in str(caught.value)


@pytest.mark.parametrize(
    ("status", "content", "message"),
    [
        (500, b'{"error": "out of memory"}', '500: {"error": "out of memory"}'),
        (404, b"{}", "--enable-scale-out"),
        (200, b"<html>", "is not a JSON object"),
    ],
)
def test_an_error_of_the_server_is_shown(
    remote: Backbone,
    server: SamplingServer,
    prompts: list[str],
    pixels: list,
    status: int,
    content: bytes,
    message: str,
) -> None:
    server.status, server.change = status, lambda answer: content
    with pytest.raises(UserError) as caught:
        roll(remote, prompts, pixels)
    assert message in str(caught.value)


def test_a_server_that_is_gone(backbone: Backbone, prompts: list[str], pixels: list) -> None:
    model = copy.copy(backbone)
    with sampling_server(backbone) as server:
        model.engine = Engine(EngineClient(server.url, "served", 5.0), Path("unused"), 2)
    with pytest.raises(UserError, match=r"does not answer .*rollouts"):
        roll(model, prompts, pixels)
    with pytest.raises(UserError, match="does not answer"):
        EngineClient(server.url, None, 5.0)


def test_another_name_or_too_short_a_length(
    remote: Backbone, server: SamplingServer, prompts: list[str], pixels: list
) -> None:
    with pytest.raises(UserError, match=r"serves \['served'\], not 'teacher'"):
        EngineClient(server.url, "teacher", 5.0)
    remote.engine.client.max_length = 12
    with pytest.raises(UserError, match=r"max_model_len of 12, but .* up to \d+ tokens"):
        roll(remote, prompts, pixels)
    assert not server.requests


def test_requests_are_json_that_vllm_reads(
    remote: Backbone, server: SamplingServer, prompts: list[str], pixels: list
) -> None:
    roll(remote, prompts, pixels)
    params = json.loads(json.dumps(server.requests[0]["sampling_params"]))
    assert params["logit_bias"] == {str(token): -100.0 for token in remote.chat.forbidden}
    assert params["stop_token_ids"] == [remote.chat.close_id] and params["ignore_eos"]

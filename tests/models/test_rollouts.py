"""Rollouts: seeds, temperature, forced closing, inverse transform sampling."""

import numpy as np
import pytest
import torch

from zreward_core.models.backbone import Backbone
from zreward_core.models.rollouts import Rollouts, closed_sequence, pick_tokens, sample_rollouts
from zreward_core.models.traces import trace_log_probs

QUERIES = [(0, 0), (1, 2), (3, 1), (1, 0), (2, 2)]
GROUP = 3


@pytest.fixture(scope="module")
def images(backbone: Backbone, images: list[np.ndarray]) -> list[torch.Tensor]:
    return [backbone.pixels.prepare(image) for image in images[:4]]


def roll(
    backbone: Backbone,
    prompts: list[str],
    images: list[torch.Tensor],
    queries: list,
    seeds: list,
    temperature: float = 1.0,
) -> Rollouts:
    return sample_rollouts(backbone, prompts[:4], images, queries, GROUP, 8, seeds, temperature)


@pytest.fixture(scope="module")
def rollouts(backbone: Backbone, prompts: list[str], images: list[torch.Tensor]) -> Rollouts:
    return roll(backbone, prompts, images, QUERIES, [11, 12, 13, 14, 15])


def test_traces_depend_only_on_their_seed(
    backbone: Backbone, prompts: list[str], images: list[torch.Tensor], rollouts: Rollouts
) -> None:
    alone = roll(backbone, prompts, images, [QUERIES[2]], [13])
    assert alone.tokens == rollouts.tokens[2 * GROUP : 3 * GROUP]
    other = roll(backbone, prompts, images, [QUERIES[2]], [14])
    assert other.tokens != alone.tokens


def test_traces_contain_no_forbidden_token_and_end_with_the_closing(
    backbone: Backbone, rollouts: Rollouts
) -> None:
    for trace, closed in zip(rollouts.tokens, rollouts.closed.tolist(), strict=True):
        assert not set(trace) & set(backbone.chat.forbidden)
        assert closed == (trace[-1] == backbone.chat.close_id)
        assert closed or len(trace) == 8
        assert backbone.chat.close_id not in trace[:-1]
        assert closed_sequence(backbone, trace)[-len(backbone.chat.closing) :] == (
            backbone.chat.closing
        )


@torch.no_grad()
@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_traces_are_sampled_at_the_temperature(
    backbone: Backbone, prompts: list[str], images: list[torch.Tensor], temperature: float
) -> None:
    """Each token inverts the tempered distribution, computed without a cache, at its uniform."""
    chat = backbone.chat
    rollouts = roll(backbone, prompts, images, [QUERIES[0]], [11], temperature)
    uniform = torch.rand(GROUP, 8, generator=torch.Generator().manual_seed(11))
    for g, trace in enumerate(rollouts.tokens):
        row = backbone.prefix(prompts[0], images[0]) + chat.questions[0]
        for t, token in enumerate(trace):
            logits = backbone.logits([row + trace[:t]], images[:1], [0], 1)[0, 0]
            logits[chat.forbidden] = -torch.inf
            cumulative = torch.softmax(logits / temperature, -1).cumsum(-1)
            below = cumulative[token - 1].item() if token else 0.0
            assert below - 1e-4 <= uniform[g, t].item() <= cumulative[token].item() + 1e-4


@torch.no_grad()
def test_low_temperature_approaches_greedy_decoding(
    backbone: Backbone, prompts: list[str], images: list[torch.Tensor], rollouts: Rollouts
) -> None:
    seeds = [11, 12, 13, 14, 15]
    cold = roll(backbone, prompts, images, QUERIES, seeds, 1e-4)
    greedy = roll(backbone, prompts, images, QUERIES, seeds, 0.0)
    assert cold.tokens == greedy.tokens != rollouts.tokens
    assert torch.equal(cold.answers, greedy.answers)


@torch.no_grad()
def test_trace_log_probs_are_at_the_temperature(
    backbone: Backbone, prompts: list[str], images: list[torch.Tensor], rollouts: Rollouts
) -> None:
    trace, temperature = rollouts.tokens[0], 0.5
    row = backbone.prefix(prompts[0], images[0]) + backbone.chat.questions[0]
    found = trace_log_probs(backbone, prompts[:1], images[:1], [0], [trace], temperature)
    for t, token in enumerate(trace):
        logits = backbone.logits([row + trace[:t]], images[:1], [0], 1)[0, 0]
        logits[backbone.chat.forbidden] = -torch.inf
        expected = torch.log_softmax(logits / temperature, -1)[token]
        assert found.log_probs_NT[0, t].item() == pytest.approx(expected.item(), abs=1e-4)


def test_pick_tokens_inverts_the_cumulative_distribution() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.3, 0.5]]))
    for uniform, token in [(0.1, 0), (0.3, 1), (0.49, 1), (0.51, 2), (0.99, 2)]:
        assert pick_tokens(logits, [], torch.tensor([uniform]), 1.0).item() == token
    assert pick_tokens(logits, [2], torch.tensor([0.99]), 1.0).item() == 1
    assert pick_tokens(logits, [2], torch.tensor([0.0]), 0.0).item() == 1

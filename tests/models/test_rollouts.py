"""Rollouts: forced closing, shared prefixes, forbidden tokens, seeds."""

import numpy as np
import pytest
import torch

from zreward_core.models.backbone import Backbone
from zreward_core.models.rollouts import Rollouts, closed_sequence, pick_tokens, sample_rollouts
from zreward_core.models.score_decoder import score_log_probs

QUERIES = [(0, 0), (1, 2), (3, 1), (1, 0), (2, 2)]
GROUP = 3


@pytest.fixture(scope="module")
def images(backbone: Backbone, images: list[np.ndarray]) -> list[torch.Tensor]:
    return [backbone.pixels.prepare(image) for image in images[:4]]


def roll(
    backbone: Backbone, prompts: list[str], images: list[torch.Tensor], queries: list, seeds: list
) -> Rollouts:
    return sample_rollouts(backbone, prompts[:4], images, queries, GROUP, 8, seeds)


@pytest.fixture(scope="module")
def rollouts(backbone: Backbone, prompts: list[str], images: list[torch.Tensor]) -> Rollouts:
    return roll(backbone, prompts, images, QUERIES, [11, 12, 13, 14, 15])


def test_score_equals_a_full_forward_over_the_closed_sequence(
    backbone: Backbone, prompts: list[str], images: list[torch.Tensor], rollouts: Rollouts
) -> None:
    rows = []
    shown = []
    for n, trace in enumerate(rollouts.tokens):
        image, dimension = QUERIES[n // GROUP]
        prefix = backbone.prefix(prompts[image], images[image])
        question = backbone.chat.questions[dimension]
        rows.append(prefix + question + closed_sequence(backbone, trace))
        shown.append(image)
    with torch.no_grad():
        logits = backbone.logits(rows, images, shown, 1)[:, 0]
    log_probs, mass = score_log_probs(logits, backbone.label_ids)
    assert torch.allclose(log_probs, rollouts.log_probs, atol=1e-4)
    assert torch.allclose(mass, rollouts.mass, atol=1e-5)


def test_traces_depend_on_their_seed_alone(
    backbone: Backbone, prompts: list[str], images: list[torch.Tensor], rollouts: Rollouts
) -> None:
    alone = roll(backbone, prompts, images, [QUERIES[2]], [13])
    assert alone.tokens == rollouts.tokens[2 * GROUP : 3 * GROUP]
    other = roll(backbone, prompts, images, [QUERIES[2]], [14])
    assert other.tokens != alone.tokens


def test_traces_hold_no_forbidden_token_and_end_as_told(
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


def test_pick_tokens_inverts_the_cumulative_distribution() -> None:
    logits = torch.log(torch.tensor([[0.2, 0.3, 0.5]]))
    for uniform, token in [(0.1, 0), (0.3, 1), (0.49, 1), (0.51, 2), (0.99, 2)]:
        assert pick_tokens(logits, [], torch.tensor([uniform]), 1.0).item() == token
    assert pick_tokens(logits, [2], torch.tensor([0.99]), 1.0).item() == 1
    assert pick_tokens(logits, [2], torch.tensor([0.0]), 0.0).item() == 1

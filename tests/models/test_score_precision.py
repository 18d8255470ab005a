"""Scores of models in half precision: the logits of the score tokens are not rounded."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from zreward_core import RewardModel
from zreward_core.models import score_decoder
from zreward_core.models.backbone import Backbone
from zreward_core.models.rollouts import sample_rollouts
from zreward_core.models.scorer import student_scores
from zreward_core.models.traces import trace_log_probs

TEXTS = ["a red circle", "stars"]


@pytest.fixture
def pixels(backbone: Backbone, images: list) -> list[torch.Tensor]:
    return [backbone.pixels.prepare(image) for image in images[:2]]


def lower(backbone: Backbone, dtype: torch.dtype, bias: bool) -> Backbone:
    """A copy with large logits, which are rounded most, in another dtype."""
    model = copy.deepcopy(backbone)
    head = model.network.model.lm_head
    if bias:
        replaced = torch.nn.Linear(head.in_features, head.out_features)
        replaced.weight, head = head.weight, replaced
        model.network.model.lm_head = head
    with torch.no_grad():
        head.weight.mul_(8)
    model.network.to(dtype)
    return model


@contextmanager
def last_hidden(model: Backbone) -> Iterator[list[torch.Tensor]]:
    """Hidden states of the calls of the head."""
    found: list[torch.Tensor] = []
    handle = model.network.model.lm_head.register_forward_pre_hook(
        lambda _, inputs: found.append(inputs[0].detach())
    )
    yield found
    handle.remove()


def expected(model: Backbone, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and mass of hidden states in float64; other logits as the head rounds."""
    head = model.network.model.lm_head
    logits = head(hidden).double()
    bias = None if head.bias is None else head.bias.double()
    exact = torch.nn.functional.linear(hidden.double(), head.weight.double(), bias)
    logits[..., model.label_ids] = exact[..., model.label_ids]
    chosen = logits[..., model.label_ids]
    return chosen.log_softmax(-1), logits.softmax(-1)[..., model.label_ids].sum(-1)


CASES = [(torch.bfloat16, False), (torch.bfloat16, True), (torch.float16, False)]


def close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return torch.allclose(found.double(), wanted, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "bias"), CASES)
def test_the_student_is_not_rounded(
    backbone: Backbone, pixels: list[torch.Tensor], dtype: torch.dtype, bias: bool
) -> None:
    model = lower(backbone, dtype, bias)
    with torch.no_grad(), last_hidden(model) as hidden:
        log_probs, mass = student_scores(model, TEXTS, pixels)
    wanted, masses = expected(model, hidden[0][:, list(model.chat.score_offsets)])
    assert close(log_probs, wanted) and close(mass, masses)
    reward = RewardModel(model)._rewards(TEXTS, torch.rand(2, 3, 48, 48))
    assert reward.dtype == torch.float32


@pytest.mark.parametrize(("dtype", "bias"), CASES)
def test_traces_are_not_rounded(
    backbone: Backbone, pixels: list[torch.Tensor], dtype: torch.dtype, bias: bool
) -> None:
    model = lower(backbone, dtype, bias)
    with torch.no_grad(), last_hidden(model) as hidden:
        found = trace_log_probs(model, TEXTS, pixels, [0, 2], [[40], [44, 45, 46]])
    wanted, masses = expected(model, hidden[0][:, -1])
    assert close(found.scores_NS, wanted) and close(found.mass_N, masses)


@pytest.mark.parametrize(("dtype", "bias"), CASES)
def test_rollouts_are_not_rounded(
    backbone: Backbone, pixels: list[torch.Tensor], dtype: torch.dtype, bias: bool
) -> None:
    model = lower(backbone, dtype, bias)
    with last_hidden(model) as hidden:
        found = sample_rollouts(model, TEXTS, pixels, [(0, 0)], 1, 4, [1])
    wanted, masses = expected(model, hidden[-1])
    assert close(found.log_probs, wanted) and close(found.mass, masses)


def test_training_under_autocast_is_not_rounded(
    backbone: Backbone, pixels: list[torch.Tensor]
) -> None:
    model = lower(backbone, torch.float32, bias=False)
    head = model.network.model.lm_head
    with torch.autocast("cpu", torch.bfloat16), last_hidden(model) as hidden:
        log_probs, _ = student_scores(model, TEXTS, pixels)
    assert head(hidden[0][:1, :1]).dtype == torch.float32
    exact = torch.nn.functional.linear(hidden[0].double(), head.weight.double())
    at = exact[:, list(model.chat.score_offsets)][..., model.label_ids]
    assert close(log_probs, at.log_softmax(-1))
    log_probs[..., 0].sum().backward()
    assert head.weight.grad is not None and head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_parts_of_the_positions_have_the_same_scores(
    backbone: Backbone,
    pixels: list[torch.Tensor],
    dtype: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = lower(backbone, dtype, bias=False)
    whole = student_scores(model, TEXTS, pixels)
    vocabulary = model.network.model.config.get_text_config().vocab_size
    monkeypatch.setattr(score_decoder, "CHUNK_LOGITS", 4 * vocabulary)
    parts = student_scores(model, TEXTS, pixels)
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_float32_models_read_the_logits_of_the_head(
    backbone: Backbone, pixels: list[torch.Tensor]
) -> None:
    """Their results keep their bytes."""
    with torch.no_grad(), last_hidden(backbone) as hidden:
        found, mass = student_scores(backbone, TEXTS, pixels)
    logits = backbone.network.model.lm_head(hidden[0])[:, list(backbone.chat.score_offsets)]
    chosen = logits[..., backbone.label_ids]
    assert torch.equal(found, chosen.log_softmax(-1))
    assert torch.equal(mass, (chosen.logsumexp(-1) - logits.logsumexp(-1)).exp())

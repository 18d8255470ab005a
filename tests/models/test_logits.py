"""Logits in parts: the same numbers and gradients as all at once, in a fraction of the memory."""

import copy

import pytest
import torch

from zreward_core.models import score_decoder
from zreward_core.models.backbone import Backbone
from zreward_core.models.scorer import student_scores
from zreward_core.models.traces import TraceLogProbs, trace_log_probs


@pytest.fixture
def pixels(backbone: Backbone, images: list) -> list[torch.Tensor]:
    return [backbone.pixels.prepare(image) for image in images[:2]]


def read_traces(backbone: Backbone, pixels: list[torch.Tensor]) -> TraceLogProbs:
    traces = [[40, 41, 42, 43], [44], [45, 46], [47, 48, backbone.chat.close_id]]
    answers = torch.tensor([40, *backbone.chat.label_ids[:3]])
    return trace_log_probs(
        backbone, ["a red circle", "stars"], pixels, [0, 2], traces, 0.7, answers
    )


def outcome(model: Backbone, pixels: list[torch.Tensor]) -> list[torch.Tensor]:
    """Log-probabilities, scores and masses by both ways in, and their gradients."""
    found = read_traces(model, pixels)
    scores, mass = student_scores(model, ["a red circle", "stars"], pixels)
    known = found.log_probs_NT[found.mask_NT]
    values = [known, found.scores_NS, found.mass_N, scores, mass]
    sum(value.square().sum() for value in values).backward()
    gradients = [p.grad for p in model.network.parameters() if p.grad is not None]
    return [value.detach() for value in values] + gradients


@pytest.mark.parametrize("positions", [1, 3, 5])
def test_parts_equal_the_whole(
    backbone: Backbone,
    pixels: list[torch.Tensor],
    positions: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = outcome(copy.deepcopy(backbone), pixels)
    vocabulary = backbone.network.model.config.get_text_config().vocab_size
    monkeypatch.setattr(score_decoder, "CHUNK_LOGITS", positions * 4 * vocabulary)
    largest = 0

    def watch(module: torch.nn.Module, inputs: object, logits: torch.Tensor) -> None:
        nonlocal largest
        largest = max(largest, logits.shape[1])

    model = copy.deepcopy(backbone)
    model.network.model.lm_head.register_forward_hook(watch)
    parts = outcome(model, pixels)
    assert largest == 2 * positions  # of two sequences of the student; four of the teacher
    assert len(parts) == len(plain) > 20
    for one, other in zip(parts, plain, strict=True):
        assert torch.allclose(one, other, atol=1e-5, rtol=1e-4)


def test_a_small_batch_is_computed_once(backbone: Backbone, pixels: list[torch.Tensor]) -> None:
    """The miniature's results keep their bytes, and no time is lost on a second forward."""
    model, calls = copy.deepcopy(backbone), []
    model.network.model.lm_head.register_forward_hook(lambda *_: calls.append(1))
    read_traces(model, pixels).scores_NS.sum().backward()
    assert len(calls) == 1

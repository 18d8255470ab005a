"""Prefixes in one forward: the same numbers and gradients as a forward of every whole row."""

import copy
import gc
import weakref

import pytest
import torch

from tests.models.test_families import family, pixels
from zreward_core.models import shared_prefix
from zreward_core.models.backbone import Backbone, LoraSettings
from zreward_core.models.traces import trace_log_probs

__all__ = ["family", "pixels"]
PROMPTS = ["a red circle at the top left", "stars"]
"""Of different lengths, as are the traces, so that both sides of the packing are padded."""


def outcome(model: Backbone, pixels: list[torch.Tensor], group: int) -> list[torch.Tensor]:
    close = model.chat.close_id
    traces = [[40, 41, 42, 43, 44], [45], [46, close], [47], [48, 49, 50], [51, 52, close]]
    traces = traces[: 2 * group]
    answers = torch.tensor([40] * len(traces))
    found = trace_log_probs(model, PROMPTS, pixels[:2], [0, 2], traces, 0.7, answers)
    values = [found.log_probs_NT[found.mask_NT], found.scores_NS, found.mass_N]
    weights = torch.linspace(0.5, 1.5, len(values[0]))
    (values[0] @ weights + found.scores_NS.square().sum() + found.mass_N.sum()).backward()
    gradients = [p.grad for p in model.network.parameters() if p.grad is not None]
    return [value.detach() for value in values] + gradients


@pytest.mark.parametrize("recomputed", [False, True])
def test_shared_prefixes_change_nothing(
    family: Backbone,
    pixels: list[torch.Tensor],
    recomputed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain, shared = copy.deepcopy(family), copy.deepcopy(family)
    for model in (plain, shared):
        lora = LoraSettings(rank=2, alpha=2) if recomputed else None
        model.train_mode(lora, gradient_checkpointing=recomputed, seed=5)
        with torch.no_grad():
            for parameter in model.trainable() if recomputed else ():
                parameter.add_(0.02)  # one half of an adapter starts at zero
    expected = outcome(plain, pixels, 3)
    tokens = []
    norm = shared.network.model.model.language_model.layers[0].input_layernorm
    norm.register_forward_hook(lambda _, inputs, __: tokens.append(inputs[0].shape[:2].numel()))
    monkeypatch.setattr(shared_prefix, "MIN_TOKENS", 1)
    found = outcome(shared, pixels, 3)
    prefixes = [len(shared.prefix(*pair)) for pair in zip(PROMPTS, pixels[:2], strict=True)]
    assert tokens[0] < 3 * sum(prefixes) and len(tokens) == 1 + recomputed
    assert len(found) == len(expected) > 20
    for one, other in zip(found, expected, strict=True):
        assert torch.allclose(one, other, atol=2e-5, rtol=1e-3), (one - other).abs().max()
    after = shared.prefix(PROMPTS[0], pixels[0]) + shared.chat.questions[0]
    with torch.no_grad():  # other forwards of the same model are as before
        logits = [model.logits([after], pixels[:1], [0], 1) for model in (plain, shared)]
    assert torch.equal(*logits)


def test_short_prefixes_and_single_rows_are_not_packed() -> None:
    """The miniature's results keep their bytes."""
    long, short = [1] * shared_prefix.MIN_TOKENS, [1] * (shared_prefix.MIN_TOKENS - 1)
    assert shared_prefix.pays([long, long], 4)
    assert not shared_prefix.pays([long, long], 2)
    assert not shared_prefix.pays([long, short], 4)


@pytest.mark.parametrize("recomputed", [False, True])
def test_the_weights_of_a_deleted_model_are_freed_at_once(
    family: Backbone,
    pixels: list[torch.Tensor],
    recomputed: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shared_prefix, "MIN_TOKENS", 1)
    model = copy.deepcopy(family)
    lora = LoraSettings(rank=2, alpha=2) if recomputed else None
    model.train_mode(lora, gradient_checkpointing=recomputed)
    outcome(model, pixels, 3)
    weights = [weakref.ref(parameter) for parameter in model.network.parameters()]
    gc.collect()
    gc.disable()
    try:
        del model
        assert sum(weight() is not None for weight in weights) == 0
    finally:
        gc.enable()


def test_a_copy_of_a_model_runs_its_own_weights(
    family: Backbone, pixels: list[torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared_prefix, "MIN_TOKENS", 1)
    model = copy.deepcopy(family)
    before = outcome(model, pixels, 3)
    changed = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in changed.network.parameters():
            parameter.zero_()
    model.network.zero_grad()
    assert all(map(torch.equal, before, outcome(model, pixels, 3)))
    assert not torch.equal(outcome(changed, pixels, 3)[0], before[0])

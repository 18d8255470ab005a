import copy

import pytest
import torch

from zreward_core.diffusion.sampling import encode_prompts, initial_latents, sample, velocity
from zreward_core.diffusion.tuning import (
    assign,
    choose_steps,
    close_weights,
    open_weights,
    swapped,
    update_average,
)

PROMPTS = ["a red circle at the top left"]


def _velocity(pipe, function=None):
    latents = initial_latents(pipe, [1], (16, 16))
    conditions = encode_prompts(pipe, PROMPTS, 1.0)
    compute = function or (lambda *arguments: velocity(pipe.transformer, *arguments))
    with torch.no_grad():
        return compute(latents, torch.tensor(500.0), conditions)


@pytest.mark.parametrize("rank", [None, 2])
def test_the_frozen_velocity_stays_when_the_weights_move(tiny_pipeline, rank):
    before = _velocity(tiny_pipeline)
    weights, frozen = open_weights(tiny_pipeline.transformer, rank, 2, seed=0)
    assert torch.equal(_velocity(tiny_pipeline), before)
    assign(weights, {name: weight + 0.05 for name, weight in weights.items()})
    assert not torch.allclose(_velocity(tiny_pipeline), before, atol=1e-4)
    assert torch.equal(_velocity(tiny_pipeline, frozen), before)
    assert all(weight.requires_grad for weight in weights.values())


def test_adapters_fold_into_a_plain_transformer(tiny_pipeline):
    names = set(tiny_pipeline.transformer.state_dict())
    weights, _ = open_weights(tiny_pipeline.transformer, 2, 2, seed=0)
    assert all("lora_" in name for name in weights)
    assign(weights, {name: weight + 0.05 for name, weight in weights.items()})
    settings = {"num_steps": 2, "guidance_scale": 0.0, "size": (16, 16)}
    adapted = sample(tiny_pipeline, PROMPTS, [1], **settings)
    close_weights(tiny_pipeline.transformer, 2)
    assert set(tiny_pipeline.transformer.state_dict()) == names
    folded = sample(tiny_pipeline, PROMPTS, [1], **settings)
    assert (adapted.int() - folded.int()).abs().max() <= 1


@pytest.mark.parametrize("rank", [None, 2])
def test_opening_and_closing_changes_no_bit(tiny_pipeline, rank):
    before = copy.deepcopy(tiny_pipeline.transformer.state_dict())
    open_weights(tiny_pipeline.transformer, rank, 2, seed=0)
    close_weights(tiny_pipeline.transformer, rank)
    after = tiny_pipeline.transformer.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_swapped_weights_come_back(tiny_pipeline):
    weights, _ = open_weights(tiny_pipeline.transformer, None, 1, seed=0)
    before = {name: weight.detach().clone() for name, weight in weights.items()}
    with swapped(weights, {name: torch.zeros_like(weight) for name, weight in weights.items()}):
        assert all(weight.abs().max() == 0 for weight in weights.values())
    assert all(torch.equal(weights[name], before[name]) for name in before)


def test_the_average_forgets_the_start_soon():
    weights = {"w": torch.nn.Parameter(torch.ones(1))}
    average = {"w": torch.zeros(1)}
    update_average(average, weights, decay=0.5, step=0)
    assert average["w"].item() == pytest.approx(0.9)  # decay (1 + 0) / (10 + 0)
    update_average(average, {"w": torch.nn.Parameter(torch.zeros(1))}, decay=0.5, step=100)
    assert average["w"].item() == pytest.approx(0.45)


def test_steps_with_gradients_are_drawn_from_the_window():
    generator = torch.Generator().manual_seed(0)
    drawn = {choose_steps(12, 2, 4, generator) for _ in range(100)}
    assert drawn == {(8, 9), (8, 10), (8, 11), (9, 10), (9, 11), (10, 11)}
    assert choose_steps(12, 3, 3, generator) == (9, 10, 11)
    assert choose_steps(2, 5, 8, generator) == (0, 1)

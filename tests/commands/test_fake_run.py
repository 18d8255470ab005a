"""Code on fake tensors: bytes, operations, and the values of small integer tensors."""

import pytest
import torch
from torch import nn

from zreward_core.commands.plan.fake_run import FakeRun


def linear(width: int) -> nn.Module:
    with torch.device("meta"):
        return nn.Linear(width, 4 * width, bias=False)


def test_bytes_of_weights_and_activations_are_counted() -> None:
    layer = linear(1_000_000)  # 16 TB
    with FakeRun() as run:
        assert run.weigh(layer) == 4 * 4 * 10**12
        run.reset()
        output = layer(torch.zeros(2, 1_000_000))
        assert run.peak == run.live == 2 * 5 * 10**6 * 4
        assert run.operations == 2 * 2 * 4 * 10**12
        del output
        assert run.live < run.peak


def test_gradients_and_the_peak_since_reset_are_counted() -> None:
    layer = linear(1000)
    with FakeRun() as run:
        size = run.weigh(layer)
        layer(torch.zeros(2, 1000)).sum().backward()
        assert run.live >= size
        run.reset()
        assert run.peak == run.live


def test_tied_weights_are_weighed_once() -> None:
    one, other = linear(10), linear(10)
    other.weight = one.weight
    with FakeRun() as run:
        assert run.weigh(nn.ModuleList([one, other])) == 4 * 400


def test_values_of_integers_are_known_and_others_are_1() -> None:
    with FakeRun():
        grid = torch.tensor([[1, 4, 6], [1, 2, 2]])
        grid[1] = torch.tensor([1, 8, 8])
        assert grid.prod(-1).tolist() == [24, 64]
        mask = torch.tensor([True, False, True])
        assert torch.zeros(3, 5)[mask].shape == (2, 5)
        assert torch.nonzero(mask).shape == (2, 1)
        assert torch.empty(1).item() == 1
        grid += torch.empty(3).long()
        assert grid.tolist() == [[1] * 3] * 2


def test_a_function_of_known_tensors_can_run_outside() -> None:
    with FakeRun() as run:
        found = run.really(lambda ids: torch.tensor([one.item() for one in ids]))(torch.arange(3))
        assert found.tolist() == [0, 1, 2]


def test_values_that_are_not_known_are_a_fault() -> None:
    with FakeRun(), pytest.raises(AssertionError, match="depends on the values"):
        torch.nonzero(torch.empty(5))

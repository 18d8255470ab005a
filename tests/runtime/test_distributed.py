"""Data parallelism in one process; two processes are in test_two_processes."""

import pytest
import torch

from zreward_core.runtime.distributed import (
    add_gradients,
    add_up,
    from_main,
    gather,
    own_part,
    part_of,
    precision,
)


@pytest.mark.parametrize(("count", "number"), [(0, 2), (1, 4), (7, 3), (16, 8), (5, 1)])
def test_parts_are_balanced_and_cover_the_batch(count: int, number: int) -> None:
    parts = [part_of(count, rank, number) for rank in range(number)]
    assert [i for part in parts for i in part] == list(range(count))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


def test_with_one_process_everything_is_an_identity() -> None:
    assert own_part(5) == range(5)
    sums = {"loss": 0.1 + 0.2}
    assert add_up(sums) is sums
    assert gather([1, 2]) == [1, 2] and from_main("key") == "key"
    weight, unused = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2))
    weight.square().sum().backward()
    add_gradients([weight, unused])
    assert weight.grad is not None and weight.grad.tolist() == [2.0, 2.0]
    assert unused.grad is None


def test_matrix_products_follow_mixed_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    def product() -> torch.dtype:
        with precision():
            return (torch.ones(2, 2) @ torch.ones(2, 2)).dtype

    assert product() == torch.float32
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    assert product() == torch.bfloat16
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert product() == torch.float32

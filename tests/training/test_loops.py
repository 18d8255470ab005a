"""Batches of an epoch and micro-batches of a batch."""

from zreward_core.training.supervised import epoch_batch
from zreward_core.training.updates import own_micro_batches


def test_an_epoch_sees_every_image_once() -> None:
    seen = [i for step in range(5) for i in epoch_batch(23, 4, seed=1, step=step)]
    assert len(seen) == len(set(seen)) == 20
    assert epoch_batch(23, 4, seed=1, step=5) != epoch_batch(23, 4, seed=1, step=0)
    assert epoch_batch(23, 4, seed=1, step=7) == epoch_batch(23, 4, seed=1, step=7)
    assert sorted(epoch_batch(3, 64, seed=1, step=9)) == [0, 1, 2]


def test_parts_cover_a_batch_once() -> None:
    assert [list(part) for part in own_micro_batches(5, 2)] == [[0, 1], [2, 3], [4]]
    assert list(own_micro_batches(0, 2)) == []

"""Images are prepared when they are taken or ahead, and few are kept."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.stages.training_root import tiny
from zreward_core.config import UserError
from zreward_core.images import ImageStore, encode_png, write_images
from zreward_core.training import images
from zreward_core.training.images import PreparedImages


@pytest.fixture
def stored(tmp_path: Path) -> tuple[list[str], ImageStore]:
    rng = np.random.default_rng(0)
    contents = [encode_png(rng.integers(0, 256, (32, 32, 3), np.uint8)) for _ in range(9)]
    return write_images(contents, tmp_path), ImageStore(tmp_path)


def test_images_are_those_of_the_pixel_path_and_few_are_kept(stored, monkeypatch) -> None:
    (ids, store), path = stored, tiny().pixels
    size = path.prepare(store.pixels(ids[0])).nbytes
    monkeypatch.setattr(images, "KEPT_BYTES", 3 * size)
    prepared = PreparedImages(path, store)
    for identifier in [*ids, *reversed(ids)]:
        assert torch.equal(prepared[identifier], path.prepare(store.pixels(identifier)))
        assert sum(one.nbytes for one in prepared._kept.values()) <= 3 * size
    assert list(prepared._kept) == ids[2::-1]
    several = prepared.several(ids[:4])
    assert len(several) == 4 and len(several[1:3]) == 2
    assert torch.equal(several[-1], prepared[ids[3]])


def test_images_ahead_are_bounded_and_used_once(stored, monkeypatch) -> None:
    (ids, store), path = stored, tiny().pixels
    monkeypatch.setattr(images, "AHEAD_BYTES", 3 * 4 * 1280 * 4)  # four of the largest images
    prepared = PreparedImages(path, store)
    prepared.prefetch(ids)
    assert list(prepared._ahead) == ids[:4]
    prepared.several(ids).prefetch([3, 6, 7])
    assert list(prepared._ahead) == [ids[2], ids[3], ids[6], ids[7]]
    ahead = prepared._ahead[ids[6]]
    assert prepared[ids[6]] is ahead.result()
    assert ids[6] not in prepared._ahead
    prepared.prefetch([ids[6]])
    assert ids[6] not in prepared._ahead


def test_an_error_ahead_is_raised_where_the_image_is_taken(stored) -> None:
    prepared = PreparedImages(tiny().pixels, stored[1])
    prepared.prefetch(["absent"])
    with pytest.raises(UserError, match="lack the image absent"):
        prepared["absent"]

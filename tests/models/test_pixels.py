"""The pixel path against transformers' own image processor."""

import numpy as np
import pytest
import torch

from zreward_core.models.backbone import Backbone

RESIZED_TOLERANCE = 0.03
"""Largest difference of a normalised value after resizing smooth images (uint8 rounding and
two implementations of antialiased bicubic)."""


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    channels = [np.sin(5 * x + 3 * y), np.cos(4 * y), np.sin(3 * x * y + 1)]
    return (127.5 * (1 + np.stack(channels, -1))).astype(np.uint8)


def test_equal_to_pil_processor_without_resizing(backbone: Backbone) -> None:
    image = smooth(32, 32)
    ours, grid = backbone.pixels.patches([backbone.pixels.prepare(image)])
    theirs = backbone.pixels.processor(images=[image], return_tensors="pt")
    assert grid.tolist() == theirs["image_grid_thw"].tolist()
    assert torch.allclose(ours, theirs["pixel_values"], atol=1e-5)


def test_close_to_pil_processor_with_resizing(backbone: Backbone) -> None:
    for size in [(64, 64), (48, 60), (60, 48), (50, 40)]:
        image = smooth(*size)
        ours, grid = backbone.pixels.patches([backbone.pixels.prepare(image)])
        theirs = backbone.pixels.processor(images=[image], return_tensors="pt")
        assert grid.tolist() == theirs["image_grid_thw"].tolist()
        assert (ours - theirs["pixel_values"]).abs().max() < RESIZED_TOLERANCE


def test_patches_of_mixed_sizes_keep_their_order(backbone: Backbone) -> None:
    images = [backbone.pixels.prepare(smooth(*size)) for size in [(32, 32), (48, 60), (32, 32)]]
    together, grid = backbone.pixels.patches(images)
    apart = torch.cat([backbone.pixels.patches([image])[0] for image in images])
    assert torch.equal(together, apart)
    assert grid.tolist() == [[1, 8, 8], [1, 8, 10], [1, 8, 8]]


@pytest.mark.parametrize("size", [(32, 32), (48, 60), (1414, 958), (20, 500)])
def test_num_tokens_counts_the_placeholders(backbone: Backbone, size: tuple[int, int]) -> None:
    # Resized once, 1414 x 958 is below the least size that resizing again would raise it to.
    image = backbone.pixels.prepare(np.zeros((*size, 3), dtype=np.uint8))
    _, grid = backbone.pixels.patches([image])
    assert backbone.pixels.num_tokens(*image.shape[-2:]) == int(grid.prod()) // 4
    if size == (48, 60):
        assert int(grid.prod()) // 4 == 20

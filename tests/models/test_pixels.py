"""The pixel path against transformers' image processor, and its limits."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models.conftest import PROMPT, SIZES
from zreward_core.config import UserError
from zreward_core.models.backbone import Backbone
from zreward_core.models.card import card
from zreward_core.models.loading import load_backbone
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import Rubric
from zreward_core.schemas import write_json

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


def num_image_tokens(backbone: Backbone) -> int:
    """Image tokens in the prefix of a 64 x 64 image."""
    image = backbone.pixels.prepare(smooth(64, 64))
    tokens = backbone.prefix("a", image)
    _, grid = backbone.pixels.patches([image])
    assert tokens.count(backbone.chat.image_token_id) == int(grid.prod()) // 4
    return tokens.count(backbone.chat.image_token_id)


def test_max_pixels_of_a_tiny_model(rubric: Rubric, tmp_path: Path) -> None:
    default = build_backbone(SIZES, ["a"], rubric, PROMPT, seed=0)
    larger = build_backbone(SIZES, ["a"], rubric, PROMPT, seed=0, max_pixels=48 * 48)
    assert (num_image_tokens(default), num_image_tokens(larger)) == (16, 36)
    larger.save(tmp_path / "model", {})
    assert num_image_tokens(load_backbone(tmp_path / "model")) == 36


def test_max_pixels_of_a_checkpoint(backbone: Backbone, rubric: Rubric, tmp_path: Path) -> None:
    backbone.save(tmp_path / "hub", {})
    pointer = tmp_path / "pointer"
    pointer.mkdir()

    def load(max_pixels: int | None) -> Backbone:
        content = card(rubric, PROMPT, None, {}) | {"max_pixels": max_pixels}
        write_json(content | {"hub_id": str(tmp_path / "hub")}, pointer / "zreward.json")
        return load_backbone(pointer)

    assert num_image_tokens(load(None)) == 16
    assert num_image_tokens(load(48 * 48)) == 36
    load(48 * 48).save(tmp_path / "trained", {})
    assert num_image_tokens(load_backbone(tmp_path / "trained")) == 36
    with pytest.raises(UserError, match="max_pixels 1000 is below 1024"):
        load(1000)


def test_patches_of_mixed_sizes_keep_their_order(backbone: Backbone) -> None:
    images = [backbone.pixels.prepare(smooth(*size)) for size in [(32, 32), (48, 60), (32, 32)]]
    together, grid = backbone.pixels.patches(images)
    apart = torch.cat([backbone.pixels.patches([image])[0] for image in images])
    assert torch.equal(together, apart)
    assert grid.tolist() == [[1, 8, 8], [1, 8, 10], [1, 8, 8]]


@pytest.mark.parametrize("size", [(32, 32), (48, 60), (1414, 958), (20, 500)])
def test_num_tokens_is_the_number_of_placeholders(
    backbone: Backbone, size: tuple[int, int]
) -> None:
    # After resizing, 1414 x 958 is below the lower limit: resizing again would enlarge it.
    image = backbone.pixels.prepare(np.zeros((*size, 3), dtype=np.uint8))
    _, grid = backbone.pixels.patches([image])
    assert backbone.pixels.num_tokens(*image.shape[-2:]) == int(grid.prod()) // 4
    if size == (48, 60):
        assert int(grid.prod()) // 4 == 20

"""Pairs are drawn with the scores and histograms of their own sides."""

import numpy as np
import torch

from tests.stages.training_root import drawn_pairs, tiny, trainable_root, training_root
from zreward_core.images import ImageStore
from zreward_core.stages import _training as shared

__all__ = ["trainable_root", "training_root"]


def test_each_side_has_the_image_score_and_histogram_of_its_item(training_root) -> None:
    backbone, store = tiny(), ImageStore(*shared.IMAGES)
    batch = drawn_pairs(backbone, 8)
    assert (batch.scores_P2[:, 0] > batch.scores_P2[:, 1]).all()
    items = shared.training_items()
    for side, (prompt, image, dimension) in enumerate(zip(*batch.inputs, strict=True)):
        name = backbone.rubric.names[dimension]
        rows = items[(items["prompt"] == prompt) & (items["dimension"] == name)]
        (row,) = (
            row
            for row in rows.itertuples()
            if torch.equal(backbone.pixels.prepare(store.pixels(row.image_id)), image)
        )
        assert batch.scores_P2.flatten()[side] == row.score
        assert np.allclose(batch.target_P2S.flatten(0, 1)[side], row.histogram)


def test_dimensions_are_drawn_equally_often(training_root) -> None:
    dimensions = drawn_pairs(tiny(), 6).dimensions
    assert sorted(dimensions) == [0] * 6 + [1] * 6

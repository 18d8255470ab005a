"""Student models with a compiled network."""

import copy
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from zreward_core import RewardModel
from zreward_core.models.backbone import Backbone

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def compiler() -> Iterator[None]:
    yield
    torch._dynamo.reset()


def test_a_compiled_network_scores_batches_of_several_sizes(
    backbone: Backbone, images: list[np.ndarray]
) -> None:
    """The sizes of batches become symbols in the second one; no index may need them as numbers."""
    model = RewardModel(copy.deepcopy(backbone))
    expected = {size: model.score(["red"] * size, images[:1] * size).mean for size in (1, 2, 3)}
    model.backbone.network.compile(backend="eager")  # traced as for any backend
    for size, means in expected.items():
        found = model.score(["red"] * size, images[:1] * size).mean
        assert torch.allclose(found, means, atol=1e-5), size

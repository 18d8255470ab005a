"""Prompts and images of any kind: finite scores, or a UserError."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.effort import tries
from tests.fuzz.images import MODES, pictures
from zreward_core import RewardModel
from zreward_core.config import UserError
from zreward_core.images import MAX_ASPECT
from zreward_core.models.tiny import SPECIAL, THINK, THINK_CLOSE

ANY_MODE = tuple(sorted({mode for modes in MODES.values() for mode in modes}))
SIDES = st.one_of(st.integers(0, 40), st.sampled_from([1, 199, 201, 600]))
PROMPTS = st.one_of(
    st.text(st.characters(categories=None), max_size=40),  # surrogates and control characters too
    st.lists(
        st.one_of(st.sampled_from([*SPECIAL, THINK, THINK_CLOSE]), st.text(max_size=6)), max_size=5
    ).map("".join),
    st.text(max_size=3).map(lambda text: text * 150),
)


@pytest.fixture(scope="module")
def model(student: Path) -> RewardModel:
    return RewardModel.from_pretrained(student)


def check(model: RewardModel, prompt: str, image: object) -> None:
    try:
        scores = model.score([prompt], [image])  # type: ignore[list-item]
    except UserError:
        return
    assert torch.isfinite(scores.probs).all() and torch.isfinite(scores.mass).all()
    assert torch.allclose(scores.probs.sum(-1), torch.ones(1, 2), atol=1e-5)
    assert ((scores.mean >= 1) & (scores.mean <= 3)).all() and torch.isfinite(scores.std).all()


@tries(120)
@given(PROMPTS)
@example("\ud800")
@example("")
@example("<|image_pad|>" * 3)
def test_prompts(model: RewardModel, prompt: str) -> None:
    check(model, prompt, np.zeros((9, 9, 3), dtype=np.uint8))


@tries(80)
@given(pictures(ANY_MODE, 40))
def test_images(model: RewardModel, image: Image.Image) -> None:
    check(model, "a red circle", image)


@tries(80)
@given(SIDES, SIDES)
@example(1, 1)
@example(MAX_ASPECT, 1)
@example(0, 5)
def test_sizes(model: RewardModel, height: int, width: int) -> None:
    check(model, "a red circle", np.full((height, width, 3), 7, dtype=np.uint8))

"""Limits of a request's cost, and batches of rows."""

import base64
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.tiny_models import PROMPT, SIZES
from zreward_core import RewardModel
from zreward_core.config import UserError
from zreward_core.images import encode_png
from zreward_core.models.requests import Limits, RequestScorer, RequestTooLarge
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import load_rubric

REPOSITORY = Path(__file__).parents[2]
RNG = np.random.default_rng(1)


def encoded(height: int, width: int) -> tuple[np.ndarray, str]:
    pixels = RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return pixels, base64.b64encode(encode_png(pixels)).decode()


PIXELS, IMAGE = encoded(32, 40)


@pytest.fixture(scope="module")
def model() -> RewardModel:
    rubric = load_rubric(REPOSITORY / "data/rubric.yaml")
    return RewardModel(build_backbone(SIZES, ["a red circle"], rubric, PROMPT, 0))


def test_rows_in_small_batches_have_the_scores_of_one(model: RewardModel) -> None:
    images = [encoded(32, 32 + 8 * index) for index in range(5)]
    prompts = ["a red circle " * (1 + index % 3) for index in range(5)]
    expected = model.score(prompts, [pixels for pixels, _ in images]).mean
    texts = [text for _, text in images]
    assert (
        RequestScorer(model).score(prompts, texts)
        == model.score(prompts, [pixels for pixels, _ in images]).rows()
    )
    scorer = RequestScorer(model, Limits(batch_tokens=150))
    found = scorer.score(prompts, texts)
    means = [[row[name]["mean"] for name in model.dimensions] for row in found]
    np.testing.assert_allclose(means, expected.numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("num_tokens", "batches"),
    [
        ([10, 10, 10], [(0, 3)]),
        ([10, 10, 60], [(0, 2), (2, 3)]),  # 3 x 60 with padding
        ([200, 10], [(0, 1), (1, 2)]),  # a row over the limit is a batch of its own
        ([1] * 130, [(0, 64), (64, 128), (128, 130)]),
    ],
)
def test_batches(model: RewardModel, num_tokens: list[int], batches: list[tuple[int, int]]) -> None:
    assert RequestScorer(model, Limits(batch_tokens=150))._batches(num_tokens) == batches


REFUSED: dict[str, tuple[Limits, Callable[[], tuple[list[object], list[object]]], str]] = {
    "rows": (Limits(rows=2), lambda: (["a"] * 3, [IMAGE] * 3), "3 rows"),
    "an image": (Limits(image_pixels=1279), lambda: (["a"], [IMAGE]), "40 x 32 is too large"),
    "images": (Limits(pixels=2 * 1280), lambda: (["a"] * 3, [IMAGE] * 3), "row 2: 3,840 pixels"),
    "tokens": (Limits(prompt_tokens=4), lambda: (["a a", "a a a"], [IMAGE] * 2), "row 1: "),
    "characters": (Limits(prompt_tokens=4), lambda: (["a" * 65], [IMAGE]), "row 0: 65 characters"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_limit_names_the_row(model: RewardModel, case: str) -> None:
    limits, request, reason = REFUSED[case]
    with pytest.raises(RequestTooLarge, match=reason):
        RequestScorer(model, limits).score(*request())


@pytest.mark.parametrize(
    ("prompt", "image", "reason"),
    [
        (5, IMAGE, "row 1: prompt must be a string"),
        ("\udc80", IMAGE, "row 1: .*is not Unicode text"),
        ("a", None, "row 1: image must be a string"),
        ("a", "", "row 1: image is empty"),
        ("a", "é", "row 1: image is not valid base64"),
        ("a", IMAGE[:400], "row 1: image is not a readable image"),
        ("a", encoded(1, 201)[1], "row 1: image: 201 x 1 is too narrow"),
    ],
)
def test_a_malformed_row_is_named(
    model: RewardModel, prompt: object, image: object, reason: str
) -> None:
    with pytest.raises(UserError, match=reason):
        RequestScorer(model).score(["a", prompt], [IMAGE, image])


def test_images_are_decoded_one_by_one(model: RewardModel) -> None:
    blank = encode_png(np.zeros((512, 512, 3), np.uint8))  # 768 kB decoded
    image = base64.b64encode(blank).decode()
    scorer = RequestScorer(model)
    tracemalloc.start()
    scorer.score(["a"] * 32, [image] * 32)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 512 * 512 * 3  # torch's memory is not traced

import numpy as np
import pytest

from zreward_core.config import UserError
from zreward_core.world.measures import oracle_figures, oracle_scores
from zreward_core.world.oracle import judge
from zreward_core.world.rendering import render
from zreward_core.world.scenes import ASPECTS, sample_scene

PROMPTS = ["a red circle at the top left", "two blue stars on the right"]


def _images() -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [render(sample_scene(prompt, rng, defects=())) for prompt in PROMPTS]


def test_scores_are_those_of_the_oracle_in_the_order_of_the_dimensions() -> None:
    images, dimensions = _images(), ["realism", "alignment"]
    expected = [
        [judge(image, prompt).scores[name] for name in dimensions]
        for image, prompt in zip(images, PROMPTS, strict=True)
    ]
    assert oracle_scores(images, PROMPTS, dimensions).tolist() == expected
    assert oracle_scores(images, PROMPTS).shape == (2, len(ASPECTS))


def test_unknown_dimensions_are_refused() -> None:
    with pytest.raises(UserError, match=r"does not score \['charm'\]"):
        oracle_scores(_images(), PROMPTS, ["charm"])


def test_clean_renders_are_correct_and_shuffled_prompts_are_not() -> None:
    clean = oracle_figures(_images(), PROMPTS)
    assert clean["shape_accuracy"] == clean["colour_accuracy"] == clean["empty_cell_accuracy"] == 1
    shuffled = oracle_figures(_images(), PROMPTS[::-1])
    assert shuffled["shape_accuracy"] == 0
    assert shuffled["alignment_score"] < clean["alignment_score"]

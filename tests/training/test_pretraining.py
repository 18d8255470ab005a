"""Pretraining sequences: what they contain in each phase, and their targets."""

import json

import numpy as np
import pytest

from tests.models.conftest import PROMPT, SIZES
from zreward_core.models.backbone import Backbone
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import Dimension, Rubric
from zreward_core.training.pretraining import (
    IGNORED,
    Curriculum,
    Example,
    describe,
    sample_sequence,
    vocabulary,
)
from zreward_core.world.inspection import inspect
from zreward_core.world.rendering import render
from zreward_core.world.scenes import sample_scene
from zreward_core.world.texts import GLANCE, VERDICTS, generic_score, trace_text

ASPECTS = ["alignment", "realism", "aesthetics", "plausibility"]


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    dimensions = [Dimension(name=n, title=n, question=n, levels={}) for n in ASPECTS]
    labels = [str(i) for i in range(1, 6)]
    rubric = Rubric(name="r", levels=[1, 2, 3, 4, 5], labels=labels, dimensions=dimensions)
    return build_backbone(SIZES, vocabulary(), rubric, PROMPT, seed=1)


@pytest.fixture(scope="module")
def example(backbone: Backbone) -> Example:
    prompt = "a red circle at the top left and a blue star at the bottom right"
    scene = sample_scene(prompt, np.random.default_rng(4))
    image = backbone.pixels.prepare(render(scene, (32, 32)))
    return Example(prompt, image, json.loads(json.dumps(inspect(scene))))


def target_text(backbone: Backbone, targets: list[int]) -> str:
    return backbone.tokenizer.decode([t for t in targets if t != IGNORED])


def test_each_target_is_the_next_token(backbone: Backbone, example: Example) -> None:
    curriculum = Curriculum(describe_share=0.0, at_once_share=0.0, turns=4)
    for seed in range(5):
        rng = np.random.default_rng(seed)
        tokens, targets = sample_sequence(backbone, example, curriculum, ASPECTS, 0.6, rng)
        tail = tokens[-len(targets) :]
        for here, target in enumerate(targets[:-1]):
            assert target in (IGNORED, tail[here + 1])
        assert targets[-1] == IGNORED


def test_first_phase_describes_images_without_their_prompt(
    backbone: Backbone, example: Example
) -> None:
    curriculum = Curriculum()
    rng = np.random.default_rng(0)
    tokens, targets = sample_sequence(backbone, example, curriculum, ASPECTS, 0.0, rng)
    assert (tokens, targets) == describe(backbone, example)
    assert "rate" not in backbone.tokenizer.decode(tokens)
    text = target_text(backbone, targets)
    assert text.startswith("topleft") and "noise" in text and "cast" in text


def test_care_varies_in_the_last_phase(backbone: Backbone, example: Example) -> None:
    curriculum = Curriculum(describe_share=0.0, at_once_share=0.0, turns=1)

    def glances(progress: float) -> int:
        found = 0
        for seed in range(40):
            rng = np.random.default_rng(seed)
            _, targets = sample_sequence(backbone, example, curriculum, ASPECTS, progress, rng)
            found += GLANCE in target_text(backbone, targets)
        return found

    assert glances(0.5) == 0
    assert 5 < glances(0.95) < 30


def test_scoring_at_once_gives_every_dimension_the_overall_impression(
    backbone: Backbone, example: Example
) -> None:
    curriculum = Curriculum(describe_share=0.0, at_once_share=1.0, score_noise=0.0)
    rng = np.random.default_rng(0)
    tokens, targets = sample_sequence(backbone, example, curriculum, ASPECTS, 0.9, rng)
    assert tokens[-len(targets) :] == backbone.chat.lines
    labels = [targets[offset] for offset in backbone.chat.score_offsets]
    impression = np.mean([generic_score(a, example.inspection[a]) for a in ASPECTS])
    assert impression not in {generic_score(a, example.inspection[a]) for a in ASPECTS}
    expected = [backbone.chat.label_ids[round(4 * impression)]] * len(ASPECTS)
    assert labels == expected
    assert sum(t != IGNORED for t in targets) == len(ASPECTS)


def test_a_thorough_trace_names_expected_and_seen_objects(example: Example) -> None:
    rng = np.random.default_rng(0)
    text = trace_text("alignment", example.inspection, "thorough", rng)
    cells = example.inspection["alignment"]
    judged = [f"{cell['expected']} {cell['seen']}" for cell in cells]
    assert all(f" {one} {cell['verdict']}" in text for one, cell in zip(judged, cells, strict=True))
    assert max(len(one.split()) for one in judged) <= 4, "a linear layer's convolution covers four"
    assert text.startswith("topleft red circle ")
    assert sum(word in VERDICTS for word in text.split()) == 4
    partial = trace_text("alignment", example.inspection, "partial", rng)
    assert sum(word in VERDICTS for word in partial.split()) == 2
    assert trace_text("realism", example.inspection, "glance", rng) == GLANCE

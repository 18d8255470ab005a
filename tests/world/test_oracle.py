"""The pixel oracle against the scenes of images; the seeds differ from those used to design it."""

from collections import Counter

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from zreward_core.world.inspection import verdicts
from zreward_core.world.oracle import FLAG, judge, judge_many
from zreward_core.world.prompts import parse_prompt, sample_prompts
from zreward_core.world.rendering import render
from zreward_core.world.scenes import (
    KINDS,
    Defect,
    Scene,
    alignment_defects,
    sample_scene,
    sample_size,
)
from zreward_core.world.silhouettes import NUM_VARIANTS

PROMPT = "two blue stars on the left and a red circle at the top right"
GRADED = ("noise", "blur", "washed", "cast", "broken", "melted")
PRICES = {
    "noise": (0.75, 1.75, 3.0),
    "blur": (1.0, 2.0, 3.5),
    "washed": (0.75, 1.75, 3.0),
    "cast": (1.0, 2.0, 3.25),
    "broken": (0.75, 1.25, 2.0),
    "melted": (0.5, 1.0, 1.5),
}


def _scenes(count: int, seed: int, aspect: str = "", kind: str = "", level: int = 0) -> list[Scene]:
    rng = np.random.default_rng([seed, level, len(kind)])
    scenes = []
    for prompt in sample_prompts(count, rng):
        expected = parse_prompt(prompt)
        assert expected is not None
        cells: tuple[int, ...] = ()
        variant = int(rng.integers(6))
        if aspect == "plausibility":
            cells = (int(rng.choice([cell for cell in range(4) if expected[cell]])),)
            variant %= NUM_VARIANTS[kind]
        defects: tuple[Defect, ...] = ()
        if aspect == "alignment":
            defects = alignment_defects(expected, level, rng)
        elif aspect:
            defects = (Defect(aspect, kind, level, cells, variant),)
        scenes.append(sample_scene(prompt, rng, defects=defects))
    return scenes


def _flags(severities: dict[str, float]) -> set[str]:
    return {kind for kind in GRADED if severities[kind] >= FLAG}


def test_clean_images_of_all_sizes_are_recognised() -> None:
    rng = np.random.default_rng(4242)
    scenes = _scenes(400, 4242)
    right = 0
    for scene in scenes:
        judgement = judge(render(scene, sample_size(rng)), scene.prompt)
        right += judgement.cells == scene.seen and not _flags(judgement.severities)
    assert right >= 0.99 * len(scenes)


@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize(
    ("aspect", "kind"), [(a, k) for a, kinds in KINDS.items() if a != "alignment" for k in kinds]
)
def test_graded_defects_are_detected(aspect: str, kind: str, level: int) -> None:
    rng = np.random.default_rng(7)
    scenes = _scenes(100, 9001, aspect, kind, level)
    found, false_alarms, points = 0, Counter[str](), []
    for scene in scenes:
        judgement = judge(render(scene, sample_size(rng)), scene.prompt)
        flags = _flags(judgement.severities)
        false_alarms.update(flags - {kind})
        points.append(5 - judgement.scores[aspect])
        if aspect == "plausibility":
            found += judgement.integrity[scene.defects[0].cells[0]] == kind
        else:
            found += kind in flags
    assert found >= 0.95 * len(scenes)
    assert all(count <= 0.05 * len(scenes) for count in false_alarms.values()), false_alarms
    assert abs(float(np.mean(points)) - PRICES[kind][level - 1]) < 0.4


@pytest.mark.parametrize("level", [1, 2, 3])
def test_alignment_verdicts_are_correct(level: int) -> None:
    rng = np.random.default_rng(8)
    right, total = Counter[str](), Counter[str]()
    for scene in _scenes(150, 9002, "alignment", "", level):
        judgement = judge(render(scene, sample_size(rng)), scene.prompt)
        for true, judged in zip(
            verdicts(scene.expected, scene.seen), judgement.verdicts, strict=True
        ):
            total[true] += 1
            right[true] += true == judged
        assert not _flags(judgement.severities)
    assert set(total) == {"fine", "recolored", "swapped", "missing", "extra"}
    assert all(right[kind] >= 0.95 * total[kind] for kind in total)


def test_defects_of_several_aspects_are_detected_together() -> None:
    rng = np.random.default_rng(11)
    found = Counter[str]()
    count = 60
    for prompt in sample_prompts(count, rng):
        expected = parse_prompt(prompt)
        assert expected is not None
        cell = next(cell for cell in range(4) if expected[cell])
        defects = (Defect("plausibility", "broken", 2, (cell,), 1), Defect("aesthetics", "cast", 2))
        defects += (Defect("realism", "noise", 1),)
        scene = sample_scene(prompt, rng, defects=defects)
        judgement = judge(render(scene), prompt)
        found.update(_flags(judgement.severities))
        found["cells"] += judgement.cells == scene.seen
    assert min(found[key] for key in ("broken", "cast", "noise", "cells")) >= 0.95 * count
    assert max(found[key] for key in ("melted", "washed", "blur")) <= 0.05 * count


def test_penalties_of_single_alignment_defects() -> None:
    rng = np.random.default_rng(0)
    for kind, cell, points in (
        ("missing", 0, 1.75),
        ("swapped", 1, 1.25),
        ("recolored", 2, 1.0),
        ("extra", 3, 0.75),
    ):
        defects = (Defect("alignment", kind, 1, (cell,)),)
        judgement = judge(render(sample_scene(PROMPT, rng, defects=defects)), PROMPT)
        assert judgement.scores["alignment"] == pytest.approx(5 - points, abs=0.1)
        assert judgement.scores["plausibility"] == pytest.approx(5, abs=0.1)


def test_scores_fall_steadily_as_an_image_degrades() -> None:
    scene = sample_scene(PROMPT, np.random.default_rng(0), defects=())
    clean = render(scene).astype(float)
    grain = np.random.default_rng(1).standard_normal(clean.shape)
    stains = gaussian_filter(grain, (1.5, 1.5, 0))
    stains *= 255 / stains.std()
    for aspect in ("realism", "plausibility"):
        scores = []
        for amount in np.linspace(0, 0.4, 9):
            if aspect == "realism":
                image = gaussian_filter(clean, (6 * amount, 6 * amount, 0))
            else:
                image = clean + amount * stains
            pixels = np.clip(image, 0, 255).astype(np.uint8)
            scores.append(judge(pixels, PROMPT).scores[aspect])
        assert scores[0] == pytest.approx(5, abs=0.1)
        assert scores[-1] < 2.5
        assert np.all(np.diff(scores) < 0.25)
        assert len({round(score, 2) for score in scores}) >= 5


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_an_empty_image_scores_lowest(shade: int) -> None:
    pixels = np.full((40, 90, 3), shade, dtype=np.uint8)
    judgement = judge(pixels, PROMPT)
    assert judgement.cells == (None,) * 4
    assert set(judgement.scores.values()) == {1.0}


def test_random_pixels_score_low_and_do_not_crash() -> None:
    rng = np.random.default_rng(0)
    for size in ((8, 8), (32, 32), (31, 97), (200, 64)):
        judgement = judge(rng.integers(0, 256, (*size, 3)).astype(np.uint8), PROMPT)
        assert judgement.scores["plausibility"] < 2.5
        assert judgement.scores["alignment"] < 2.5


def test_judge_many_equals_judge() -> None:
    scenes = _scenes(5, 3)
    images = [render(scene) for scene in scenes]
    prompts = [scene.prompt for scene in scenes]
    assert judge_many(images, prompts) == [
        judge(*pair) for pair in zip(images, prompts, strict=True)
    ]


def test_invalid_arguments_are_rejected() -> None:
    with pytest.raises(ValueError, match="prompts of the miniature world"):
        judge(np.zeros((32, 32, 3), dtype=np.uint8), "a cat")
    with pytest.raises(ValueError, match=r"\[H, W, 3\]"):
        judge(np.zeros((32, 32), dtype=np.uint8), PROMPT)

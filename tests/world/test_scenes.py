"""Prompts, scenes, rendering and inspections of the miniature world."""

import numpy as np
import pytest

from zreward_core.world.inspection import caption, inspect
from zreward_core.world.prompts import Thing, all_prompts, category, parse_prompt, sample_prompts
from zreward_core.world.rendering import render
from zreward_core.world.scenes import SIZES, Defect, alignment_defects, mixed_up, sample_scene
from zreward_core.world.sheet import contact_sheet

PROMPT = "two blue stars on the left and a red circle at the top right"


def test_every_prompt_describes_a_different_image() -> None:
    prompts = all_prompts()
    cells = [parse_prompt(prompt) for prompt in prompts]
    assert None not in cells
    assert len(set(cells)) == len(prompts) > 10_000
    assert max(len(prompt.split()) for prompt in prompts) <= 16
    assert all(prompt.replace(" ", "").isalpha() and prompt.islower() for prompt in prompts)


def test_parse_prompt_supports_every_kind_of_group() -> None:
    star, circle = Thing("blue", "star"), Thing("red", "circle")
    assert parse_prompt(PROMPT) == (star, circle, star, None)
    assert parse_prompt("  Three BLUE stars and a red circle at the bottom left ") == (
        star,
        star,
        circle,
        star,
    )
    assert parse_prompt("four red circles") == (circle,) * 4


@pytest.mark.parametrize(
    ("first", "words", "cells"),
    [
        ("top left", "to the right of", (0, 1)),
        ("top left", "below", (0, 2)),
        ("bottom right", "above", (3, 1)),
        ("bottom right", "to the left of", (3, 2)),
    ],
)
def test_a_relation_determines_the_cell_of_the_other_object(
    first: str, words: str, cells: tuple[int, int]
) -> None:
    seen = parse_prompt(f"a blue star at the {first} with a red circle {words} it")
    assert seen is not None
    assert {cell for cell in range(4) if seen[cell]} == set(cells)
    assert seen[cells[0]] == Thing("blue", "star")
    assert seen[cells[1]] == Thing("red", "circle")


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a red circle at the top left", "single"),
        ("a red circle at the top left and a blue star at the bottom right", "two objects"),
        ("A red circle at the top left with a blue star  below it", "relation"),
        ("three red circles and a blue star at the top left", "counting"),
        ("two red circles at the top", "counting"),
    ],
)
def test_prompts_have_the_categories_of_geneval(prompt: str, name: str) -> None:
    assert parse_prompt(prompt) is not None
    assert category(prompt) == name


def test_exchanging_or_moving_objects_is_one_defect_of_two_cells() -> None:
    rng = np.random.default_rng(5)
    star, circle = Thing("blue", "star"), Thing("red", "circle")
    (exchanged,) = mixed_up(parse_prompt(PROMPT), "exchanged", rng)
    seen = sample_scene(PROMPT, rng, defects=(exchanged,)).seen
    assert exchanged.cells in ((0, 1), (1, 2))
    assert seen[1] == Thing("blue", "circle")
    assert sorted(map(str, seen)) == sorted(
        map(str, [Thing("blue", "circle"), Thing("red", "star"), star, None])
    )
    (moved,) = mixed_up(parse_prompt(PROMPT), "moved", rng)
    seen = sample_scene(PROMPT, rng, defects=(moved,)).seen
    assert moved.cells[1] == 3
    assert seen[moved.cells[0]] is None
    assert seen[3] in (star, circle)
    of_one_colour = "a red star at the top left and a red circle at the bottom right"
    (places,) = mixed_up(parse_prompt(of_one_colour), "exchanged", rng)
    assert sample_scene(of_one_colour, rng, defects=(places,)).seen == (
        circle,
        None,
        None,
        Thing("red", "star"),
    )
    assert mixed_up(parse_prompt("four red circles"), "exchanged", rng) == ()
    assert mixed_up(parse_prompt("four red circles"), "moved", rng) == ()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a cat",
        "a red circles at the top left",
        "two red circle on the left",
        "three red circles",
        "a red circle on the left",
        "a red circle at the top left and a blue star at the top left",
        "four red circles and a blue star at the top left",
        "a red circle at the top left with a blue star above it",
        "a red circle with a blue star below it",
        "two red circles at the top with a blue star below it",
    ],
)
def test_parse_prompt_rejects_other_texts(text: str) -> None:
    assert parse_prompt(text) is None


def test_sample_prompts_is_unique_and_rejects_too_many() -> None:
    prompts = sample_prompts(500, np.random.default_rng(0))
    assert len(set(prompts)) == 500
    with pytest.raises(ValueError, match=r"lower the numbers"):
        sample_prompts(10**6, np.random.default_rng(0))


def test_rendering_is_deterministic_and_has_the_requested_size() -> None:
    scene = sample_scene(PROMPT, np.random.default_rng(3))
    assert scene == sample_scene(PROMPT, np.random.default_rng(3))
    for width, height in SIZES:
        pixels = render(scene, (width, height))
        assert pixels.shape == (height, width, 3)
        assert pixels.dtype == np.uint8
        np.testing.assert_array_equal(pixels, render(scene, (width, height)))


def test_a_clean_background_is_neutral() -> None:
    pixels = render(sample_scene(PROMPT, np.random.default_rng(0), defects=()))
    corner = pixels[-4:, -4:].astype(int)
    assert np.ptp(corner, axis=2).max() <= 4
    assert corner.min() > 190


@pytest.mark.parametrize("kind", ["noise", "blur", "washed", "cast"])
def test_higher_levels_change_the_image_more(kind: str) -> None:
    aspect = "realism" if kind in ("noise", "blur") else "aesthetics"
    clean = render(sample_scene(PROMPT, np.random.default_rng(0), defects=())).astype(float)
    changes = []
    for level in (1, 2, 3):
        scene = sample_scene(
            PROMPT, np.random.default_rng(0), defects=(Defect(aspect, kind, level),)
        )
        changes.append(np.abs(render(scene) - clean).mean())
    assert changes[0] > 1
    assert changes[1] > 1.3 * changes[0]
    assert changes[2] > 1.3 * changes[1]


def test_inspection_reports_the_defects_of_the_scene() -> None:
    defects = (
        Defect("alignment", "missing", 2, (0,)),
        Defect("alignment", "extra", 2, (3,)),
        Defect("realism", "noise", 2),
        Defect("plausibility", "broken", 3, (1,)),
    )
    scene = sample_scene(PROMPT, np.random.default_rng(0), defects=defects)
    report = inspect(scene)
    assert [row["verdict"] for row in report["alignment"]] == ["missing", "fine", "fine", "extra"]
    assert report["realism"] == {"noise": "clear", "blur": "none"}
    assert report["aesthetics"] == {"washed": "none", "cast": "none"}
    assert report["plausibility"][0] == {
        "place": "top right",
        "object": "red circle",
        "verdict": "broken",
        "severity": "strong",
    }
    assert caption(scene).startswith("top left nothing, top right red circle, bottom left blue")


def test_an_object_always_remains_visible() -> None:
    rng = np.random.default_rng(0)
    for prompt in sample_prompts(300, rng):
        expected = parse_prompt(prompt)
        assert expected is not None
        defects = alignment_defects(expected, 3, rng)
        assert any(sample_scene(prompt, rng, defects=defects).seen)
        assert all(defect.level == len(defects) == 3 for defect in defects)


def test_a_defect_that_does_not_fit_is_rejected() -> None:
    with pytest.raises(ValueError, match="empty"):
        sample_scene(
            PROMPT, np.random.default_rng(0), defects=(Defect("alignment", "missing", 1, (3,)),)
        )
    with pytest.raises(ValueError, match="not a prompt"):
        sample_scene("a cat", np.random.default_rng(0))


def test_contact_sheet_is_deterministic() -> None:
    first, second = contact_sheet(1), contact_sheet(1)
    assert first.tobytes() == second.tobytes()

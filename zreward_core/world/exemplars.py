"""Images of the miniature with descriptions of their faults, for calibrating annotators."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from zreward_core.schemas import normalise_prompt
from zreward_core.world.inspection import inspect
from zreward_core.world.oracle import judge
from zreward_core.world.prompts import all_prompts
from zreward_core.world.rendering import render
from zreward_core.world.scenes import ASPECTS, sample_scene, sample_size

SINGLE_SHARE = 0.65
"""Share of images with faults of one aspect only, the clearest examples; the others have two."""
SURE = 4.75
"""A lower score without a fault means that an object is hard to see."""
WORDS = {"noise": "grain", "blur": "blur", "washed": "washed out", "cast": "colour cast"}


@dataclass(frozen=True)
class Sample:
    """One rendered image."""

    prompt: str
    pixels: np.ndarray
    """[H, W, 3] uint8."""
    scores: dict[str, float]
    """The pixel oracle's score of each aspect."""
    remarks: dict[str, str]
    """Description of the faults, by aspect."""


def sample_exemplars(seed: int, avoid: set[str]) -> Iterator[Sample]:
    """Endless random images.

    Args:
        seed: of everything random.
        avoid: normalised prompts to exclude: those that annotators rate.
    """
    prompts = [prompt for prompt in all_prompts() if normalise_prompt(prompt) not in avoid]
    rng = np.random.default_rng([seed, 11])
    while prompts:
        prompt = prompts[rng.integers(len(prompts))]
        faulty = rng.permutation(ASPECTS)[: 1 if rng.random() < SINGLE_SHARE else 2]
        every = sample_scene(prompt, rng, clean_share=0.0).defects
        defects = tuple(defect for defect in every if defect.aspect in faulty)
        scene = sample_scene(prompt, rng, defects=defects)
        pixels = render(scene, sample_size(rng))
        scores, found = judge(pixels, prompt).scores, inspect(scene)
        remarks = {aspect: _remark(aspect, found[aspect], scores[aspect]) for aspect in ASPECTS}
        yield Sample(prompt, pixels, scores, remarks)


def _remark(aspect: str, found: Any, score: float) -> str:
    return _faults(aspect, found) or ("nothing wrong" if score >= SURE else "hard to make out")


def _faults(aspect: str, found: Any) -> str:
    if aspect == "alignment":
        wrong = [one for one in found if one["verdict"] != "fine"]
        return "; ".join(f"{_shown(one)} at the {one['place']}" for one in wrong)
    if aspect == "plausibility":
        wrong = [one for one in found if one["verdict"] != "whole"]
        return "; ".join(f"{one['object']} {one['severity']}ly {one['verdict']}" for one in wrong)
    return "; ".join(f"{word} {WORDS[kind]}" for kind, word in found.items() if word != "none")


def _shown(one: dict[str, str]) -> str:
    if one["expected"] == "nothing":
        return f"{one['seen']} too many"
    if one["seen"] == "nothing":
        return f"{one['expected']} missing"
    return f"{one['seen']} instead of {one['expected']}"

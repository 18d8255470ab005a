"""Figures of reward tuning: images before and after, watched scores, training curves.

Shapes: N prompts, H x W pixels.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from zreward_core.evaluation.image_sheets import BeforeAfter, plot_before_after, plot_grid
from zreward_core.evaluation.plots import plot_curves, plot_dimensions

NUM_SHOWN = 12
"""Pairs on the contact sheet."""
MAX_STEPS = 8
"""Rows of the sheet of samples by step."""
JUDGES = {
    "reward": "reward (trained on)",
    "panel": "panel (never trained on)",
    "oracle": "pixel oracle",
}
CURVES = {
    "tune/reward": "reward of training samples\n(points)",
    "tune/velocity_distance": "mean squared distance\nfrom the base's velocity",
    "tune/gradient_norm": "gradient norm\nbefore clipping",
}


def plot_tuned_samples(
    prompts: Sequence[str],
    images: Sequence[Iterable[np.ndarray]],
    rewards: tuple[np.ndarray, np.ndarray],
    path: Path,
) -> None:
    """Contact sheet of samples before and after tuning with their rewards.

    Args:
        prompts: N prompts.
        images: before and after, N each, [H, W, 3] uint8; the first ``NUM_SHOWN`` are taken.
        rewards: before and after, [N] means over the dimensions.
        path: of the PNG.
    """
    rows = islice(zip(prompts, *images, *rewards, strict=True), NUM_SHOWN)
    pairs = [
        BeforeAfter(prompt, before, after, f"reward {old:.2f} → {new:.2f}")
        for prompt, before, after, old, new in rows
    ]
    title = "Before and after tuning: same prompt, same seed, reward in points"
    plot_before_after(pairs, title, path)


def plot_samples_by_step(
    samples: Mapping[int, np.ndarray], prompts: Sequence[str], path: Path
) -> None:
    """Samples of the same prompts and seeds during tuning, or nothing if there are none.

    Args:
        samples: step to [N, H, W, 3] uint8; up to ``MAX_STEPS`` steps are shown, a row each.
        prompts: at least N prompts.
        path: of the PNG.
    """
    if not samples:
        return
    every = -(-len(samples) // MAX_STEPS)
    shown = dict(list(samples.items())[::-1][::every][::-1])  # with the last step
    plot_grid(
        {f"step {step}": images for step, images in shown.items()},
        prompts,
        "Samples of watched prompts, the same seeds at each step",
        path,
    )


def plot_tuning(
    history: Sequence[Mapping[str, float]], dimensions: Sequence[str], folder: Path
) -> None:
    """Write validation.png and curves.png, or nothing if the history is empty."""
    if not history:
        return
    present = {name: title for name, title in JUDGES.items() if f"{name}/mean" in history[0]}
    title, path = "Scores on watched prompts", folder / "validation.png"
    plot_dimensions(history, present, dimensions, title, path)
    plot_curves(history, CURVES, "Reward back-propagation", folder / "curves.png")

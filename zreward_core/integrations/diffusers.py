"""diffusers: a verifier for best-of-n generation, and the generation itself."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from zreward_core.arguments import whole_number
from zreward_core.config import UserError
from zreward_core.integrations.rewards import open_reward


def verifier(
    source: str,
    dimension: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> Callable[[Any, str], float]:
    """``f(frames, prompt)``, the score of an image, or the mean over the frames of a video.

    Args:
        source: folder, models:/ URI or hub id of a student.
        dimension: whose mean is the score; overall if None.
        device, dtype: of the student.
    """
    reward = open_reward(source, dimension, device, dtype)

    def verify(frames: Any, prompt: str) -> float:
        images = list(frames) if _are_several(frames) else [frames]
        if not images:
            raise UserError("there are no frames to score")
        values = reward([prompt] * len(images), images)
        return sum(values) / len(values)

    return verify


def best_of_n(
    pipeline: Callable[..., Any],
    prompt: str,
    seeds: Iterable[int],
    verify: Callable[[Any, str], float],
    **arguments: Any,
) -> tuple[Any, list[tuple[int, float]]]:
    """Generate an image for each seed.

    Args:
        pipeline: of diffusers.
        prompt: of all images.
        seeds: of the generators.
        verify: scores an image for its prompt.
        arguments: of the pipeline.

    Returns:
        The image with the highest score, and seed and score of all, best first.
    """
    import torch

    found = []
    for seed in seeds:
        seed = whole_number("a seed", seed, least=0)
        generator = torch.Generator().manual_seed(seed)
        images = pipeline(prompt=prompt, generator=generator, **arguments).images
        if len(images) != 1:
            raise UserError(f"the pipeline made {len(images)} images of a seed: pass more seeds")
        image = images[0]
        found.append((verify(image, prompt), seed, image))
    if not found:
        raise UserError("there are no seeds: pass at least one")
    found.sort(key=lambda one: (-one[0], one[1]))
    return found[0][2], [(seed, score) for score, seed, _ in found]


def _are_several(frames: Any) -> bool:
    if isinstance(frames, str | bytes):  # a path, or the content of a file
        return False
    return isinstance(frames, Sequence) or getattr(frames, "ndim", 0) == 4

"""How much a run has to do, from the params, the rubric and the prompt files that are there."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zreward_core.images.shards import SHARD_ROWS
from zreward_core.rubric import Rubric
from zreward_core.schemas import read_json

ASSUMED = {
    "annotation": 3_000,
    "unlabelled": 44_000,
    "generator_train": 2_000,
    "generator_eval": 400,
}
"""Prompts of a file that is not there yet."""
BYTES_PER_PIXEL = 1.6
"""Of a photograph as PNG."""
BYTES_PER_TOKEN = 2.2
"""Of a trace in a compressed Parquet file."""


@dataclass(frozen=True)
class Counts:
    """Prompts, images and judgements."""

    prompts: Mapping[str, int]
    """By purpose."""
    images: Mapping[str, int]
    """By purpose: annotation and unlabelled."""
    test_images: int
    judgements: int
    """Ratings by people, of one image in one dimension each."""
    num_dimensions: int
    size: tuple[int, int]
    """(width, height) of the largest generated images."""
    assumed: tuple[str, ...]
    """Prompt files that are not there."""

    @property
    def image_bytes(self) -> float:
        """Of one image as PNG."""
        return BYTES_PER_PIXEL * self.size[0] * self.size[1]


def count(configs: Mapping[str, Any], rubric: Rubric) -> Counts:
    """Count what the configs of the stages ask for.

    Raises:
        UserError: a prompt file cannot be read.
    """
    read_prompts = importlib.import_module("zreward_core.stages.candidates").read_prompts
    candidates, assumed = configs["candidates"], list[str]()
    prompts = dict.fromkeys(ASSUMED, 0)
    for purpose, files in candidates.prompt_files.items():
        for path in files:
            if path.is_file():
                prompts[purpose] += len(read_prompts(path))
            else:
                prompts[purpose] += ASSUMED.get(purpose, 0)
                assumed.append(str(path))
    images = {}
    for purpose in ("annotation", "unlabelled"):
        copies = sum(getattr(one, purpose) for one in candidates.generators)
        listed = [one.path / "prompts.json" for one in candidates.folders if one.purpose == purpose]
        found = sum(len(read_json(path)) for path in listed if path.is_file())
        images[purpose] = prompts[purpose] * copies + found
    splits, overlap = configs["annotate"].splits, configs["annotate"].overlap
    test = 1 - splits.train - splits.validation
    raters = splits.train * overlap.train + splits.validation * overlap.validation
    raters += test * overlap.test
    sizes = [one.size for one in candidates.generators] or [configs["finetune_generator"].size]
    return Counts(
        prompts=prompts,
        images=images,
        test_images=round(images["annotation"] * test),
        judgements=round(images["annotation"] * raters * len(rubric.dimensions)),
        num_dimensions=len(rubric.dimensions),
        size=max(sizes, key=lambda size: size[0] * size[1]),
        assumed=tuple(assumed),
    )


def shards(images: int) -> int:
    """Files in which images are stored."""
    return -(-images // SHARD_ROWS)

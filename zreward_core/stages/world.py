"""world: params -> prompts by purpose, rendered images, inspections for pretraining."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from zreward_core.config import Count, CountOrZero, Share, StageConfig, UserError
from zreward_core.images import encode_png, write_images
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import track
from zreward_core.schemas import PROMPTS, PURPOSES, RENDERED_IMAGES, prompt_id, write_table
from zreward_core.world.inspection import INSPECTIONS, inspection_row
from zreward_core.world.prompts import sample_prompts
from zreward_core.world.rendering import render
from zreward_core.world.scenes import Scene, sample_scene, sample_size
from zreward_core.world.sheet import contact_sheet

logger = logging.getLogger(__name__)
OUTPUT = Path("data/world")
_GROUPS = ("pretraining", "held_out", "annotation", "unlabelled")
_PRETRAINING = ("pretraining", "held_out")


class Config(StageConfig):
    """Size of the miniature world."""

    size: CountOrZero = 0
    """Pretraining images; 0 writes empty tables, for projects with their own models and images."""
    held_out: CountOrZero = 1000
    """Additional images of other prompts, on which the base models are evaluated."""
    pretraining_prompts: Count = 6000
    """Prompts of the pretraining images."""
    held_out_prompts: Count = 500
    """Prompts of the held-out pretraining images."""
    annotation_prompts: CountOrZero = 400
    """Prompts whose images are annotated."""
    unlabelled_prompts: CountOrZero = 1500
    """Prompts whose images the teacher labels."""
    generator_train_prompts: CountOrZero = 600
    """Prompts on which the generator is tuned."""
    generator_eval_prompts: CountOrZero = 200
    """Prompts on which the generators are compared."""
    annotation_images: CountOrZero = 3
    """Rendered images for each annotation prompt."""
    unlabelled_images: CountOrZero = 3
    """Rendered images for each unlabelled prompt."""
    clean_share: Share = 0.4
    """Share of pretraining images without a defect, independently for each aspect."""
    rated_clean_share: Share = 0.25
    """The same for annotation and unlabelled images, whose scores should cover the scale."""
    spotless_share: Share = 0.1
    """Share of pretraining images without any defect, applied before ``clean_share``."""


def run(config: Config) -> None:
    """Write prompts.parquet, rendered.parquet, inspections.parquet, images/, contact_sheet.png.

    Raises:
        UserError: more prompts are requested than the world has.
    """
    prompts = deal_prompts(config)
    with whole_output(OUTPUT, config) as folder:
        write_table(_prompt_rows(prompts), folder / "prompts.parquet", PROMPTS)
        images: list[dict] = []
        inspections: list[dict] = []

        def contents() -> Iterator[bytes]:
            for purpose, held_out, scene, size in track(
                scenes(config, prompts), "world", _num_images(config)
            ):
                images.append({"prompt": scene.prompt, "purpose": purpose})
                if purpose == "pretraining":
                    inspections.append(inspection_row(scene, held_out))
                yield encode_png(render(scene, size))

        identifiers = write_images(contents(), folder / "images")
        table = pd.DataFrame(images, columns=["prompt", "purpose"])
        table["image_id"] = identifiers
        table["prompt_id"] = table["prompt"].map(prompt_id)
        write_table(table, folder / "rendered.parquet", RENDERED_IMAGES)
        inspected = pd.DataFrame(inspections, columns=INSPECTIONS.names)
        # Pretraining images come first.
        inspected["image_id"] = identifiers[: len(inspected)]
        write_table(inspected, folder / "inspections.parquet", INSPECTIONS)
        contact_sheet(config.seed).save(folder / "contact_sheet.png")
    logger.info("%d images in %s", len(images), OUTPUT)


def deal_prompts(config: Config) -> dict[str, list[str]]:
    """Disjoint prompts of each purpose, and of ``held_out``.

    Raises:
        UserError: more prompts are requested than the world has.
    """
    counts = {
        "generator_eval": config.generator_eval_prompts,
        "annotation": config.annotation_prompts,
        "generator_train": config.generator_train_prompts,
        "unlabelled": config.unlabelled_prompts,
        "held_out": config.held_out_prompts,
        "pretraining": config.pretraining_prompts,
    }
    if not config.size:
        return {purpose: [] for purpose in counts}
    try:
        prompts = sample_prompts(sum(counts.values()), np.random.default_rng(config.seed))
    except ValueError as error:
        raise UserError(str(error)) from None
    dealt = {}
    for purpose, count in counts.items():
        dealt[purpose], prompts = prompts[:count], prompts[count:]
    return dealt


def scenes(
    config: Config, prompts: dict[str, list[str]]
) -> Iterator[tuple[str, bool, Scene, tuple[int, int]]]:
    """Purpose, whether held out, scene and size of every image; pretraining images first."""
    for group, count in _images_by_group(config).items():
        for index in range(count):
            rng = np.random.default_rng([config.seed, _GROUPS.index(group), index])
            prompt = prompts[group][index % len(prompts[group])]
            if group in _PRETRAINING:
                purpose = "pretraining"
                spotless = rng.random() < config.spotless_share
                clean_share = 1.0 if spotless else config.clean_share
            else:
                purpose, clean_share = group, config.rated_clean_share
            scene = sample_scene(prompt, rng, clean_share)
            yield purpose, group == "held_out", scene, sample_size(rng)


def _images_by_group(config: Config) -> dict[str, int]:
    if not config.size:
        return {}
    return {
        "pretraining": config.size,
        "held_out": config.held_out,
        "annotation": config.annotation_prompts * config.annotation_images,
        "unlabelled": config.unlabelled_prompts * config.unlabelled_images,
    }


def _num_images(config: Config) -> int:
    return sum(_images_by_group(config).values())


def _prompt_rows(prompts: dict[str, list[str]]) -> pd.DataFrame:
    rows = [
        (prompt_id(prompt), prompt, purpose)
        for purpose in PURPOSES
        for group in (_PRETRAINING if purpose == "pretraining" else (purpose,))
        for prompt in prompts[group]
    ]
    return pd.DataFrame(rows, columns=PROMPTS.names)

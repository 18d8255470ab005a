"""candidates: prompts, generators and image folders -> images to annotate, unlabelled pool."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

import pandas as pd
from pydantic import Field, model_validator

from zreward_core.config import (
    Count,
    CountOrZero,
    DtypeName,
    Settings,
    Side,
    StageConfig,
    UserError,
    Weight,
    is_unicode,
)
from zreward_core.diffusion.loading import generator_class, locate
from zreward_core.images import ImageStore, Outside, write_images
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import (
    CANDIDATES,
    PROMPTS,
    RENDERED_IMAGES,
    digest,
    item_id,
    prompt_id,
    read_json,
    read_table,
    write_json,
    write_table,
)
from zreward_core.stages._image_parts import kept_rows
from zreward_core.stages._image_sources import ImageDataset, ImageFolder, SourceImage, given_images
from zreward_core.stages._samples import on_device, sample_shards, stored_files

WORLD = Path("data/world")
OUTPUT = Path("data/candidates")
DROPS = Path("data/drops")
TRACKED = (DROPS / "prompts", DROPS / "image_folders")
"""Folders of the user's files that are deps of this stage in dvc.yaml."""
TABLES = {"annotation": "items.parquet", "unlabelled": "pool.parquet"}
"""Purpose of the prompts to the table of their images."""
SHARD_SAMPLES, SHARD_PIXELS = 512, 2**27
"""Samples in a shard, the unit of checkpointing, and their pixels, at most."""


class Sampling(Settings):
    """One setting of one generator."""

    path: Path
    """Folder of the generator: a diffusers checkpoint, or a pointer to the hub."""
    steps: Count
    """Denoising steps."""
    guidance: Weight
    """Guidance scale as the pipeline defines it; Z-Image is unguided at 0, others at 1."""
    size: tuple[Side, Side]
    """(width, height) in pixels."""
    dtype: DtypeName = "float32"
    """Data type of the generator's weights."""
    batch_size: Count = 64
    """Images sampled at a time."""
    annotation: CountOrZero = 0
    """Samples for each annotation prompt."""
    unlabelled: CountOrZero = 0
    """Samples for each unlabelled prompt."""

    @property
    def name(self) -> str:
        """Name of this setting in tables."""
        return f"{self.path.as_posix()} steps={self.steps} guidance={self.guidance:g}"


class Config(StageConfig):
    """Sources of the images."""

    prompt_files: dict[str, list[Path]] = Field(default_factory=dict)
    """Purpose to files of prompts: .txt (one per line) or .json (a list of strings)."""
    generators: list[Sampling] = Field(default_factory=list)
    """Generators and their settings."""
    folders: list[ImageFolder] = Field(default_factory=list)
    """Folders of images."""
    datasets: list[ImageDataset] = Field(default_factory=list)
    """Data sets of images."""

    @model_validator(mode="after")
    def _tracked(self) -> Self:
        own = [path for paths in self.prompt_files.values() for path in paths]
        for path in [*own, *(one.path for one in [*self.folders, *self.datasets])]:
            if path.is_relative_to(DROPS) and not any(map(path.is_relative_to, TRACKED)):
                raise ValueError(
                    f"{path} is not a dep of this stage, so a change of it would go unnoticed: move"
                    f" it into {' or '.join(map(str, TRACKED))}"
                )
        return self


def run(config: Config) -> None:
    """Write items.parquet, pool.parquet, prompts.parquet, images/ and metrics.json.

    Raises:
        UserError: a file is missing or malformed, the class of a generator is not supported, a
            prompt has two purposes, or there is nothing to annotate.
    """
    for setting in config.generators:
        generator_class(*locate(setting.path))
    prompts = gather_prompts(config)
    inputs = [setting.path for setting in config.generators]
    inputs += [path for paths in config.prompt_files.values() for path in paths]
    checkpoint = Checkpoint("candidates", config, [WORLD / "prompts.parquet", *inputs])
    samples = draw_samples(config, prompts, checkpoint)
    if is_main():
        write_candidates(config, prompts, stored_samples(samples), checkpoint)
    checkpoint.clear()


def write_candidates(
    config: Config,
    prompts: pd.DataFrame,
    samples: Iterator[SourceImage],
    checkpoint: Checkpoint,
) -> None:
    """Write the images of all sources and their tables."""
    rows: list[dict[str, str]] = []
    refused: dict[str, int] = {}

    sources = [*config.folders, *config.datasets]
    given = given_images(sources, refused, partial(kept_rows, checkpoint))

    def contents() -> Iterator[bytes | Outside]:
        for source in (rendered(), given, samples):
            for content, prompt, purpose, origin in source:
                rows.append({"prompt": prompt, "purpose": purpose, "generator": origin})
                yield content

    with whole_output(OUTPUT, config) as folder:
        outside = any(source.in_place for source in sources)
        identifiers = write_images(contents(), folder / "images", outside)
        table = pd.DataFrame(rows, columns=["prompt", "purpose", "generator"])
        table["image_id"] = identifiers
        table["prompt_id"] = table["prompt"].map(prompt_id)
        pairs = zip(table["prompt"], identifiers, strict=True)
        table["item_id"] = [item_id(prompt, identifier) for prompt, identifier in pairs]
        table = table.drop_duplicates("item_id").sort_values("item_id")
        if not (table["purpose"] == "annotation").any():
            raise UserError(
                "candidates: there is no image to annotate; add generators or folders in"
                " params.yaml, or increase world.size"
            )
        check_purposes(pd.concat([prompts, table[["prompt_id", "prompt", "purpose"]]]))
        for purpose, name in TABLES.items():
            write_table(table[table["purpose"] == purpose], folder / name, CANDIDATES)
        write_table(prompts, folder / "prompts.parquet", PROMPTS)
        left_out = {"refused": refused} if refused else {}
        write_json(counts(table) | left_out, folder / "metrics.json")


def gather_prompts(config: Config) -> pd.DataFrame:
    """Prompts of the world and of the user's files (schemas.PROMPTS), one row for each."""
    tables = [read_table(WORLD / "prompts.parquet", PROMPTS)]
    for purpose, paths in config.prompt_files.items():
        if purpose not in ("annotation", "unlabelled", "generator_train", "generator_eval"):
            raise UserError(
                f"params.yaml: 'candidates.prompt_files.{purpose}' is not a purpose; use"
                " annotation, unlabelled, generator_train or generator_eval"
            )
        texts = [text for path in paths for text in read_prompts(path)]
        own = pd.DataFrame({"prompt": texts, "purpose": purpose})
        own["prompt_id"] = own["prompt"].map(prompt_id)
        tables.append(own)
    table = pd.concat(tables).drop_duplicates(["prompt_id", "purpose"])
    check_purposes(table)
    return table


def read_prompts(path: Path) -> list[str]:
    """Prompts of a file without its empty lines.

    Raises:
        UserError: the file is missing, not UTF-8, or not a list of strings.
    """
    if path.suffix == ".json":
        texts = read_json(path)
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise UserError(f"{path} must be a JSON list of strings")
        if not all(is_unicode(text) for text in texts):
            first = next(text for text in texts if not is_unicode(text))
            raise UserError(f"{path}: {json.dumps(first)} is not Unicode text; correct it")
    else:
        if not path.is_file():
            raise UserError(f"{path} not found: correct 'candidates.prompt_files' in params.yaml")
        try:
            texts = path.read_text(encoding="utf-8-sig").split("\n")
        except UnicodeDecodeError:
            raise UserError(f"{path} is not UTF-8 text: save it as UTF-8") from None
    return [text.strip() for text in texts if text.strip()]


def check_purposes(table: pd.DataFrame) -> None:
    """Check that no prompt has two purposes.

    Raises:
        UserError: a prompt has two purposes.
    """
    distinct = table.drop_duplicates(["prompt_id", "purpose"])
    repeated = distinct[distinct.duplicated("prompt_id", keep=False)]
    if not repeated.empty:
        first = repeated[repeated["prompt_id"] == repeated["prompt_id"].iloc[0]]
        raise UserError(
            f"the prompt {first['prompt'].iloc[0]!r} has two purposes"
            f" ({', '.join(sorted(first['purpose']))}): keep it in one of them"
        )


def rendered() -> Iterator[SourceImage]:
    """Images of the world."""
    table = read_table(WORLD / "rendered.parquet", RENDERED_IMAGES)
    table = table[table["purpose"].isin(list(TABLES))]
    if table.empty:
        return
    store = ImageStore(WORLD / "images")
    for row in table.itertuples():
        yield store.content(row.image_id), row.prompt, row.purpose, "world"


@dataclass
class Job:
    """One image to sample."""

    prompt: str
    purpose: str
    seed: int


def jobs_of(config: Config, setting: Sampling, prompts: pd.DataFrame) -> list[Job]:
    """The images that a setting samples; every one has its own seed."""
    copies = {"annotation": setting.annotation, "unlabelled": setting.unlabelled}
    return [
        Job(prompt, purpose, int(digest(str(config.seed), setting.name, prompt, str(copy)), 16))
        for purpose, number in copies.items()
        for prompt in prompts.loc[prompts["purpose"] == purpose, "prompt"]
        for copy in range(number)
    ]


def draw_samples(
    config: Config, prompts: pd.DataFrame, checkpoint: Checkpoint
) -> list[tuple[Sampling, list[Job], list[Path]]]:
    """Sample all images, divided over processes by shards.

    Returns:
        for each setting its images and their shards.
    """
    drawn = []
    for index, setting in enumerate(config.generators):
        jobs = jobs_of(config, setting, prompts)
        shards = sample_shards(
            checkpoint,
            f"samples{index}_",
            partial(on_device, setting.path, setting.dtype),
            [job.prompt for job in jobs],
            [job.seed % 2**63 for job in jobs],
            max(1, min(SHARD_SAMPLES, SHARD_PIXELS // (setting.size[0] * setting.size[1]))),
            f"images of generator {index + 1}",
            num_steps=setting.steps,
            guidance_scale=setting.guidance,
            size=setting.size,
            batch_size=setting.batch_size,
        )
        drawn.append((setting, jobs, shards))
    return drawn


def stored_samples(
    drawn: list[tuple[Sampling, list[Job], list[Path]]],
) -> Iterator[SourceImage]:
    """The sampled images."""
    for setting, jobs, shards in drawn:
        for job, file in zip(jobs, stored_files(shards), strict=True):
            yield file, job.prompt, job.purpose, setting.name


def counts(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Images by purpose and origin."""
    return {
        purpose: {
            str(origin): int(count) for origin, count in group["generator"].value_counts().items()
        }
        for purpose, group in table.groupby("purpose")
    }

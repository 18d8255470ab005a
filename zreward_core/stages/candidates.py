"""candidates: prompts, generators and image folders -> images to annotate, unlabelled pool."""

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pandas as pd
import torch
from pydantic import Field

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
from zreward_core.diffusion.loading import generator_class, load_generator, locate
from zreward_core.diffusion.sampling import sample
from zreward_core.images import ImageStore, decode, encode_png, write_images
from zreward_core.runtime.device import fast_precision, pick_device
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import track
from zreward_core.schemas import (
    CANDIDATES,
    PROMPTS,
    RENDERED_IMAGES,
    digest,
    item_id,
    normalise_prompt,
    prompt_id,
    read_json,
    read_table,
    write_json,
    write_table,
)

logger = logging.getLogger(__name__)
WORLD = Path("data/world")
OUTPUT = Path("data/candidates")
TABLES = {"annotation": "items.parquet", "unlabelled": "pool.parquet"}
"""Purpose of the prompts to the table of their images."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
SAMPLED_TOGETHER = 2048
"""Samples drawn before the progress bar moves."""


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
    annotation: CountOrZero = 0
    """Samples for each annotation prompt."""
    unlabelled: CountOrZero = 0
    """Samples for each unlabelled prompt."""

    @property
    def name(self) -> str:
        """Name of this setting in tables."""
        return f"{self.path.as_posix()} steps={self.steps} guidance={self.guidance:g}"


class ImageFolder(Settings):
    """A folder of images and their prompts."""

    path: Path
    """Folder; its prompts.json maps file name to prompt."""
    purpose: Literal["annotation", "unlabelled"] = "annotation"
    """Purpose of the images."""


class Config(StageConfig):
    """Sources of the images."""

    prompt_files: dict[str, list[Path]] = Field(default_factory=dict)
    """Purpose to files of prompts: .txt (one per line) or .json (a list of strings)."""
    generators: list[Sampling] = Field(default_factory=list)
    """Generators and their settings."""
    folders: list[ImageFolder] = Field(default_factory=list)
    """Folders of images."""


def run(config: Config) -> None:
    """Write items.parquet, pool.parquet, prompts.parquet, images/ and metrics.json.

    Raises:
        UserError: a file is missing or malformed, the class of a generator is not supported, a
            prompt has two purposes, or there is nothing to annotate.
    """
    for setting in config.generators:
        generator_class(*locate(setting.path))
    prompts = gather_prompts(config)
    rows: list[dict[str, str]] = []

    def contents() -> Iterator[bytes]:
        for source in (rendered(), found(config), sampled(config, prompts)):
            for content, prompt, purpose, origin in source:
                rows.append({"prompt": prompt, "purpose": purpose, "generator": origin})
                yield content

    with whole_output(OUTPUT, config) as folder:
        identifiers = write_images(contents(), folder / "images")
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
        write_json(counts(table), folder / "metrics.json")


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
            texts = path.read_text(encoding="utf-8").splitlines()
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


def rendered() -> Iterator[tuple[bytes, str, str, str]]:
    """Images of the world: bytes, prompt, purpose, origin."""
    table = read_table(WORLD / "rendered.parquet", RENDERED_IMAGES)
    table = table[table["purpose"].isin(list(TABLES))]
    if table.empty:
        return
    store = ImageStore(WORLD / "images")
    for row in table.itertuples():
        yield store.content(row.image_id), row.prompt, row.purpose, "world"


def found(config: Config) -> Iterator[tuple[bytes, str, str, str]]:
    """Images of the user's folders, sorted by name."""
    for source in config.folders:
        prompts = read_json(source.path / "prompts.json")
        if not isinstance(prompts, dict):
            raise UserError(f"{source.path / 'prompts.json'} must map file names to prompts")
        for name in sorted(prompts):
            path = source.path / name
            if Path(name).name != name or path.suffix.lower() not in SUFFIXES:
                raise UserError(
                    f"{source.path / 'prompts.json'}: {name!r} is not an image of that folder"
                    f" ({', '.join(SUFFIXES)})"
                )
            if not os.path.isfile(path):  # False for names that no file can have, too
                raise UserError(
                    f"{source.path / 'prompts.json'} names {name!r}, which is not found"
                )
            prompt = checked_prompt(prompts[name], path)
            try:
                content = path.read_bytes()
            except OSError as error:
                raise UserError(f"{path} cannot be read: {error.strerror}") from None
            decode(content, str(path))
            yield content, prompt, source.purpose, str(source.path)


def checked_prompt(prompt: object, path: Path) -> str:
    """Return a prompt unchanged if it is valid.

    Raises:
        UserError: it is not a string, or empty.
    """
    if not isinstance(prompt, str) or not normalise_prompt(prompt) or not is_unicode(prompt):
        raise UserError(
            f"the prompt of {path} must be a non-empty string of Unicode text, not"
            f" {json.dumps(prompt)}"
        )
    return prompt


def sampled(config: Config, prompts: pd.DataFrame) -> Iterator[tuple[bytes, str, str, str]]:
    """Samples of the generators; every sample has its own seed."""
    for setting in config.generators:
        jobs = [
            (prompt, purpose, int(digest(str(config.seed), setting.name, prompt, str(copy)), 16))
            for purpose, copies in (
                ("annotation", setting.annotation),
                ("unlabelled", setting.unlabelled),
            )
            for prompt in prompts.loc[prompts["purpose"] == purpose, "prompt"]
            for copy in range(copies)
        ]
        if not jobs:
            continue
        generator = load_generator(setting.path, getattr(torch, setting.dtype))
        generator.pipe.to(pick_device())
        starts = range(0, len(jobs), SAMPLED_TOGETHER)
        for start in track(starts, f"{setting.steps} steps, guidance {setting.guidance:g}"):
            part = jobs[start : start + SAMPLED_TOGETHER]
            images = sample(
                generator,
                [prompt for prompt, _, _ in part],
                [seed % 2**63 for _, _, seed in part],
                num_steps=setting.steps,
                guidance_scale=setting.guidance,
                size=setting.size,
                precision=fast_precision(),
            )
            for (prompt, purpose, _), pixels in zip(part, images, strict=True):
                yield encode_png(pixels.permute(1, 2, 0).numpy()), prompt, purpose, setting.name


def counts(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Images by purpose and origin."""
    return {
        purpose: {
            str(origin): int(count) for origin, count in group["generator"].value_counts().items()
        }
        for purpose, group in table.groupby("purpose")
    }

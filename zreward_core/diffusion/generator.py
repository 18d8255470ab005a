"""Loading of generators: a diffusers folder, or a pointer to a hub model and its revision."""

from pathlib import Path
from typing import Any

import torch
from diffusers import ZImagePipeline

from zreward_core.config import UserError
from zreward_core.schemas import read_json, write_json

Pipeline = Any
"""A `ZImagePipeline`; its parts are attributes that it gets at run time."""
CARD = "zreward.json"
"""Beside a pipeline: a pointer (``hub_id``, ``revision``), or where the pipeline came from."""


def write_pointer(folder: Path, hub_id: str, revision: str) -> None:
    """Write a folder that stands for a model of the hub."""
    write_json({"hub_id": hub_id, "revision": revision}, folder / CARD)


def load_pipeline(folder: Path, dtype: torch.dtype = torch.float32) -> Pipeline:
    """Load a pipeline for inference; none of its weights asks for gradients.

    Args:
        folder: a diffusers checkpoint, or a folder whose zreward.json points to the hub.
        dtype: of the weights.

    Raises:
        UserError: there is no checkpoint, it is incomplete, or it is no Z-Image pipeline.
    """
    source, revision = str(folder), None
    if not (folder / "model_index.json").is_file():
        if not (folder / CARD).is_file():
            raise UserError(
                f"{folder} holds no generator (neither model_index.json nor {CARD}):"
                " run the stage that makes it (`zreward base_generator`) or correct the path"
            )
        pointer = read_json(folder / CARD)
        if not isinstance(pointer, dict) or not {"hub_id", "revision"} <= set(pointer):
            raise UserError(f"{folder / CARD} must name hub_id and revision")
        source, revision = pointer["hub_id"], pointer["revision"]
    try:
        pipe = ZImagePipeline.from_pretrained(
            source, revision=revision, dtype=dtype, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise UserError(f"{source} cannot be loaded as a Z-Image pipeline: {error}") from None
    pipe.set_progress_bar_config(disable=True)
    for module in (pipe.vae, pipe.text_encoder, pipe.transformer):
        module.requires_grad_(False).eval()
    return pipe

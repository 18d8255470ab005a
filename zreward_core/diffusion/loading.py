"""Loading of generators: a diffusers folder, or a pointer to a hub model and its revision."""

from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from zreward_core.config import UserError
from zreward_core.diffusion.flux import Flux
from zreward_core.diffusion.generator import ImageGenerator
from zreward_core.diffusion.qwen_image import QwenImage
from zreward_core.diffusion.sd3 import StableDiffusion3
from zreward_core.diffusion.z_image import ZImage
from zreward_core.schemas import read_json, write_json

GENERATORS: dict[str, type[ImageGenerator]] = {
    "ZImagePipeline": ZImage,
    "StableDiffusion3Pipeline": StableDiffusion3,
    "FluxPipeline": Flux,
    "QwenImagePipeline": QwenImage,
}
"""``_class_name`` in model_index.json to the implementation."""
CARD = "zreward.json"
"""Beside a pipeline: a pointer (``hub_id``, ``revision``), or hashes of the inputs."""


def write_pointer(folder: Path, hub_id: str, revision: str) -> None:
    """Write a folder that refers to a model of the hub."""
    write_json({"hub_id": hub_id, "revision": revision}, folder / CARD)


def generator_class(source: str, revision: str | None = None) -> type[ImageGenerator]:
    """Implementation for a checkpoint; of a hub model only model_index.json is downloaded.

    Args:
        source: folder or hub id.
        revision: commit of the hub model.

    Raises:
        UserError: model_index.json cannot be read, or no implementation exists for its class.
    """
    try:
        index = DiffusionPipeline.load_config(source, revision=revision)
    except (OSError, ValueError) as error:
        raise UserError(
            f"model_index.json of the generator {source} cannot be read: {error}"
        ) from None
    name = index.get("_class_name")
    if name not in GENERATORS:
        raise UserError(
            f"the generator {source} is a {name}, which is not supported: choose a checkpoint of"
            f" {', '.join(GENERATORS)}"
        )
    return GENERATORS[name]


def locate(folder: Path) -> tuple[str, str | None]:
    """Source and revision of the checkpoint that a folder contains or refers to.

    Raises:
        UserError: the folder has neither a checkpoint nor a valid pointer.
    """
    if (folder / "model_index.json").is_file():
        return str(folder), None
    if not (folder / CARD).is_file():
        raise UserError(
            f"{folder} has no generator (neither model_index.json nor {CARD}):"
            " run the stage that makes it (`zreward base_generator`) or correct the path"
        )
    pointer = read_json(folder / CARD)
    if not isinstance(pointer, dict) or not {"hub_id", "revision"} <= set(pointer):
        raise UserError(f"{folder / CARD} must name hub_id and revision")
    return pointer["hub_id"], pointer["revision"]


def load_generator(folder: Path, dtype: torch.dtype = torch.float32) -> ImageGenerator:
    """Load a generator for inference; none of its weights requires gradients.

    Args:
        folder: a diffusers checkpoint, or a folder whose zreward.json points to the hub.
        dtype: of the weights.

    Raises:
        UserError: there is no checkpoint, it is incomplete, or its class is not supported.
    """
    source, revision = locate(folder)
    implementation = generator_class(source, revision)
    try:
        pipe = DiffusionPipeline.from_pretrained(
            source, revision=revision, dtype=dtype, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise UserError(f"the generator {source} cannot be loaded: {error}") from None
    pipe.set_progress_bar_config(disable=True)
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            component.requires_grad_(False).eval()
    return implementation(pipe)

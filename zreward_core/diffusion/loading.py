"""Loading of generators: a diffusers folder, or a pointer to a hub model and its revision."""

import importlib
import re
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.loaders.lora_base import LORA_WEIGHT_NAME_SAFE
from transformers import PreTrainedModel

from zreward_core.adapters import ADAPTER, NAME, separate
from zreward_core.config import UserError
from zreward_core.diffusion.flux import Flux
from zreward_core.diffusion.generator import ImageGenerator
from zreward_core.diffusion.qwen_image import QwenImage
from zreward_core.diffusion.sd3 import StableDiffusion3
from zreward_core.diffusion.z_image import ZImage
from zreward_core.schemas import how_to_make, read_json, write_json
from zreward_core.weights import reading_checkpoint, require_all_weights, require_float_weights

GENERATORS: dict[str, type[ImageGenerator]] = {
    "ZImagePipeline": ZImage,
    "StableDiffusion3Pipeline": StableDiffusion3,
    "FluxPipeline": Flux,
    "QwenImagePipeline": QwenImage,
}
"""``_class_name`` in model_index.json to the implementation."""
CARD = "zreward.json"
"""Beside a pipeline: hashes of the inputs. Alone: a pointer to a hub model or another folder."""
HEAD = re.compile(r"lm_head\.")
"""Weights that a text encoder leaves out: the head of the language model whose body it is."""


def write_pointer(folder: Path, pointer: dict[str, Any]) -> None:
    """Write a folder that refers to a checkpoint of the hub or in another folder."""
    write_json(pointer, folder / CARD)


def generator_class(source: str, revision: str | None = None) -> type[ImageGenerator]:
    """Implementation for a checkpoint; of a hub model only model_index.json is downloaded.

    Args:
        source: folder or hub id.
        revision: commit of the hub model.

    Raises:
        UserError: model_index.json cannot be read, or no implementation exists for its class.
    """
    with reading_checkpoint(f"model_index.json of the generator {source}"):
        name = str(DiffusionPipeline.load_config(source, revision=revision).get("_class_name"))
    if name not in GENERATORS:
        raise UserError(
            f"the generator {source} is a {name}, which is not supported: choose a checkpoint of"
            f" {', '.join(GENERATORS)}"
        )
    return GENERATORS[name]


def check_components(source: str, revision: str | None = None) -> None:
    """Open the config of every component of a checkpoint, its scheduler and its tokenizers.

    Of a hub model nothing else is downloaded.

    Raises:
        UserError: a component is missing or cannot be opened, or the class of the pipeline is not
            supported.
    """
    generator_class(source, revision)
    parts = components(DiffusionPipeline.load_config(source, revision=revision))
    if missing := sorted({"transformer", "vae", "scheduler"} - set(parts)):
        raise UserError(f"model_index.json of the generator {source} lacks {missing}")
    for name, kind in parts.items():
        where: dict[str, Any] = {"subfolder": name, "revision": revision}
        try:
            if issubclass(kind, PreTrainedModel):
                if "model_type" not in kind.config_class.get_config_dict(source, **where)[0]:
                    raise OSError("there is no config.json with a model_type")
            elif issubclass(kind, torch.nn.Module):
                kind.load_config(source, **where)
            else:
                kind.from_pretrained(source, **where)
        except (OSError, ValueError, TypeError) as error:
            raise UserError(f"{name} of the generator {source} cannot be opened: {error}") from None


def components(index: dict[str, Any]) -> dict[str, Any]:
    """Name to class of the components in the content of model_index.json."""
    found = {}
    for name, part in index.items():
        if isinstance(part, list | tuple) and part[0] in ("diffusers", "transformers"):
            found[name] = getattr(importlib.import_module(part[0]), part[1])
    return found


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
            f" {how_to_make(folder)}"
        )
    pointer = read_json(folder / CARD)
    if isinstance(pointer, dict) and "path" in pointer:
        return pointer["path"], None
    if not isinstance(pointer, dict) or not {"hub_id", "revision"} <= set(pointer):
        raise UserError(f"{folder / CARD} must name path, or hub_id and revision")
    return pointer["hub_id"], pointer["revision"]


def load_generator(folder: Path, dtype: torch.dtype = torch.float32) -> ImageGenerator:
    """Load a generator for inference; none of its weights requires gradients.

    Args:
        folder: a diffusers checkpoint, or a folder whose zreward.json points to the hub.
        dtype: of the weights.

    Raises:
        UserError: there is no checkpoint, it is incomplete, a component's weights are not exactly
            those of its class, or the class of the pipeline is not supported.
    """
    source, revision = locate(folder)
    implementation = generator_class(source, revision)
    with reading_checkpoint(f"the generator {source}"):
        models = load_models(source, revision, dtype)
        pipe = DiffusionPipeline.from_pretrained(
            source,
            revision=revision,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            **models,
        )
    pipe.set_progress_bar_config(disable=True)
    for component in pipe.components.values():
        if isinstance(component, torch.nn.Module):
            component.requires_grad_(False).eval()
    return implementation(pipe)


def load_models(source: str, revision: str | None, dtype: torch.dtype) -> dict[str, Any]:
    """Load the components of a pipeline that have weights, by name.

    The pipeline would load them in the same way, but gives random values to weights that are
    missing.

    Raises:
        UserError: a component's weights are not exactly those of its class.
    """
    folder = Path(source)
    if not folder.is_dir():
        options = {"use_safetensors": True, "trust_remote_code": False}
        folder = Path(DiffusionPipeline.download(source, revision=revision, **options))
    models = {}
    for name, kind in components(DiffusionPipeline.load_config(str(folder))).items():
        if not issubclass(kind, torch.nn.Module):
            continue
        adapter = folder / ADAPTER
        apart = name == "transformer" and dtype != torch.float32 and adapter.is_dir()
        word = "dtype" if issubclass(kind, PreTrainedModel) else "torch_dtype"
        models[name], found = kind.from_pretrained(
            str(folder / name),
            use_safetensors=True,
            output_loading_info=True,
            **{word: torch.float32 if apart else dtype},
        )
        unexpected = [key for key in found["unexpected_keys"] if not HEAD.match(key)]
        require_all_weights(str(folder / name), found | {"unexpected_keys": unexpected})
        require_float_weights(models[name], folder / name)
        if name == "transformer":
            require_float_weights(models[name], adapter)
        if apart:  # rounded into the weights, the updates would be lost
            models[name].load_lora_adapter(
                str(adapter), prefix=name, adapter_name=NAME, weight_name=LORA_WEIGHT_NAME_SAFE
            )
            separate(models[name], dtype)
    return models

"""Opening a model for scoring: a folder, a registered version, or a repository of the hub."""

import os
import re
import threading
from pathlib import Path

import torch

from zreward_core.config import UserError
from zreward_core.models.backbone import Backbone
from zreward_core.models.card import Role, require_role
from zreward_core.models.hub import download
from zreward_core.models.loading import load_backbone
from zreward_core.models.torch_state import on_cpu_by_default
from zreward_core.store import fetch, is_uri
from zreward_core.weights import reading_checkpoint

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
DTYPES = "float32", "bfloat16", "float16"
_ONE_AT_A_TIME = threading.Lock()
"""transformers cannot load two models at a time in threads: their weights are then said to be
missing. A trainer asks for its first rewards in threads."""


def open_model(
    source: str | Path,
    role: Role,
    device: str | torch.device,
    dtype: str | torch.dtype,
    revision: str | None,
) -> Backbone:
    """A model in evaluation mode; its weights are frozen.

    Args:
        source: a folder, ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` (its files are compared
            with the registered hashes), or the id of a repository of the Hugging Face hub.
        role: that it must have been trained for.
        device: "auto" for the accelerator of the machine, or the CPU where it has none.
        dtype: "auto" for the one in which the weights are stored; or a torch dtype, or its name.
        revision: branch, tag or commit; hub ids only.

    Raises:
        UserError: the source, device, dtype or revision does not exist, or the model is of another
            role, or not of this project, or its files differ from the registered ones.
    """
    place, kind = find_device(device), find_dtype(dtype)
    folder = find_folder(source, revision)
    require_role(folder, role)
    # tensors made in inference mode can never be used with gradients
    with _ONE_AT_A_TIME, on_cpu_by_default(), torch.inference_mode(False):
        backbone = load_backbone(folder, kind)
        backbone.network.to(place)
        for parameter in backbone.network.parameters():
            parameter.requires_grad_(False)
        if place.type == find_device("auto").type:  # kernels of a GPU's extra do not run on its CPU
            _try_out(backbone)
    return backbone


def _try_out(backbone: Backbone) -> None:
    """Run a model once, on one token of an image and one of text.

    Loading compares names and shapes of weights; a number in config.json that contradicts them in
    another way, such as one of attention heads, would end the first request.

    Raises:
        UserError: names the folder; it contradicts itself, or does not fit into memory.
    """
    side = backbone.pixels.patch * backbone.pixels.merge
    row = [backbone.network.model.config.image_token_id, backbone.pad_id]
    with reading_checkpoint(backbone.source), torch.inference_mode():
        try:
            backbone.logits([row], [torch.full((3, side, side), 0.5)], [0], 1)
        except torch.OutOfMemoryError:
            raise UserError(
                f"{backbone.source} does not fit into the memory of {backbone.device}: choose"
                " another device, or the dtype bfloat16"
            ) from None


def find_folder(source: str | Path, revision: str | None) -> Path:
    """Folder of a model, downloaded or checked if need be."""
    if not isinstance(source, str | Path):
        raise UserError(f"the model is {source!r}: pass a folder, a models:/ URI or a hub id")
    local = isinstance(source, Path) or os.path.exists(source) or not HUB_ID.fullmatch(source)
    if is_uri(source) or local:
        if revision is not None:
            raise UserError(
                f"revision {revision!r} is given for {source}, which is not a repository of the"
                " hub: leave it out"
            )
        return fetch(str(source)) if is_uri(source) else Path(source)
    return download(str(source), revision)


def find_device(device: str | torch.device) -> torch.device:
    """A device that this machine has.

    Raises:
        UserError: it is not the name of a device, or there is none.
    """
    here = torch.accelerator.current_accelerator(check_available=True)
    if device == "auto":
        return here or torch.device("cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError):
        raise UserError(f"{device!r} is not a device: write auto, cpu, cuda or cuda:1") from None
    if found.type == "cpu":
        return found
    count = torch.accelerator.device_count() if here and here.type == found.type else 0
    if (found.index or 0) >= count:
        raise UserError(
            f"the device {found} is not available here ({count} of type {found.type}): write auto"
            " or cpu, or install a torch for it"
        )
    return found


def find_dtype(dtype: str | torch.dtype) -> str:
    """Name of a dtype, or "auto".

    Raises:
        UserError: it is not a dtype of weights.
    """
    name = str(dtype).removeprefix("torch.")
    if name not in ("auto", *DTYPES):
        raise UserError(f"{dtype!r} is not a dtype of weights: write auto, {', '.join(DTYPES)}")
    return name

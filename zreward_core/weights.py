"""Checkpoints of models: malformed files, and weights that are not those of the model."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from zreward_core.config import UserError

FLOATS = ("F64", "F32", "F16", "BF16")
"""Data types of weights, as safetensors calls them."""
MAX_NAMED = 5
"""Weights named in a message; the others are counted."""


@contextmanager
def reading_checkpoint(name: str) -> Iterator[None]:
    """Errors of the libraries in the block become UserErrors: they raise any on malformed files.

    Their bars for loading are quiet, those for downloads are not.

    Args:
        name: the checkpoint, for the message.
    """
    from huggingface_hub.errors import StrictDataclassError
    from jinja2 import TemplateError
    from safetensors import SafetensorError

    _quiet_loading()
    # ArithmeticError: a config with zero heads
    faults = (OSError, ValueError, LookupError, TypeError, AttributeError, ArithmeticError)
    malformed = (SafetensorError, TemplateError, StrictDataclassError)
    try:
        yield
    except UserError:
        raise
    except (*faults, RuntimeError, *malformed) as error:
        raise UserError(
            f"{name} is not a readable checkpoint ({type(error).__name__}: {error}): restore its"
            " files, or run the stage that makes it"
        ) from None


def _quiet_loading() -> None:
    """Turn off the bars that transformers and diffusers show while they load weights."""
    from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars

    downloads = not are_progress_bars_disabled()
    for library in ("transformers", "diffusers"):
        if (logs := sys.modules.get(f"{library}.utils.logging")) is not None:
            logs.disable_progress_bar()
    if downloads:  # transformers turns these off as well
        enable_progress_bars()


def require_all_weights(source: str, found: dict[str, Any]) -> None:
    """Reject a checkpoint whose weights are not exactly those of the model it was loaded into.

    transformers does not report tied weights, nor those that a family leaves out, such as the heads
    for multi-token prediction.

    Args:
        found: loading info of ``from_pretrained`` of transformers or diffusers.

    Raises:
        UserError: a weight is missing (it would be random), unexpected, or of another shape.
    """
    faults = {
        "lacks": sorted(found["missing_keys"]),
        "has, unlike the model,": sorted(found["unexpected_keys"]),
        "has in another shape than the model": sorted(
            f"{name} {list(stored)} (not {list(expected)})"
            for name, stored, expected in found["mismatched_keys"]
        ),
    }
    told = "; ".join(
        f"it {fault} {', '.join(names[:MAX_NAMED])} ({len(names)} in all)"
        for fault, names in faults.items()
        if names
    )
    if told:
        raise UserError(
            f"the checkpoint {source} is not whole: {told}. Download or copy it again, or run the"
            " stage that makes it"
        )


def require_float_weights(network: Any, *folders: Path) -> None:
    """Reject a checkpoint with a weight that is stored as integers, which loading would convert.

    Buffers of the model that hold integers, such as the positions of a text encoder, may be stored.

    Args:
        network: the torch module that was loaded.
        folders: with its safetensors files; those that do not exist are left out.

    Raises:
        UserError: names the file and the tensor.
    """
    from safetensors import safe_open

    buffers = {
        name.rpartition(".")[2]
        for name, value in network.named_buffers()
        if not value.is_floating_point()
    }
    for path in sorted(path for folder in folders for path in folder.glob("*.safetensors")):
        with safe_open(path, "pt") as stored:
            for name in stored.keys():  # noqa: SIM118
                dtype = stored.get_slice(name).get_dtype()
                if dtype not in FLOATS and name.rpartition(".")[2] not in buffers:
                    raise UserError(
                        f"{path}: the weight {name} is stored as {dtype}, not as one of"
                        f" {', '.join(FLOATS)}: restore the file, or save the model again without"
                        " quantization"
                    )

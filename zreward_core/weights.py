"""Checkpoints of models: malformed files, and weights that are not those of the model."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zreward_core.config import UserError

MAX_NAMED = 5
"""Weights named in a message; the others are counted."""


@contextmanager
def reading_checkpoint(name: str) -> Iterator[None]:
    """Errors of the libraries in the block become UserErrors: they raise any on malformed files.

    Their bars for loading are quiet, those for downloads are not.

    Args:
        name: the checkpoint, for the message.
    """
    from jinja2 import TemplateError
    from safetensors import SafetensorError

    _quiet_loading()
    faults = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError)
    try:
        yield
    except UserError:
        raise
    except (*faults, SafetensorError, TemplateError) as error:
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

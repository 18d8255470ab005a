"""Atomic writing of a stage's output folder."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from zreward_core.config import UserError
from zreward_core.runtime.faults import disk_fault
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import NotFinite, flush, flush_tree, write_json


@contextmanager
def whole_output(folder: Path, config: BaseModel) -> Iterator[Path]:
    """Yield a scratch folder that replaces ``folder`` if the block ends without an error.

    All of it is on disk before it replaces the old folder, so that a power failure leaves no torn
    output. Adds the resolved config as ``config.json``. Only the main process may call it.

    Raises:
        NotFinite: a weight in the folder is NaN or infinite; ``folder`` stays as it was.
    """
    assert is_main(), f"{folder} may be written by the main process only"
    scratch = folder.parent / f".{folder.name}.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        require_finite_weights(scratch, f"{folder.name}, after the last step")
        write_json(config.model_dump(mode="json"), scratch / "config.json")
        flush_tree(scratch)
    except BaseException as error:
        shutil.rmtree(scratch, ignore_errors=True)
        reason = disk_fault(error)
        if reason is None:
            raise
        before = "its content is that of the run before" if folder.exists() else "it is absent"
        raise UserError(
            f"{folder} was not written: {reason}. Nothing of this run is left in it, {before};"
            f" checkpoints in .zreward/checkpoints are kept. Free space or correct the permissions"
            " and run the stage again"
        ) from None
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)
    flush(folder.parent)


def link_or_copy(source: Path, target: Path) -> None:
    """Make a file appear at another place too, without a copy of its content where that works."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def require_finite_weights(folder: Path, name: str) -> None:
    """Check every weight in the safetensors files of a folder.

    Args:
        name: the stage or folder, for the message.

    Raises:
        NotFinite: a weight is NaN or infinite.
    """
    for path in sorted(folder.rglob("*.safetensors")):
        import torch
        from safetensors import safe_open

        with safe_open(path, "pt") as weights:
            for key in weights.keys():  # noqa: SIM118 - not a dict
                values = weights.get_tensor(key)
                wrong = values[~torch.isfinite(values)]
                if len(wrong):
                    raise NotFinite(
                        f"{name}: the weight {key} in {path.relative_to(folder)} is not finite"
                        f" ({float(wrong[0])}), so the model is not used; lower the learning rate"
                        " of the stage in params.yaml and train again"
                    )

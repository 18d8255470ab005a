"""Atomic writing of a stage's output folder."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from zreward_core.config import UserError
from zreward_core.runtime.faults import disk_fault
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import write_json


@contextmanager
def whole_output(folder: Path, config: BaseModel) -> Iterator[Path]:
    """Yield a scratch folder that replaces ``folder`` if the block ends without an error.

    Adds the resolved config as ``config.json``. Only the main process may call it.
    """
    assert is_main(), f"{folder} may be written by the main process only"
    scratch = folder.parent / f".{folder.name}.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        write_json(config.model_dump(mode="json"), scratch / "config.json")
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

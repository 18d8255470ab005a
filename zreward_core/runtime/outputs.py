"""Outputs appear whole or not at all."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import BaseModel

from zreward_core.runtime.worker import is_main
from zreward_core.schemas import write_json


@contextmanager
def whole_output(folder: Path, config: BaseModel) -> Iterator[Path]:
    """Yield a scratch folder that becomes ``folder`` when the block ends without an error.

    The resolved config is written beside the outputs as ``config.json``. Of several processes the
    main one alone may write.
    """
    assert is_main(), f"{folder} is written by the main process alone"
    scratch = folder.parent / f".{folder.name}.partial"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        yield scratch
        write_json(config.model_dump(mode="json"), scratch / "config.json")
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)

"""serve: the scoring server of a model folder or of a registered student.

A folder needs no MLflow (``scoring_app``). A registered version is served by MLflow's scoring
server, after its files were compared with the registry. It answers like `mlflow models serve`,
which executes a version's model file before the comparison, parses a request of any size and depth
before the model sees it, and puts stack traces into answers. Both are behind ``RequestLimits``.
"""

import contextlib
import ctypes
import os
import sys
from pathlib import Path

import uvicorn
from starlette.types import ASGIApp

from zreward_core.commands.request_limits import RequestLimits
from zreward_core.store import SETTINGS, WHOLE, checked, connect, find_version, is_uri, store_errors

MAX_CONNECTIONS = 32
"""Connections at a time, answers included; more get HTTP 503."""
_M_MMAP_THRESHOLD, _MMAP_THRESHOLD = -3, 1 << 20


def serve(source: str, host: str, port: int) -> None:
    """Serve a model until interrupted.

    Args:
        source: folder of a student, or URI of a registered version.
        host: address to listen on.
        port: port to listen on.

    Raises:
        UserError: the folder is not a student's; there is no such version, or its files differ from
            the registered ones.
    """
    return_freed_memory()
    app = RequestLimits(_registered(source) if is_uri(source) else _of_folder(Path(source)))
    uvicorn.run(app, host=host, port=port, limit_concurrency=MAX_CONNECTIONS, log_level="warning")


def _of_folder(folder: Path) -> ASGIApp:
    from zreward_core import RewardModel
    from zreward_core.commands.scoring_app import scoring_app
    from zreward_core.models.requests import RequestScorer

    return scoring_app(RequestScorer(RewardModel.from_pretrained(folder)))


def _registered(uri: str) -> ASGIApp:
    client = connect(create=False)
    with store_errors():
        folder = checked(client, find_version(client, uri), WHOLE)
    os.environ.update({**SETTINGS, "MLFLOW_TRACKING_URI": client.tracking_uri})
    sys.dont_write_bytecode = True  # the folder stays as registered
    import mlflow
    from mlflow.pyfunc import scoring_server

    return scoring_server.init(mlflow.pyfunc.load_model(str(folder)))


def return_freed_memory() -> None:
    """Have freed arrays of 1 MB and more returned to the system at once.

    By default glibc raises this limit up to 32 MB as arrays are freed, and keeps smaller ones.
    """
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)

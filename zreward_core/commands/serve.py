"""serve: MLflow's scoring server of a registered student, behind ``RequestLimits``.

It answers like `mlflow models serve`, which executes a version's model file before anything is
compared with the registry, parses a request of any size and depth before the model sees it, and
puts stack traces into answers.
"""

import contextlib
import ctypes
import os
import sys

from zreward_core.store import SETTINGS, WHOLE, checked, connect, find_version, store_errors

MAX_CONNECTIONS = 32
"""Connections at a time, answers included; more get HTTP 503."""
_M_MMAP_THRESHOLD, _MMAP_THRESHOLD = -3, 1 << 20


def serve(uri: str, host: str, port: int) -> None:
    """Serve a version until interrupted.

    Args:
        uri: URI of the version.
        host: address to listen on.
        port: port to listen on.

    Raises:
        UserError: there is no such version, or its files differ from the registered ones.
    """
    client = connect(create=False)
    with store_errors():
        folder = checked(client, find_version(client, uri), WHOLE)
    return_freed_memory()
    os.environ.update({**SETTINGS, "MLFLOW_TRACKING_URI": client.tracking_uri})
    sys.dont_write_bytecode = True  # the folder stays as registered
    import mlflow
    import uvicorn
    from mlflow.pyfunc import scoring_server

    from zreward_core.commands.request_limits import RequestLimits

    model = mlflow.pyfunc.load_model(str(folder))
    app = RequestLimits(scoring_server.init(model))
    uvicorn.run(app, host=host, port=port, limit_concurrency=MAX_CONNECTIONS, log_level="warning")


def return_freed_memory() -> None:
    """Have freed arrays of 1 MB and more returned to the system at once.

    By default glibc raises this limit up to 32 MB as arrays are freed, and keeps smaller ones.
    """
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)

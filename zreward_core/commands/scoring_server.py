"""MLflow's scoring server of a registered student, behind ``RequestLimits``.

`python -m zreward_core.commands.scoring_server models:/zreward-student@champion --port 5001`
answers like `mlflow models serve`, whose server parses a request of any size and depth before the
model sees it, and puts stack traces into answers.
"""

import argparse
import contextlib
import ctypes
import os

from zreward_core.config import UserError
from zreward_core.store import SETTINGS, connect

MAX_CONNECTIONS = 32
"""Connections at a time, answers included; more get HTTP 503."""

_M_MMAP_THRESHOLD, _MMAP_THRESHOLD = -3, 1 << 20


def main() -> None:
    """Serve a model until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="models:/NAME@ALIAS or models:/NAME/VERSION")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5001)
    options = parser.parse_args()
    return_freed_memory()
    os.environ.update(SETTINGS)
    try:
        os.environ["MLFLOW_TRACKING_URI"] = connect(create=False).tracking_uri
    except UserError as error:
        parser.error(str(error))
    import mlflow
    import uvicorn
    from mlflow.pyfunc import scoring_server

    from zreward_core.commands.request_limits import RequestLimits

    app = RequestLimits(scoring_server.init(mlflow.pyfunc.load_model(options.model)))
    uvicorn.run(
        app, host=options.host, port=options.port, limit_concurrency=MAX_CONNECTIONS,
        log_level="warning",
    )  # fmt: skip


def return_freed_memory() -> None:
    """Have freed arrays of 1 MB and more returned to the system at once.

    By default glibc raises this limit up to 32 MB as arrays are freed, and keeps smaller ones.
    """
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)


if __name__ == "__main__":
    main()

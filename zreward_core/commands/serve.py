"""serve: the scoring server of a model folder, a registered student or a repository of the hub."""

import contextlib
import ctypes

import uvicorn

MAX_CONNECTIONS = 1024
"""Connections at a time, answers included; more get HTTP 503."""
STOP_SECONDS = 30
"""After a signal to stop, requests that are being answered have this long."""
_M_MMAP_THRESHOLD, _MMAP_THRESHOLD = -3, 1 << 20


def serve(
    source: str,
    host: str,
    port: int,
    *,
    token: str | None = None,
    with_pickle: bool = False,
    max_waiting: int,
    batch_size: int,
    device: str = "auto",
    dtype: str = "auto",
) -> None:
    """Serve a model until interrupted.

    Args:
        source: of a student, as for ``RewardModel.from_pretrained``.
        host: address to listen on.
        port: port to listen on.
        token: that requests must have, if any.
        with_pickle: answer the trainers that send pickles.
        max_waiting: rows that may wait to be scored.
        batch_size, device, dtype: as for ``RewardModel.from_pretrained``.

    Raises:
        UserError: there is no such model, it is not a student, or its files differ from the
            registered ones.
    """
    from zreward_core import RewardModel
    from zreward_core.commands.scoring_app import server_app
    from zreward_core.models.requests import RequestScorer

    return_freed_memory()
    model = RewardModel.from_pretrained(source, device, dtype, batch_size=batch_size)
    app = server_app(
        RequestScorer(model), max_waiting=max_waiting, token=token, with_pickle=with_pickle
    )
    uvicorn.run(
        app,
        host=host,
        port=port,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=STOP_SECONDS,
        log_level="warning",
        access_log=False,
    )


def return_freed_memory() -> None:
    """Have freed arrays of 1 MB and more returned to the system at once.

    By default glibc raises this limit up to 32 MB as arrays are freed, and keeps smaller ones.
    """
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)

"""serve: the scoring server of a model folder, a registered student or a repository of the hub."""

import contextlib
import gc
import os
import re
import socket
import sys

import uvicorn

from zreward_core.config import UserError

SWITCH_SECONDS = 0.0005
"""The thread that scores hands the interpreter to the one that answers after this time, instead of
Python's 5 ms, in which many requests could be answered."""


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
            registered ones; the token is empty, or has other characters than a header; or the
            address cannot be listened on.
    """
    from zreward_core import RewardModel
    from zreward_core.commands.serving.app import server_app
    from zreward_core.commands.serving.connections import server_config
    from zreward_core.models.requests import RequestScorer

    token = _checked_token(token)
    address = _bound(host, port)  # before the model is loaded
    sys.setswitchinterval(SWITCH_SECONDS)
    model = RewardModel.from_pretrained(source, device, dtype, batch_size=batch_size)
    app = server_app(
        RequestScorer(model), max_waiting=max_waiting, token=token, with_pickle=with_pickle
    )
    gc.collect()
    gc.freeze()  # collections need not look at the libraries and the model again
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(server_config(app, log_level="warning")).run(sockets=[address])


def _checked_token(token: str | None) -> str | None:
    """The token, or None for a server without one.

    An empty one, such as that of a secret that is not set, must not open the server to everybody.
    """
    if token is None:  # also where the variable is empty
        token = os.environ.get("ZREWARD_TOKEN")
    if token is not None and not re.fullmatch(r"[!-~]+", token):
        raise UserError(
            "--token (or ZREWARD_TOKEN) is empty, or has spaces or other characters than printable"
            " ASCII: name a token, or leave it out for a server without one"
        )
    return token


def _bound(host: str, port: int) -> socket.socket:
    """A socket with this address, which does not listen yet."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, UnicodeError) as error:  # UnicodeError: no name of a host
        bound.close()
        reason = getattr(error, "strerror", None) or error
        raise UserError(
            f"cannot listen on port {port} of {host!r} ({reason}): choose another --port or --host"
        ) from None
    return bound

"""A vLLM server that a stage starts, waits for, and stops."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from zreward_core.config import UserError
from zreward_core.launch_file import launch_file_name
from zreward_core.runtime import engine_guard
from zreward_core.runtime.engine_settings import Vllm

POLL_SECONDS = 0.2
"""Time between two looks whether the server answers."""
TAIL_LINES = 12
"""Lines of the server's log that are shown if it ends."""
PREFIXES = ("ACCELERATE_", "FSDP_", "ZREWARD_", "PYTHON", "TORCHELASTIC_")
NAMES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""Variables of a stage's processes, which a server with its own torch must not take for its own."""


@contextmanager
def serving(settings: Vllm, stage: str, arguments: Sequence[str], log: Path) -> Iterator[str]:
    """Start a server and wait until it answers; yields its address. It ends with the block.

    Should this process be killed, the server ends too.

    Args:
        stage: for messages.
        arguments: of the server, before those of the settings.
        log: file for the server's output.

    Raises:
        UserError: its Python does not exist, or the server ends or does not answer in time.
    """
    assert settings.python is not None
    python = os.path.expanduser(settings.python)
    if not os.access(python, os.X_OK) or os.path.isdir(python):
        raise UserError(
            f"{launch_file_name()}: the engine of {stage} has python {settings.python!r}, which is"
            " not a program: install vLLM in an environment of its own and name its python"
        )
    port = _free_port()
    command = [python, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--host", "127.0.0.1", "--port", str(port), *arguments, *settings.arguments]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        guard = subprocess.Popen(
            [sys.executable, "-I", engine_guard.__file__, *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=server_environment() | settings.environment,
            start_new_session=True,  # Ctrl-C reaches the stage, which stops the server
        )
    try:
        address = f"http://127.0.0.1:{port}"
        _wait_for(guard, f"{address}/health", settings.start_timeout, stage, log)
        yield address
    finally:
        assert guard.stdin is not None
        guard.stdin.close()
        guard.wait()


def server_environment() -> dict[str, str]:
    """This process's environment without what makes it a worker, and with changes of adapters."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in NAMES and not name.startswith(PREFIXES)
    }
    return kept | {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True", "VLLM_NO_USAGE_STATS": "1"}


def _wait_for(guard: subprocess.Popen, address: str, seconds: int, stage: str, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while guard.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise UserError(
                    f"the engine of {stage} does not answer after {seconds} seconds: see {log}, or"
                    f" raise its start_timeout in {launch_file_name()}"
                ) from None
        time.sleep(POLL_SECONDS)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL_LINES:]
    raise UserError(
        f"the engine of {stage} ended with exit code {guard.returncode} before it answered: correct"
        f" its entry in {launch_file_name()}. The end of " + "\n".join([f"{log}:", *lines])
    )


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])

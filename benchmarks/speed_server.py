"""The scoring server with clients in processes of their own, for `benchmarks/speed.py`."""

import base64
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.speed_models import ROOT

PROCESSES = 2
"""Processes that share the clients."""
START_SECONDS = 240.0
"""The server starts in at most this time."""


class Served:
    """A running server and its clients."""

    def __init__(self, port: int, clients: list[subprocess.Popen[str]]) -> None:
        self._port = port
        self._clients = clients

    def round(self) -> None:
        """All clients send all their requests.

        Raises:
            RuntimeError: a client has failed; its error is on standard error.
        """
        for client in self._clients:
            assert client.stdin is not None
            client.stdin.write("go\n")
            client.stdin.flush()
        for client in self._clients:
            _expect(client, "done")

    def batches(self) -> tuple[float, float]:
        """Batches and rows that the server has scored so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics") as answer:
            text = answer.read().decode()
        count, rows = (
            float(re.search(rf"^zreward_batch_rows_{name} (\S+)$", text, re.MULTILINE)[1])  # type: ignore[index]
            for name in ("count", "sum")
        )
        return count, rows


@contextmanager
def serving(folder: Path) -> Iterator[int]:
    """Port of `zreward serve` of a model folder, as its users start it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "zreward_core", "serve", str(folder), "--port", str(port)]
    with subprocess.Popen([*command, "--device", "cpu"], env=environment()) as process:
        try:
            _wait(port, process)
            yield port
        finally:
            process.terminate()


@contextmanager
def clients(
    port: int, number: int, prompts: Sequence[str], images: Sequence[bytes], size: int, folder: Path
) -> Iterator[Served]:
    """Clients that send ``size`` images in a request.

    Args:
        number: of clients.
        folder: for the requests' bodies.
    """
    items = [
        {"prompt": prompt, "image": base64.b64encode(image).decode()}
        for prompt, image in zip(prompts, images, strict=True)
    ]
    bodies = [
        json.dumps({"items": items[start : start + size]}) for start in range(0, len(items), size)
    ]
    with ExitStack() as stack:
        running = []
        for index in range(PROCESSES):
            path = folder / f"bodies_{index}.json"
            path.write_text(json.dumps(bodies[index::PROCESSES]))
            command = [sys.executable, str(Path(__file__).with_name("speed_clients.py"))]
            process = stack.enter_context(
                subprocess.Popen(
                    [*command, str(port), str(number // PROCESSES), str(path)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(process.terminate)
            running.append(process)
        for process in running:
            _expect(process, "ready")
        yield Served(port, running)


def environment() -> dict[str, str]:
    """Of the server: one thread, this code."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def _expect(client: subprocess.Popen[str], word: str) -> None:
    assert client.stdout is not None
    if client.stdout.readline().strip() != word:
        raise RuntimeError(f"a client of the server has ended with {client.wait()}")


def _wait(port: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("the server has not started; its messages are above")

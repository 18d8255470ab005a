"""A tiny student behind the scoring server's application, in this process."""

import base64
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import uvicorn
from PIL import Image
from starlette.testclient import TestClient
from starlette.types import ASGIApp

from tests.tiny_models import PROMPT, SIZES
from zreward_core import RewardModel
from zreward_core.commands.serving.app import server_app
from zreward_core.commands.serving.connections import server_config
from zreward_core.images import encode_png
from zreward_core.models.requests import RequestScorer
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import load_rubric

REPOSITORY = Path(__file__).parents[2]
RNG = np.random.default_rng(3)


def tiny_model() -> RewardModel:
    rubric = load_rubric(REPOSITORY / "data/rubric.yaml")
    prompts = ["a red circle on a blue square"]
    return RewardModel(build_backbone(SIZES, prompts, rubric, PROMPT, 0), batch_size=16)


def png(width: int = 40, height: int = 32) -> bytes:
    return encode_png(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


def jpeg(content: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(content)).save(buffer, format="JPEG")
    return buffer.getvalue()


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


@contextmanager
def client_of(model: RewardModel, **options: object) -> Iterator[TestClient]:
    app = server_app(RequestScorer(model), **options)  # type: ignore[arg-type]
    with TestClient(app, base_url="http://127.0.0.1:5001") as client:
        yield client


@contextmanager
def running_server(app: ASGIApp) -> Iterator[tuple[str, uvicorn.Server]]:
    """Address of a server in a thread of this process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(server_config(app, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{port}", server
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()

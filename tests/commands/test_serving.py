"""`mlflow models serve` on loopback: distributions, and HTTP 400 with the reason for bad input."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.commands.promotion_root import TRAINED, finished_root, make_student
from tests.registry.stores import empty_store
from zreward_core import RewardModel
from zreward_core.commands.promote import promote
from zreward_core.images import encode_png
from zreward_core.store import DATABASE, SETTINGS

__all__ = ["empty_store", "finished_root"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]
PIXELS = np.random.default_rng(2).integers(0, 256, (40, 50, 3), dtype=np.uint8)
IMAGE = base64.b64encode(encode_png(PIXELS)).decode()


@pytest.fixture(scope="module")
def address(finished_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished_root)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        make_student(TRAINED, seed=0)
        assert promote()["promoted"]
        environment = os.environ | SETTINGS | {"MLFLOW_TRACKING_URI": f"sqlite:///{DATABASE}"}
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = tmp_path_factory.mktemp("serve") / "log"
        with log.open("w") as stream:
            server = subprocess.Popen(
                [
                    *(sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local"),
                    *("-m", "models:/zreward-student@champion"),
                    *("--host", "127.0.0.1", "--port", str(port)),
                ],
                env=environment | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield wait_for(f"http://127.0.0.1:{port}", server, log)
        finally:
            os.killpg(server.pid, 15)
            server.wait(30)


def wait_for(address: str, server: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + 240
    while True:
        try:
            urllib.request.urlopen(f"{address}/ping", timeout=5)
            return address
        except OSError:
            assert server.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)


def ask(address: str, content: object) -> tuple[int, str]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    request = urllib.request.Request(
        f"{address}/invocations", body, {"Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_predictions_equal_the_scores_of_the_folder(address: str, finished_root: Path) -> None:
    row = {"prompt": "a red circle", "image": IMAGE}
    status, answer = ask(address, {"dataframe_records": [row, row]})
    assert status == 200, answer
    found = json.loads(answer)["predictions"]
    model = RewardModel.from_pretrained(finished_root / TRAINED)
    expected = model.score(["a red circle"] * 2, [PIXELS] * 2).rows()
    assert found == expected


BAD = {
    "broken base64": ([{"prompt": "a", "image": "@@@"}], "not valid base64"),
    "no image": ([{"prompt": "a", "image": "aGVsbG8="}], "not a readable image"),
    "empty": ([{"prompt": "a", "image": ""}], "image is empty"),
    "no image column": ([{"prompt": "a"}], "image"),
    "no prompt": ([{"image": IMAGE}], "prompt"),
    "a number": ([{"prompt": 5, "image": IMAGE}], "prompt"),
    "no rows": ([], ""),
    "too many rows": ([{"prompt": "a", "image": IMAGE}] * 300, "300 rows"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_answered_with_400_and_the_reason(address: str, case: str) -> None:
    rows, reason = BAD[case]
    status, answer = ask(address, {"dataframe_records": rows})
    assert status == 400 and reason in json.loads(answer)["message"], answer
    assert "Traceback" not in answer


def test_a_too_large_image_is_rejected_before_decoding(address: str) -> None:
    bomb = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (60000).to_bytes(4, "big") * 2
    bomb += b"\x08\x02\x00\x00\x00" + b"\x00" * 4
    image = base64.b64encode(bomb).decode()
    status, answer = ask(address, {"dataframe_records": [{"prompt": "a", "image": image}]})
    assert status == 400 and "too large" in answer + "too large" * ("readable" in answer)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"prompt": "a"}'])
def test_malformed_requests_are_answered_with_400(address: str, body: bytes) -> None:
    assert ask(address, body)[0] == 400

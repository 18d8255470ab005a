"""The scoring server on loopback: distributions, and HTTP 400 or 413 with the reason."""

import base64
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.commands.promotion_root import TRAINED, finished_root, make_student
from tests.registry.stores import empty_store
from zreward_core.commands.promote import promote
from zreward_core.images import encode_png

__all__ = ["empty_store", "finished_root"]  # fixtures
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PIXELS = np.random.default_rng(2).integers(0, 256, (40, 50, 3), dtype=np.uint8)
IMAGE = base64.b64encode(encode_png(PIXELS)).decode()


SOURCES = {"registered": "models:/zreward-student@champion", "folder": str(TRAINED)}


@pytest.fixture(scope="module", params=SOURCES)
def server(
    request: pytest.FixtureRequest, finished_root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, int]]:
    """Address and process id of a scoring server of a registered version, and of a folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished_root)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        make_student(TRAINED, seed=0)
        if request.param == "registered":
            assert promote()["promoted"]
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        log = tmp_path_factory.mktemp("serve") / "log"
        with log.open("w") as stream:
            process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "zreward_core", "serve"),
                    *(SOURCES[request.param], "--port", str(port)),
                ],
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield wait_for(f"http://127.0.0.1:{port}", process, log), process.pid
        finally:
            os.killpg(process.pid, 15)
            process.wait(30)


@pytest.fixture(scope="module")
def address(server: tuple[str, int]) -> str:
    return server[0]


def wait_for(address: str, process: subprocess.Popen, log: Path) -> str:
    deadline = time.monotonic() + 240
    while True:
        try:
            urllib.request.urlopen(f"{address}/ping", timeout=5)
            return address
        except OSError:
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)


def ask(address: str, content: object, content_type: str = "application/json") -> tuple[int, str]:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": content_type})
    try:
        with urllib.request.urlopen(request, timeout=300) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_predictions_equal_the_scores_of_the_folder(address: str, finished_root: Path) -> None:
    row = {"prompt": "a red circle", "image": IMAGE}
    status, answer = ask(address, {"dataframe_records": [row, row]})
    assert status == 200, answer
    found = json.loads(answer)["predictions"]
    # in a new process, as the server: rounding can differ in one that has trained
    command = [sys.executable, "-c", SCORED, str(finished_root / TRAINED), IMAGE]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert found == json.loads(done.stdout)


SCORED = """
import base64, json, sys
from zreward_core import RewardModel
model = RewardModel.from_pretrained(sys.argv[1])
image = base64.b64decode(sys.argv[2])
print(json.dumps(model.score(["a red circle"] * 2, [image] * 2).rows()))
"""


def png(height: int, width: int) -> str:
    """A black image, which is small as a file."""
    return base64.b64encode(encode_png(np.zeros((height, width, 3), dtype=np.uint8))).decode()


BAD = {
    "broken base64": ([{"prompt": "a", "image": "@@@"}], "not valid base64"),
    "no image": ([{"prompt": "a", "image": "aGVsbG8="}], "not a readable image"),
    "empty": ([{"prompt": "a", "image": ""}], "image is empty"),
    "no image column": ([{"prompt": "a"}], "image"),
    "no prompt": ([{"image": IMAGE}], "prompt"),
    "blank prompt": ([{"prompt": " ", "image": IMAGE}], "row 0: the prompt is empty"),
    "a number": ([{"prompt": 5, "image": IMAGE}], "prompt"),
    "no rows": ([], ""),
    "a nested prompt": ([{"prompt": [["a"]], "image": IMAGE}], "prompt"),
    "half a character": ([{"prompt": "\ud800", "image": IMAGE}], "not Unicode text"),
    "too narrow": ([{"prompt": "a", "image": png(1, 900)}], "too narrow"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_answered_with_400_and_the_reason(address: str, case: str) -> None:
    rows, reason = BAD[case]
    status, answer = ask(address, {"dataframe_records": rows})
    assert status == 400 and reason in json.loads(answer)["message"], answer
    assert "Traceback" not in answer


def test_a_too_large_image_is_rejected_before_decoding(address: str) -> None:
    header = b"IHDR" + (60000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    bomb = b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + header
    bomb += zlib.crc32(header).to_bytes(4, "big") + b"\x00\x00\x00\x00IDAT"
    image = base64.b64encode(bomb).decode()
    status, answer = ask(address, {"dataframe_records": [{"prompt": "a", "image": image}]})
    assert status == 400 and "3600000000 pixels" in answer


def rows(number: int, prompt: str = "a", image: str = IMAGE) -> dict[str, object]:
    return {"dataframe_records": [{"prompt": prompt, "image": image}] * number}


TOO_LARGE: dict[str, tuple[Callable[[], object], str]] = {
    "rows": (lambda: rows(257), "257 rows"),
    "pixels of an image": (lambda: rows(1, image=png(4097, 4096)), "4096 x 4097 is too large"),
    "pixels together": (lambda: rows(17, image=png(4096, 4096)), "row 16: 285,212,672 pixels"),
    "tokens": (lambda: rows(80, "red " * 900), "tokens so far"),
    "characters": (lambda: rows(1, "a" * 1_100_000), "characters so far"),
    "bytes": (lambda: b" " * 70_000_000 + b"{}", "more than 64,000,000 bytes"),
    "values": (lambda: b'{"dataframe_records": [' + b"{}," * 1_000_000 + b"{}]}", "commas"),
}


@pytest.mark.parametrize("case", TOO_LARGE)
def test_a_request_over_a_limit_is_answered_with_413(address: str, case: str) -> None:
    content, reason = TOO_LARGE[case]
    status, answer = ask(address, content())
    assert status == 413 and reason in json.loads(answer)["message"], answer
    assert len(answer) < 3000 and "Traceback" not in answer


MALFORMED = {
    "nothing": b"",
    "torn": b"{",
    "torn and long": b'{"dataframe_records": [' + b" " * 1_000_000,
    "a list": b"[]",
    "no rows": b'{"prompt": "a"}',
    "no columns": b'{"dataframe_split": {"data": [1]}}',
    "a long number": b'{"dataframe_records": [{"prompt": ' + b"9" * 5000 + b"}]}",
    "lists in lists": b"[" * 150_000,
    "lists in a row": b'{"dataframe_records": [{"prompt": ' + b"[" * 900 + b"]" * 900 + b"}]}",
    "objects in objects": b'{"a":' * 60_000 + b"1" + b"}" * 60_000,
    "not text": b"\xff\xfe{",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_requests_are_answered_with_400(address: str, case: str) -> None:
    status, answer = ask(address, MALFORMED[case])
    assert status == 400 and json.loads(answer)["message"], answer
    assert len(answer) < 3000 and "Traceback" not in answer and 'File "' not in answer


def test_other_types_than_json_are_refused(address: str) -> None:
    for kind in ("text/csv", "application/vnd.apache.parquet", ""):
        assert ask(address, b"prompt,image\na,b\n", kind)[0] == 415


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(IMAGE),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["prompt", "image", "data", "columns"]), inner, max_size=3
        )
    ),
    max_leaves=8,
)
BODIES = st.dictionaries(
    st.sampled_from(["dataframe_records", "dataframe_split", "instances", "inputs", "params"]),
    VALUES,
    max_size=2,
) | st.builds(lambda inner: {"dataframe_records": [inner]}, VALUES)


@settings(
    max_examples=100, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(body=BODIES)
def test_no_json_is_answered_with_an_internal_error(address: str, body: object) -> None:
    status, answer = ask(address, body)
    assert status in (200, 400, 413), (body, answer)
    assert "Traceback" not in answer and 'File "' not in answer


def memory(process: int, field: str) -> int:
    """Resident memory of a process, in MB: VmRSS now, VmHWM at most since ``clear_refs``."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) // 1024


def test_memory_returns_after_large_and_refused_requests(server: tuple[str, int]) -> None:
    address, process = server
    small, large = rows(64, image=png(32, 32)), rows(64, image=png(1024, 1024))
    for content in (small, large):
        assert ask(address, content)[0] == 200
    usual = peak(server, small)
    assert peak(server, large) <= usual + 100  # 64 decoded images have 192 MB
    before = memory(process, "VmRSS")
    for _ in range(2):
        for make, _ in TOO_LARGE.values():
            assert ask(address, make())[0] == 413
        for body in MALFORMED.values():
            assert ask(address, body)[0] == 400
    assert memory(process, "VmRSS") <= before + 100


def peak(server: tuple[str, int], content: object) -> int:
    """Highest resident memory during a request, in MB."""
    address, process = server
    Path(f"/proc/{process}/clear_refs").write_text("5")  # resets VmHWM
    assert ask(address, content)[0] == 200
    return memory(process, "VmHWM")

"""A rollout engine in launch.yaml, and a server that is started and always stopped.

The server is a program of the standard library in the place of vLLM's.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from zreward_core.cli import STAGES
from zreward_core.config import UserError
from zreward_core.runtime.engine_server import server_environment, serving
from zreward_core.runtime.engine_settings import Vllm
from zreward_core.runtime.launch_settings import read_engine, read_launcher

STARTED = {"kind": "vllm", "python": sys.executable}
JOINED = {"kind": "vllm", "url": "http://127.0.0.1:8000"}
SERVER = """
import os, signal, subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

if "--broken" in sys.argv:
    sys.exit("no such model")
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
Path("pids").write_text(f"{os.getpid()} {worker.pid}")
Path("arguments").write_text(" ".join(sys.argv[1:]))
if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if "--slow" in sys.argv else 200)
        self.end_headers()

    def log_message(self, *arguments):
        pass


HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "environment/vllm/entrypoints/openai"
    package.mkdir(parents=True)
    (package / "api_server.py").write_text(SERVER)
    return tmp_path


def settings(*arguments: str, **changed: object) -> Vllm:
    environment = {"PYTHONPATH": "environment"}
    return Vllm(**STARTED | {"arguments": arguments, "environment": environment} | changed)


def processes() -> list[psutil.Process]:
    return [psutil.Process(int(pid)) for pid in Path("pids").read_text().split()]


def test_a_server_ends_with_the_block() -> None:
    with serving(settings("--own", "1"), "label", ["--model", "m"], Path("logs/server.log")) as url:
        running = processes()
        assert all(process.is_running() for process in running)
        port = url.rpartition(":")[2]
        assert Path("arguments").read_text() == f"--host 127.0.0.1 --port {port} --model m --own 1"
    assert not psutil.wait_procs(running, timeout=10)[1]
    with (
        pytest.raises(KeyboardInterrupt),
        serving(settings(), "label", [], Path("logs/server.log")),
    ):
        running = processes()
        raise KeyboardInterrupt
    assert not psutil.wait_procs(running, timeout=10)[1]


OWNER = """
import time
from pathlib import Path
from zreward_core.runtime.engine_server import serving
from zreward_core.runtime.engine_settings import Vllm

settings = Vllm(kind="vllm", python=sys.executable, environment={"PYTHONPATH": "environment"})
with serving(settings, "label", [], Path("logs/server.log")):
    Path("ready").touch()
    time.sleep(120)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_server_ends_with_a_stage_that_is_killed(number: signal.Signals) -> None:
    # a process that a shell starts in the background ignores SIGINT, and so do those it starts
    heeded = "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    owner = subprocess.Popen([sys.executable, "-c", heeded + OWNER])
    deadline = time.monotonic() + 120
    while not Path("ready").exists():
        assert time.monotonic() < deadline and owner.poll() is None
        time.sleep(0.05)
    running = processes()
    owner.send_signal(number)
    owner.wait(30)
    assert not psutil.wait_procs(running, timeout=30)[1]


def test_a_server_that_does_not_start_is_one_error() -> None:
    with (
        pytest.raises(UserError, match=r"(?s)exit code 1 .*server\.log:\nno such model"),
        serving(settings("--broken"), "label", [], Path("logs/server.log")),
    ):
        pass
    with (
        pytest.raises(UserError, match="does not answer after 6 seconds"),
        serving(settings("--slow", start_timeout=6), "label", [], Path("logs/server.log")),
    ):
        pass
    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(int(pid)) for pid in Path("pids").read_text().split()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with (
        pytest.raises(UserError, match=r"python '/none/python', which is not a program"),
        serving(settings(python="/none/python"), "label", [], Path("logs/server.log")),
    ):
        pass


def test_a_server_is_no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "ACCELERATE_USE_CPU", "ZREWARD_WORKER", "PYTHONPATH"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("HF_HOME", "cache")
    found = server_environment()
    assert not {"RANK", "WORLD_SIZE", "ACCELERATE_USE_CPU", "ZREWARD_WORKER"} & set(found)
    assert "PYTHONPATH" not in found and found["HF_HOME"] == "cache"
    assert found["PATH"] == os.environ["PATH"]


def write(**content: object) -> None:
    Path("launch.yaml").write_text(yaml.safe_dump(content))


def test_a_stage_without_an_engine_is_local() -> None:
    assert read_engine("label") is None
    write(engines={"vllm": STARTED}, rollouts={"train_gdso": "vllm", "predict": "local"})
    assert read_engine("label") is None and read_engine("predict") is None
    found = read_engine("train_gdso")
    assert found is not None and found.python == sys.executable


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"engines": {"a": {"kind": "sglang"}}}, "'engines.a.kind'"),
        ({"engines": {"a": {"kind": "vllm"}}}, "give python"),
        ({"engines": {"a": STARTED | JOINED}}, "give python"),
        ({"engines": {"a": JOINED | {"arguments": ["--seed"]}}}, "those of a started server"),
        ({"engines": {"a": STARTED | {"model": "m"}}}, "model is a name at a joined server"),
        ({"engines": {"a": JOINED | {"url": "127.0.0.1:8000"}}}, "engines.a.url"),
        ({"engines": {"a": JOINED | {"concurrency": 0}}}, "engines.a.concurrency"),
        ({"engines": {"local": JOINED}}, "rename the engine"),
        ({"rollouts": {"train_risd": "local"}}, "'rollouts.train_risd' is not a stage that"),
        ({"rollouts": {"label": "big"}}, "names the engine 'big'"),
    ],
)
def test_errors_name_the_file_and_the_key(content: dict, message: str) -> None:
    write(**content)
    for read in (read_engine, lambda stage: read_launcher(stage, STAGES)):
        with pytest.raises(UserError, match=r"launch\.yaml") as error:
            read("label")
        assert message in str(error.value)

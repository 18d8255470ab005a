"""launch.yaml, and started processes: exit codes, signals, a UserError shown once."""

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
from zreward_core.runtime.launch import job_of, launch
from zreward_core.runtime.launch_accelerate import fsdp_environment, run_processes
from zreward_core.runtime.launch_settings import (
    Accelerate,
    Fsdp,
    LaunchFile,
    Ray,
    read_launcher,
)
from zreward_core.runtime.worker import ERROR_FILE, LAUNCHER, TRAINER, WORKER, owns_run

ROOT = Path(__file__).parents[2]
TWO = Accelerate(kind="accelerate", processes=2, cpu=True)
CPUS = {"kind": "accelerate", "processes": 2}
RAY = {"kind": "ray"}


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(**content: object) -> None:
    Path("launch.yaml").write_text(yaml.safe_dump(content))


def test_an_unlisted_stage_runs_in_this_process() -> None:
    assert read_launcher("label", STAGES) is None
    write(launchers={"two": CPUS}, stages={"train_risd": "two"})
    assert read_launcher("label", STAGES) is None
    write(stages={"label": "local"})
    assert read_launcher("label", STAGES) is None
    ran = []
    launch("label", [], STAGES, lambda: ran.append(True))
    assert ran == [True]


@pytest.mark.parametrize("file", sorted((ROOT / "params/launch").glob("*.yaml")), ids=str)
def test_the_shipped_files_of_profiles_are_valid(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("launch.yaml").write_bytes(file.read_bytes())
    for stage in STAGES:
        read_launcher(stage, STAGES)


def test_the_demo_does_not_depend_on_the_number_of_cores() -> None:
    content = LaunchFile(**yaml.safe_load((ROOT / "launch.yaml").read_text()))
    assert set(content.stages.values()) == {"cpus"}
    cpus = content.launchers["cpus"]
    assert isinstance(cpus, Accelerate) and (cpus.processes, cpus.threads) == (2, 1)
    kinds = {launcher.kind for launcher in content.launchers.values()}
    assert kinds == {"accelerate", "ray"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"launchers": {"a": {"kind": "slurm"}}}, "'launchers.a'"),
        ({"launchers": {"a": {**CPUS, "gpus": 3}}}, "launchers.a.accelerate.gpus"),
        ({"launchers": {"a": {**CPUS, "processes": 0}}}, "processes"),
        ({"launchers": {"a": {**CPUS, "machines": 2}}}, "main_ip"),
        ({"launchers": {"a": {**RAY, "gpus": -1}}}, "launchers.a.ray.gpus"),
        ({"stages": {"train": "local"}}, "'stages.train' is not a stage"),
        ({"stages": {"label": "big"}}, "names the launcher 'big'"),
        ({"stages": {"validate": "a"}, "launchers": {"a": CPUS}}, "runs in one process"),
        (
            {"stages": {"label": "a"}, "launchers": {"a": {**CPUS, "fsdp": {}}}},
            "does not shard",
        ),
        ({"stages": {"label": "a"}, "launchers": {"a": {**RAY, "inside": "b"}}}, "'inside'"),
        (
            {
                "stages": {"label": "a"},
                "launchers": {"a": {**RAY, "inside": "b"}, "b": RAY},
            },
            "must name a launcher of kind accelerate",
        ),
        ({"launchers": {"a": {**RAY, "nodes": 2}}}, "several nodes need inside"),
        (
            {"stages": {"train_risd": "a"}, "launchers": {"a": {**CPUS, "fsdp": {"replicas": 2}}}},
            "'fsdp.replicas' is 2, and the stage train_risd has 2 processes",
        ),
        (
            {
                "stages": {"train_risd": "a"},
                "launchers": {
                    "a": {**RAY, "nodes": 2, "inside": "b"},
                    "b": {**CPUS, "fsdp": {"replicas": 3}},
                },
            },
            "'fsdp.replicas' is 3, and the stage train_risd has 4 processes",
        ),
        (
            {
                "stages": {"validate": "a"},
                "launchers": {
                    "a": {**RAY, "nodes": 2, "inside": "b"},
                    "b": {**CPUS, "processes": 1},
                },
            },
            "runs in one process",
        ),
    ],
)
def test_errors_name_the_file_and_the_key(content: dict, message: str) -> None:
    write(**content)
    stage = next(iter(content.get("stages", {"label": ""})))
    with pytest.raises(UserError, match=r"launch\.yaml") as error:
        read_launcher(stage, STAGES)
    assert message in str(error.value)


def test_a_job_uses_the_launcher_inside() -> None:
    write(launchers={"two": CPUS, "job": {**RAY, "inside": "two"}}, stages={"label": "job"})
    assert isinstance(read_launcher("label", STAGES), Ray)
    assert isinstance(read_launcher("label", STAGES, "two"), Accelerate)


@pytest.mark.parametrize(("nodes", "inner"), [(1, {LAUNCHER: "two"}), (2, {TRAINER: "1"})])
def test_a_job_starts_processes_on_its_node_or_workers_on_several(nodes: int, inner: dict) -> None:
    settings = {"root": "/project", "command": "python -m zreward_core", "environment": {"A": "b"}}
    launcher = Ray(kind="ray", nodes=nodes, inside="two", **settings)
    command, environment = job_of(launcher, "label", ["--params", "p.yaml"], Path("m.error"))
    expected = ["--root", "/project", "label", "--params", "p.yaml"]
    assert command == ["python", "-m", "zreward_core", *expected]
    named = {WORKER: "1", "ZREWARD_TRACKING": "off", ERROR_FILE: "m.error", "A": "b"}
    assert environment == named | inner


def test_commands_may_be_listed_with_the_stages() -> None:
    write(launchers={"two": CPUS}, stages={"gate": "two", "score": "two"})
    assert isinstance(read_launcher("gate", STAGES), Accelerate)
    assert read_launcher("label", STAGES) is None


def test_one_process_of_all_machines_owns_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def owner(**variables: str) -> bool:
        with monkeypatch.context() as patch:
            for name, value in variables.items():
                patch.setenv(name, value)
            return owns_run()

    assert owner() and owner(ZREWARD_MACHINE_RANK="0") and owner(RANK="0", WORLD_SIZE="2")
    assert not owner(ZREWARD_MACHINE_RANK="1")
    assert not owner(RANK="1", WORLD_SIZE="2")
    assert not owner(ZREWARD_WORKER="1")


def test_accelerate_reads_the_fsdp_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate import FullyShardedDataParallelPlugin, ParallelismConfig
    from torch.distributed.fsdp import CPUOffloadPolicy

    settings = Fsdp(
        layers=["One", "Two"], reshard_after_forward=False, cpu_offload=True, replicas=2
    )
    for name, value in fsdp_environment(settings).items():
        monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is False
    assert isinstance(plugin.cpu_offload, CPUOffloadPolicy)
    assert plugin.transformer_cls_names_to_wrap == ["One", "Two"]
    assert ParallelismConfig().dp_replicate_size == 2


def python(code: str) -> list[str]:
    return [sys.executable, "-c", "import os, signal, sys, time\n" + code]


def test_processes_know_each_other() -> None:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GIVEN")
    code = f"open(os.environ['RANK'], 'w').write(' '.join(os.environ[n] for n in {names}))"
    assert run_processes(TWO, python(code), {"GIVEN": "yes"}) == 0
    zero, one = (Path(rank).read_text().split() for rank in "01")
    assert zero[:4] == ["0", "0", "2", "127.0.0.1"] and one[:3] == ["1", "1", "2"]
    assert zero[4] == one[4] and zero[5] == "yes"


def test_machines_count_ranks_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZREWARD_MACHINE_RANK", "1")
    settings = Accelerate(
        kind="accelerate", processes=2, machines=2, main_ip="10.0.0.1", main_port=29400
    )
    code = "open(os.environ['RANK'], 'w').write(os.environ['WORLD_SIZE'])"
    assert run_processes(settings, python(code), {}) == 0
    assert [Path(rank).read_text() for rank in "23"] == ["4", "4"]


@pytest.mark.parametrize(
    ("code", "expected"),
    [("sys.exit(2)", 2), ("sys.exit(7)", 7), ("os.kill(os.getpid(), signal.SIGKILL)", 137)],
)
def test_the_first_failure_ends_all_and_its_code_comes_back(code: str, expected: int) -> None:
    start = time.monotonic()
    command = python(f"time.sleep(60) if os.environ['RANK'] == '0' else None\n{code}")
    assert run_processes(TWO, command, {}) == expected
    assert time.monotonic() - start < 30


LAUNCHING = """
from zreward_core.runtime.launch_accelerate import run_processes
from zreward_core.runtime.launch_settings import Accelerate
worker = '''
import os, time
from pathlib import Path
from zreward_core.runtime.worker import die_with_parent
die_with_parent()
Path("pid" + os.environ["RANK"]).write_text(str(os.getpid()))
time.sleep(120)
'''
settings = Accelerate(kind="accelerate", processes=2, cpu=True)
sys.exit(run_processes(settings, [sys.executable, "-c", worker], {}))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_to_the_launcher_ends_its_processes(number: signal.Signals) -> None:
    launcher = subprocess.Popen(python(LAUNCHING))
    files = [Path("pid0"), Path("pid1")]
    deadline = time.monotonic() + 60
    while not all(file.is_file() and file.read_text() for file in files):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    workers = [psutil.Process(int(file.read_text())) for file in files]
    launcher.send_signal(number)
    expected = -number if number == signal.SIGKILL else 128 + number
    assert launcher.wait(30) == expected
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert not alive


def test_a_user_error_in_workers_is_shown_once() -> None:
    write(launchers={"two": {**CPUS, "cpu": True}}, stages={"label": "two"})
    Path("params.yaml").write_text("seed: 1\nlabel: {}\n")
    done = subprocess.run(
        [sys.executable, "-P", "-m", "zreward_core", "label"],
        env=os.environ | {"ZREWARD_TRACKING": "off"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.count("data/candidates/pool.parquet not found") == 1
    assert "Traceback" not in done.stderr
    assert not list(Path(".zreward/launch").iterdir())

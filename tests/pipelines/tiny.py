"""A project of four short stages for the real DVC, and its assets in Dagster."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import yaml
from dagster import AssetKey, DagsterInstance, ExecuteInProcessResult
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from pipelines.definitions import build_definitions
from pipelines.dvc_state import outs_version, read_status
from pipelines.sync import events
from pipelines.versions import read_recorded
from zreward_core.dvc import closure, read_graph, read_lock

BIN = Path(sys.executable).parent
PROJECT = Path(__file__).parents[2]
WAIT = 240
"""Seconds until a run's first stage must have started."""
STAGES = ("first", "left", "right", "last")
GRAPH = """
stages:
  first:
    desc: Two files, read by one stage each.
    cmd: python code/first.py
    deps: [code/first.py, raw.txt]
    params: [first]
    outs: [data/first]
    meta: {group: models, gpu: true}
  left:
    cmd: python code/left.py
    deps: [code/left.py, data/first/left.txt]
    outs: [data/left.txt]
  right:
    cmd: python code/right.py
    deps: [code/right.py, data/first/right.txt]
    params: [right]
    outs: [data/right.txt, data/right_too.txt]
  last:
    cmd: python code/last.py
    deps: [code/last.py, data/left.txt, data/right.txt]
    outs: [data/last.txt]
"""
CODE = {
    "first": """
import pathlib, time, yaml
params = yaml.safe_load(open("params.yaml"))["first"]
time.sleep(params["seconds"])
folder = pathlib.Path("data/first")
folder.mkdir(parents=True, exist_ok=True)
for side in ("left", "right"):
    (folder / f"{side}.txt").write_text(f"{side} {params[side]}")
""",
    "left": "open('data/left.txt', 'w').write(open('data/first/left.txt').read().upper())",
    "right": """
import yaml
text = open("data/first/right.txt").read() * yaml.safe_load(open("params.yaml"))["right"]
open("data/right.txt", "w").write(text)
open("data/right_too.txt", "w").write("too")
""",
    "last": """
text = open("data/left.txt").read() + open("data/right.txt").read()
open("data/last.txt", "w").write(text)
""",
}
PARAMS = {"first": {"left": 1, "right": 1, "seconds": 0}, "right": 1}


def make(root: Path) -> Path:
    """Write the project and make it a DVC workspace."""
    (root / "code").mkdir(parents=True)
    (root / "dvc.yaml").write_text(GRAPH)
    (root / "raw.txt").write_text("raw")
    for name, text in CODE.items():
        (root / "code" / f"{name}.py").write_text(text)
    (root / "params.yaml").write_text(yaml.safe_dump(PARAMS))
    dvc(root, "init", "--no-scm", "--quiet")
    dvc(root, "config", "core.analytics", "false")
    return root


def execute(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as in a shell with this environment activated."""
    environment = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)


def dvc(root: Path, *arguments: str) -> str:
    """Run DVC, which must succeed."""
    done = execute(root, "dvc", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def set_param(root: Path, section: str, key: str | None, value: object) -> None:
    """Change one value of params.yaml."""
    path = root / "params.yaml"
    params = yaml.safe_load(path.read_text())
    if key is None:
        params[section] = value
    else:
        params[section][key] = value
    path.write_text(yaml.safe_dump(params))


def materialize(
    instance: DagsterInstance, root: Path, *stages: str, raise_on_error: bool = True
) -> ExecuteInProcessResult:
    """Materialize stages (all without any) as the UI would, in this process."""
    job = build_definitions(root).resolve_implicit_global_asset_job_def()
    return job.execute_in_process(
        instance=instance,
        asset_selection=[AssetKey(stage) for stage in stages or tuple(read_graph(root))],
        raise_on_error=raise_on_error,
    )


def start_first(root: Path, home: Path) -> subprocess.Popen[bytes]:
    """Start a Dagster run, in a separate process, whose stage `first` takes ten minutes.

    Args:
        home: folder of its Dagster instance, created here.
    """
    set_param(root, "first", "seconds", 600)
    home.mkdir()
    shutil.copy(PROJECT / "dagster.yaml", home)
    run = subprocess.Popen(
        [str(BIN / "dagster"), "asset", "materialize", "--select", "first",
         "-m", "pipelines.definitions"],
        cwd=root, env=os.environ | {"DAGSTER_HOME": str(home)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + WAIT
    while not runs_first(root):
        assert time.monotonic() < deadline, "the stage does not start"
        time.sleep(0.1)
    return run


def runs_first(root: Path) -> bool:
    """Whether the code of the stage `first` runs; DVC also has processes before that."""
    lines = (" ".join(process.info["cmdline"]) for process in first_processes(root))
    return any("code/first.py" in line for line in lines)


def first_processes(root: Path) -> list[psutil.Process]:
    """Processes that run the stage `first` of a project, from the shell to the code."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        line = " ".join(process.info["cmdline"] or [])
        if process.info["cwd"] == str(root) and ("code/first.py" in line or "/dvc " in line):
            found.append(process)
    return found


def sync(instance: DagsterInstance, root: Path) -> list[str]:
    """Report the sensor's events to Dagster; returns their assets."""
    found = events(instance, read_graph(root), root)
    for event in found:
        instance.report_runless_asset_event(event)
    return [event.asset_key.to_user_string() for event in found]


def stale(instance: DagsterInstance, root: Path) -> set[str]:
    """Stages that are stale or missing in Dagster."""
    graph = build_definitions(root).get_repository_def().asset_graph
    resolver = CachingStaleStatusResolver(instance, graph, LoadingContextForTest(instance))
    fresh = StaleStatus.FRESH
    return {stage for stage in read_graph(root) if resolver.get_status(AssetKey(stage)) != fresh}


def assert_agreement(instance: DagsterInstance, root: Path) -> set[str]:
    """Dagster's stale assets are DVC's downstream closure, the others have dvc.lock's md5s.

    Returns:
        The stale stages.
    """
    graph, lock = read_graph(root), read_lock(root)
    expected = set(closure(graph, read_status(root)))
    assert stale(instance, root) == expected
    for stage in set(graph) - expected:
        assert read_recorded(instance, AssetKey(stage)).version == outs_version(lock[stage])
    return expected


def how(instance: DagsterInstance, stage: str) -> str:
    """``how`` of a stage's latest materialization."""
    event = instance.get_latest_materialization_event(AssetKey(stage))
    assert event is not None and event.asset_materialization is not None
    return str(event.asset_materialization.metadata["how"].value)

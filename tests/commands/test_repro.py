"""`zreward repro`: queues, terminates its process tree, repairs what a killed run left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

BIN = Path(sys.executable).parent
GRAPH = """
stages:
  slow:
    cmd: sleep 0.2 && python wait.py && cp seconds slow
    deps: [seconds, wait.py]
    outs: [slow]
  after:
    cmd: cp slow after
    deps: [slow]
    outs: [after]
"""
WAIT = """
import subprocess, sys
subprocess.run([sys.executable, "inner.py"], check=True)
"""
INNER = """
import pathlib, time
end = time.monotonic() + float(pathlib.Path("seconds").read_text())
while time.monotonic() < end and not pathlib.Path("go").exists():
    time.sleep(0.1)
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    (tmp_path / "wait.py").write_text(WAIT)
    (tmp_path / "inner.py").write_text(INNER)
    (tmp_path / "seconds").write_text("0")
    run(tmp_path, "dvc", "init", "--no-scm", "--quiet")
    run(tmp_path, "dvc", "config", "core.analytics", "false")
    return tmp_path


def environment(bare: bool = False) -> dict[str, str]:
    """Of a shell in which the virtual environment is activated, or (bare) is not."""
    paths = os.environ["PATH"].split(os.pathsep)
    kept = os.pathsep.join(path for path in paths if Path(path) != BIN)
    return os.environ | {"PATH": kept if bare else f"{BIN}{os.pathsep}{kept}"}


def run(root: Path, name: str, *arguments: str, bare: bool = False) -> subprocess.CompletedProcess:
    command = [str(BIN / name), *arguments]
    return subprocess.run(
        command, cwd=root, env=environment(bare), capture_output=True, text=True, timeout=240
    )


def start(root: Path, *command: str, log: str = "") -> subprocess.Popen:
    output = (root / f"{log or command[0]}.log").open("w")
    return subprocess.Popen(
        [str(BIN / command[0]), *command[1:]], cwd=root, env=environment(), stdout=output,
        stderr=output, start_new_session=True,
    )  # fmt: skip


def wait_for(what: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def sleepers(root: Path) -> list[psutil.Process]:
    """The innermost process of the stage: dvc -> sh -> python -> this."""
    found = []
    for process in psutil.process_iter(["cmdline", "cwd"]):
        line = process.info["cmdline"] or []
        if process.info["cwd"] == str(root) and "inner.py" in line:
            found.append(process)
    return found


def test_runs_where_the_environment_is_not_activated(root: Path) -> None:
    done = run(root, "zreward", "repro", bare=True)
    assert done.returncode == 0, done.stderr
    assert (root / "after").is_file()
    again = run(root, "zreward", "repro", "--single-item", "after")
    assert "unchanged, not run: after\n" in again.stdout and "slow" not in again.stdout


def test_what_dvc_prints_is_short_and_its_warnings_and_errors_whole(root: Path) -> None:
    (root / "dvc.yaml").write_text(GRAPH.replace("deps: [slow]", "deps: [slow, empty]"))
    (root / "empty").mkdir()
    first = run(root, "zreward", "repro")
    assert first.stdout.splitlines() == ["Running stage 'slow':", "Running stage 'after':"]
    assert "'empty' is empty" in first.stderr
    again = run(root, "zreward", "repro")
    assert again.stdout.splitlines() == [
        "unchanged, not run: slow, after",
        "Data and pipelines are up to date.",
    ]
    (root / "seconds").write_text("0.1")
    run(root, "zreward", "repro")
    (root / "seconds").write_text("0")
    restored = run(root, "zreward", "repro")
    assert restored.stdout.splitlines() == ["restored from DVC's cache, not run: slow, after"]
    (root / "seconds").write_text("wrong")
    failed = run(root, "zreward", "repro")
    assert "failed to reproduce 'slow'" in failed.stderr and "exited with 1" in failed.stderr


def test_exit_code_of_a_failed_stage(root: Path) -> None:
    (root / "seconds").write_text("wrong")
    assert run(root, "zreward", "repro").returncode == 255
    assert run(root, "zreward", "repro", "nowhere").returncode == 255


def test_no_workspace(tmp_path: Path) -> None:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    done = run(tmp_path, "zreward", "repro")
    assert done.returncode == 2 and "not a DVC workspace" in done.stderr


def test_waits_for_a_running_one_and_names_it(root: Path) -> None:
    (root / "seconds").write_text("300")
    bare = start(root, "dvc", "repro", "slow")
    wait_for(lambda: sleepers(root))
    ours = start(root, "zreward", "repro", "after")
    wait_for(lambda: "waiting for stage slow" in (root / "zreward.log").read_text())
    (root / "go").touch()
    assert ours.wait(timeout=120) == 0 and bare.wait(timeout=120) == 0
    log = (root / "zreward.log").read_text()
    assert f"pid {bare.pid}" in log and "Running stage 'slow'" not in log


def test_two_of_ours_queue_and_a_bare_dvc_fails_with_its_message(root: Path) -> None:
    (root / "seconds").write_text("300")
    ours = start(root, "zreward", "repro")
    wait_for(lambda: sleepers(root))
    bare = run(root, "dvc", "repro", "slow")
    assert bare.returncode != 0 and "busy" in bare.stderr
    second = start(root, "zreward", "repro", "after", log="second")
    wait_for(lambda: "waiting for stage slow" in (root / "second.log").read_text())
    (root / "go").touch()
    assert ours.wait(timeout=120) == 0 and second.wait(timeout=120) == 0
    assert "up to date" in (root / "second.log").read_text()
    assert (root / "after").read_text() == "300"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_the_whole_tree(root: Path, number: int, code: int) -> None:
    (root / "seconds").write_text("300")
    ours = start(root, "zreward", "repro")
    wait_for(lambda: sleepers(root))
    (inner,) = sleepers(root)
    asked = time.monotonic()
    ours.send_signal(number)
    assert ours.wait(timeout=60) == code
    assert time.monotonic() - asked < 30
    assert not inner.is_running() and not sleepers(root)
    told = "repro interrupted: finished stages are kept, and the same command continues"
    assert (told in (root / "zreward.log").read_text()) == (number == signal.SIGINT)
    (root / "seconds").write_text("0")
    assert run(root, "zreward", "repro").returncode == 0


def test_a_killed_dvc_leaves_no_stage_and_no_lock(root: Path) -> None:
    (root / "seconds").write_text("300")
    ours = start(root, "zreward", "repro")
    wait_for(lambda: sleepers(root))
    (dvc,) = psutil.Process(ours.pid).children()
    dvc.kill()
    assert ours.wait(timeout=60) == 128 + signal.SIGKILL
    assert not sleepers(root)
    (root / "seconds").write_text("0")
    done = run(root, "zreward", "repro")
    assert done.returncode == 0 and "released" in done.stderr


def test_the_stage_of_a_killed_zreward_is_waited_for(root: Path) -> None:
    (root / "seconds").write_text("300")
    ours = start(root, "zreward", "repro", "slow")
    wait_for(lambda: sleepers(root))
    ours.kill()
    ours.wait()
    second = start(root, "zreward", "repro", "slow", log="second")
    wait_for(lambda: "waiting for stage slow" in (root / "second.log").read_text())
    (root / "go").touch()
    assert second.wait(timeout=120) == 0
    assert "Running stage" not in (root / "second.log").read_text()


def test_corrupt_files_of_a_killed_run_are_repaired(root: Path) -> None:
    assert run(root, "zreward", "repro").returncode == 0
    lock = (root / "dvc.lock").read_text()
    for corrupt in ("", lock[: len(lock) // 2] + "\n  : ["):
        (root / "dvc.lock").write_text(corrupt)
        (root / ".dvc/tmp/rwlock").write_text('{"write": {"/a": {"pi')
        done = run(root, "zreward", "repro")
        assert done.returncode == 0, done.stderr
        assert "restored dvc.lock" in done.stderr and "removed .dvc/tmp/rwlock" in done.stderr
        assert (root / "dvc.lock").read_text() == lock
        kept = [path.read_text() for path in (root / ".zreward").glob("dvc.lock.corrupt-*")]
        assert corrupt in kept


def test_a_merge_conflict_in_dvc_lock_is_named_and_kept(root: Path) -> None:
    assert run(root, "zreward", "repro").returncode == 0
    lock = (root / "dvc.lock").read_text()
    ours, theirs = lock, lock.replace("size: 1", "size: 2")
    both = f"<<<<<<< HEAD\n{ours}=======\n{theirs}>>>>>>> other\n"
    for number, name in enumerate(("dvc.lock", "dvc.yaml", "benchmarks/dvc.lock")):
        path = root / name
        path.parent.mkdir(exist_ok=True)
        kept = path.read_text() if path.exists() else ""
        path.write_text(both)
        (root / "seconds").write_text(f"0.{number}")
        done = run(root, "zreward", "repro")
        assert done.returncode == 2 and "Traceback" not in done.stderr
        assert f"{name} has a merge conflict (lines 1, " in done.stderr
        assert path.read_text() == both
        path.write_text(kept) if kept else path.unlink()
    (root / "dvc.lock").write_text(both)
    assert run(root, "zreward", "sync").returncode == 2
    assert "merge conflict" in run(root, "zreward", "doctor").stdout


def cached(root: Path, content: str) -> Path:
    (path,) = [
        path for path in (root / ".dvc/cache/files").rglob("*")
        if path.is_file() and path.read_text() == content
    ]  # fmt: skip
    return path


def damage(path: Path) -> None:
    """Write other content of the same size, and restore time and mode."""
    stat = path.stat()
    path.chmod(0o644)
    path.write_text("9" * stat.st_size)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    path.chmod(0o444)


def test_a_damaged_cache_file_is_found_before_it_is_used(root: Path) -> None:
    assert run(root, "zreward", "repro").returncode == 0
    assert run(root, "zreward", "doctor").returncode == 0
    path = cached(root, "0")
    md5 = path.parent.name + path.name

    damage(path)  # the workspace has intact copies
    found = run(root, "zreward", "doctor")
    assert found.returncode == 1 and f"{path.relative_to(root)}: its content" in found.stdout
    assert "slow" in found.stdout and "zreward repro" in found.stdout
    done = run(root, "zreward", "repro")
    assert done.returncode == 0 and f"{md5} of after, slow" in done.stderr
    assert "restored from" in done.stderr and "Running stage" not in done.stdout
    assert path.read_text() == "0" and path.stat().st_mode & 0o777 == 0o444
    assert (root / ".zreward/damaged" / md5).read_text() == "9"

    damage(path)  # the workspace has copies of the damaged file
    for name in ("slow", "after"):
        (root / name).unlink()
    run(root, "dvc", "checkout")
    assert (root / "slow").read_text() == "9"
    done = run(root, "zreward", "repro")
    assert done.returncode == 0 and "its stage runs again" in done.stderr
    assert "Running stage 'slow'" in done.stdout
    assert (root / "slow").read_text() == (root / "after").read_text() == "0"
    assert run(root, "zreward", "doctor").returncode == 0


def test_a_reused_pid_blocks_nothing(root: Path) -> None:
    dead = {"pid": os.getpid(), "cmd": "/somewhere/dvc repro slow --force"}
    (root / ".dvc/tmp").mkdir(exist_ok=True)
    (root / ".dvc/tmp/rwlock").write_text(
        json.dumps({"write": {str(root / "slow"): dead}, "read": {str(root / "seconds"): [dead]}})
    )
    assert run(root, "dvc", "repro", "slow").returncode != 0
    done = run(root, "zreward", "repro", "slow")
    assert done.returncode == 0, done.stderr
    assert "released" in done.stderr

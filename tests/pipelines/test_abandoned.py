"""A run whose process was killed is no longer shown as running."""

import os
import shutil
import subprocess
from pathlib import Path

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus

from pipelines.abandoned import end_abandoned
from tests.integration.test_cancel import wait_for_stage
from tests.pipelines import tiny

ROOT = Path(__file__).parents[2]


def test_a_killed_run_is_ended_and_a_living_one_left(root: Path, tmp_path: Path) -> None:
    tiny.set_param(root, "first", "seconds", 600)
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(ROOT / "dagster.yaml", home)
    worker = subprocess.Popen(
        [str(tiny.BIN / "dagster"), "asset", "materialize", "--select", "first",
         "-m", "pipelines.definitions"],
        cwd=root, env=os.environ | {"DAGSTER_HOME": str(home)},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip

    def status() -> tuple[DagsterRun, DagsterRunStatus]:
        with DagsterInstance.from_config(str(home)) as instance:
            (run,) = instance.get_runs()
        return run, run.status

    try:
        wait_for_stage(root)
        assert end_abandoned(home) == []
        assert status()[1] == DagsterRunStatus.STARTED
    finally:
        worker.kill()
        worker.wait()
    assert status()[1] == DagsterRunStatus.STARTED
    assert end_abandoned(home) == [status()[0].run_id]
    assert status()[1] == DagsterRunStatus.FAILURE
    assert end_abandoned(home) == []
    with DagsterInstance.from_config(str(home)) as instance:
        assert instance.event_log_storage.get_concurrency_info("gpu").active_slot_count == 0

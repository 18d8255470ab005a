"""A run whose process was killed is marked as failed."""

from pathlib import Path

from dagster import DagsterInstance, DagsterRun, DagsterRunStatus

from pipelines.orphaned_runs import end_orphaned_runs
from tests.pipelines import tiny


def test_a_killed_run_is_failed_and_a_running_one_kept(root: Path, tmp_path: Path) -> None:
    home = tmp_path / "dagster"
    worker = tiny.start_first(root, home)

    def status() -> tuple[DagsterRun, DagsterRunStatus]:
        with DagsterInstance.from_config(str(home)) as instance:
            (run,) = instance.get_runs()
        return run, run.status

    try:
        assert end_orphaned_runs(home) == []
        assert status()[1] == DagsterRunStatus.STARTED
    finally:
        worker.kill()
        worker.wait()
    assert status()[1] == DagsterRunStatus.STARTED
    assert end_orphaned_runs(home) == [status()[0].run_id]
    assert status()[1] == DagsterRunStatus.FAILURE
    assert end_orphaned_runs(home) == []
    with DagsterInstance.from_config(str(home)) as instance:
        assert instance.event_log_storage.get_concurrency_info("gpu").active_slot_count == 0

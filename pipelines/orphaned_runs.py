"""Dagster runs whose process was killed; Dagster would list them as running forever."""

from pathlib import Path

import psutil
from dagster import DagsterEventType, DagsterInstance, DagsterRun, DagsterRunStatus, RunsFilter

RUNNING = [DagsterRunStatus.STARTED, DagsterRunStatus.CANCELING]


def end_orphaned_runs(home: Path) -> list[str]:
    """Mark runs whose process no longer exists as failed, and free their slots in the pools.

    Dagster retries such a run once (`run_retries` in dagster.yaml); its stage resumes.

    Args:
        home: folder of Dagster's instance.

    Returns:
        Ids of the runs.
    """
    with DagsterInstance.from_config(str(home)) as instance:
        runs = instance.get_runs(RunsFilter(statuses=RUNNING))
        gone = [run for run in runs if not _is_alive(instance, run)]
        for run in gone:
            instance.report_run_failed(run, "its process no longer exists (killed, or a reboot)")
            instance.event_log_storage.free_concurrency_slots_for_run(run.run_id)
    return [run.run_id for run in gone]


def _is_alive(instance: DagsterInstance, run: DagsterRun) -> bool:
    """Whether the last process that reported executing the run still exists."""
    for entry in reversed(instance.all_logs(run.run_id, of_type=DagsterEventType.ENGINE_EVENT)):
        metadata = entry.get_dagster_event().engine_event_data.metadata
        if "pid" in metadata:
            pid = int(str(metadata["pid"].value))
            if not psutil.pid_exists(pid):
                return False
            return psutil.Process(pid).create_time() <= entry.timestamp  # else the pid was reused
    return False

"""MLflow's server on a project's store."""

import json
from pathlib import Path

import pytest

from pipelines.ui import mlflow_command
from tests.pipelines.test_guard import ask, process
from tests.registry.stores import empty_store, place_store
from zreward_core.store import connect, experiment_id

__all__ = ["empty_store"]  # fixture


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_artifacts_of_a_killed_run_are_an_empty_list(
    tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without ``files`` the page that compares it with a finished run fails."""
    monkeypatch.chdir(tmp_path)
    place_store(empty_store, tmp_path)
    client = connect()
    killed, finished = (
        client.create_run(experiment_id(client), run_name=name).info.run_id for name in "ab"
    )
    client.set_terminated(killed, "KILLED")
    client.log_text(finished, "{}", "config.json")
    off = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with process(lambda port: mlflow_command(tmp_path, port), tmp_path, **off) as address:

        def listed(run: str) -> list[str]:
            path = f"/ajax-api/2.0/mlflow/artifacts/list?run_uuid={run}"
            status, text = ask(address, path)
            assert status == 200
            return [file["path"] for file in json.loads(text)["files"]]

        assert listed(killed) == []
        assert listed(finished) == ["config.json"]
        assert ask(address, "/ajax-api/2.0/mlflow/artifacts/list?run_uuid=none")[0] == 404

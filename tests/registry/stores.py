"""An MLflow store for tests: its tables are created once per session, then copied."""

import os
import shutil
from pathlib import Path

import pytest

from zreward_core.store import DATABASE, SETTINGS, connect


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables, all empty."""
    root = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        kept = {name: os.environ.get(name) for name in SETTINGS}
        connect().search_experiments()
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
    return root / DATABASE


def place_store(database: Path, root: Path) -> None:
    """Copy the store into a project root."""
    (root / DATABASE).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(database, root / DATABASE)

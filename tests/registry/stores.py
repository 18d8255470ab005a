"""An MLflow store to test on: its tables are made once a session, and copied."""

import os
import shutil
from pathlib import Path

import pytest

from zreward_core.store import DATABASE, SETTINGS, connect


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with MLflow's tables and nothing in them."""
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
    """Give a root a store of its own."""
    (root / DATABASE).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(database, root / DATABASE)

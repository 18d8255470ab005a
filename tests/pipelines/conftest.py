"""A tiny project, and a Dagster instance of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("dagster", reason="dagster is not installed")

from dagster import DagsterInstance

from tests.pipelines import tiny


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tiny.make(tmp_path / "project")


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    home = tmp_path / "dagster"
    home.mkdir()
    with DagsterInstance.local_temp(str(home), overrides={"telemetry": {"enabled": False}}) as made:
        yield made

"""Locks on a file system without ``flock``: refused, not replaced by files that exist."""

import errno
import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock, Timeout

from zreward_core import mlflow_database
from zreward_core.commands import repro
from zreward_core.commands.scoring.parts import Parts
from zreward_core.config import Settings, UserError
from zreward_core.dvc import is_locked
from zreward_core.locks import acquire
from zreward_core.runtime.checkpoint import Checkpoint


def claim_shard() -> None:
    checkpoint = Checkpoint("toy", Settings(), [])
    with checkpoint.claim("part"):
        pass


def claim_part() -> None:
    parts = Parts(Path("scores.parquet"), 1)
    parts.start({}, 0.0)
    next(parts.missing())


def lock_store() -> None:
    with mlflow_database.locked():
        pass


def lock_stage() -> None:
    with repro.stage_lock("label"):
        pass


@pytest.mark.filterwarnings("ignore:flock not supported")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP])
@pytest.mark.parametrize("use", [claim_shard, claim_part, lock_store, lock_stage])
def test_a_file_system_without_locks_is_refused(
    use: Callable[[], None], number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise OSError(number, "not there")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fcntl, "flock", missing)
    with pytest.raises(UserError, match="does not support locks") as error:
        use()
    assert str(tmp_path) in str(error.value)
    assert not [path for path in tmp_path.rglob("*.lock") if path.read_text()]  # no pid


def test_a_lock_is_released(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    for _ in range(2):
        with acquire(FileLock(path)):
            assert is_locked(path)
            with pytest.raises(Timeout):
                acquire(FileLock(path), timeout=0)
        assert not is_locked(path)

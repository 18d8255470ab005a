"""Parts of a job that several launches compute, and what is found in their folder."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from zreward_core.commands.scoring.parts import Parts
from zreward_core.config import UserError

TABLE = pa.table({"x": [1]})


def begun(output: Path) -> Parts:
    parts = Parts(output, 2)
    assert parts.start({"rows": 2}, 0.0)
    return parts


def test_a_launch_that_is_later_finds_the_output(tmp_path: Path) -> None:
    output = tmp_path / "o.parquet"
    first, second = begun(output), begun(output)
    waiting = second.missing()
    assert next(waiting) == 0  # the second holds the first part
    for index in range(2):
        first.save(index, TABLE)
    first.finish()
    assert list(waiting) == []  # its folder is gone
    second.finish()
    assert pq.read_table(output)["x"].to_pylist() == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["o.parquet"]


def test_launches_that_start_together_share_the_job(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        for number in range(10):
            output = tmp_path / f"{number}.parquet"
            begun_all = pool.map(lambda _, one=output: begun(one), range(16))
            assert len(list(begun_all)) == 16


def test_what_else_is_found_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.parquet.parts").write_text("")
    with pytest.raises(UserError, match=r"a\.parquet\.parts is a file.*: move it"):
        Parts(tmp_path / "a.parquet", 1).start({}, 0.0)
    for content in ("", "[]"):
        parts = begun(tmp_path / "b.parquet")
        (parts.folder / "job.json").write_text(content)
        with pytest.raises(UserError, match=r"job\.json.*: remove .*parts|remove the folder"):
            parts.start({"rows": 2}, 0.0)
        parts.clear()
    parts = begun(tmp_path / "c.parquet")
    parts.save(0, TABLE)
    parts.path(1).write_bytes(b"PAR1")
    with pytest.raises(UserError, match=r"000001\.parquet is damaged .*remove it, and run"):
        parts.finish()
    assert not (tmp_path / "c.parquet").exists()

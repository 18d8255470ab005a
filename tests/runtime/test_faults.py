"""Failed writes: what they leave behind, and what is said. Each writer runs in a process of its own
that may not write files of more than 4 kB."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zreward_core.runtime.faults import disk_fault
from zreward_core.schemas import replaced, write_json

LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np, pandas as pd, torch
from safetensors.torch import save_file
from zreward_core.config import Settings
from zreward_core.runtime.outputs import whole_output
from zreward_core.schemas import write_json
from zreward_core import cli
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
values = np.random.default_rng(0).random(5000)
def write(folder):
    {write}
def run():
    with whole_output(Path("data/stage"), Settings()) as folder:
        write(folder)
cli.app = run
cli.main()
"""


@pytest.mark.parametrize(
    "write",
    [
        "write_json(values.tolist(), folder / 'a.json')",
        "pd.DataFrame({'a': values}).to_parquet(folder / 'a.parquet')",
        "save_file({'a': torch.from_numpy(values)}, folder / 'a.safetensors')",
        "(folder / 'a.bin').write_bytes(bytes(5000))",
    ],
)
def test_a_full_disk_keeps_the_output_of_before_and_names_it(tmp_path: Path, write: str) -> None:
    before = tmp_path / "data/stage"
    before.mkdir(parents=True)
    (before / "kept.txt").write_text("before")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED.replace("{write}", write)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 2, done.stderr
    assert "error: data/stage was not written: File too large" in done.stderr
    assert "checkpoints in .zreward/checkpoints are kept" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["data", "stage", "kept.txt"]


def test_a_file_that_cannot_be_written_keeps_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json([1], path)
    (tmp_path / "a.json.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device") as raised:
        write_json([2], path)
    assert disk_fault(raised.value) == f"No space left on device: {path}"
    assert path.read_text() == "[\n  1\n]\n"
    assert list(tmp_path.iterdir()) == [path]


def test_errors_of_the_program_are_not_errors_of_the_disk(tmp_path: Path) -> None:
    assert disk_fault(ValueError("a")) is None
    assert disk_fault(FileNotFoundError(2, "No such file", "a")) is None
    with pytest.raises(ValueError, match="ours"), replaced(tmp_path / "a") as partial:
        partial.write_text("half")
        raise ValueError("ours")
    assert not list(tmp_path.iterdir())

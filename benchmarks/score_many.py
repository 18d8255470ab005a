"""Scores many small images from one Parquet file, killed twice: peak memory, and the same file.

    python benchmarks/score_many.py --images 100000 --folder /tmp/score_many

Builds a tiny model and a table of random images in the folder, scores them once without a kill and
once with two (each with SIGKILL, at about a third and two thirds), and prints the time, the images
per second, the peak resident memory of every run, and whether the two files are the same.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from zreward_core.images import encode_png

ROOT = Path(__file__).parents[1]
SIDE = 16
"""Side of an image, in pixels."""
GROUP_ROWS = 1000
"""Rows of a row group of the table."""
NUM_PROMPTS = 5000
PART_ROWS = 1024
"""Rows of a part of ``zreward score``."""


def main() -> None:
    """Run the benchmark; exit with 1 if the files differ."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, required=True, help="a new folder for its files")
    options = parser.parse_args()
    if options.images <= 2 * PART_ROWS:
        parser.error(f"--images must exceed {2 * PART_ROWS}: a kill comes after a finished part")
    options.folder.mkdir(parents=True)
    write_model(options.folder / "student")
    write_table(options.folder / "images.parquet", options.images)
    size = (options.folder / "images.parquet").stat().st_size
    print(f"{options.images:,} images, {size / 2**20:.0f} MiB", flush=True)
    parts = -(-options.images // PART_ROWS)
    for number, stop in enumerate((parts // 3, 2 * parts // 3), start=1):
        run(options.folder, "killed.parquet", f"killed {number}", stop)
    run(options.folder, "killed.parquet", "resumed", None)
    run(options.folder, "whole.parquet", "whole", None)
    first, second = (options.folder / f"{name}.parquet" for name in ("killed", "whole"))
    same = first.read_bytes() == second.read_bytes()
    print(f"rows {pq.read_metadata(first).num_rows:,}; same file: {'yes' if same else 'NO'}")
    sys.exit(0 if same else 1)


def write_model(folder: Path) -> None:
    """A tiny student, in a process of its own, so that this one stays small."""
    code = (
        "import sys; from pathlib import Path\n"
        "from tests.tiny_models import PROMPT, SIZES\n"
        "from zreward_core.models.tiny import build_backbone\n"
        "from zreward_core.rubric import load_rubric\n"
        "rubric = load_rubric(Path('data/rubric.yaml'))\n"
        "build_backbone(SIZES, ['number 0123456789'], rubric, PROMPT, seed=1)"
        ".save(Path(sys.argv[1]), {})"
    )
    command = [sys.executable, "-c", code, str(folder.resolve())]
    subprocess.run(command, cwd=ROOT, env=environment(), check=True)


def write_table(path: Path, count: int) -> None:
    """Images of random pixels, one in a thousand damaged, with prompts."""
    generator = np.random.default_rng(0)
    schema = pa.schema([("image", pa.binary()), ("prompt", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for start in range(0, count, GROUP_ROWS):
            numbers = range(start, min(start + GROUP_ROWS, count))
            pixels = generator.integers(0, 256, (len(numbers), SIDE, SIDE, 3), dtype=np.uint8)
            contents = [encode_png(one) for one in pixels]
            contents[len(contents) // 2] = contents[len(contents) // 2][:50]
            prompts = [f"number {number % NUM_PROMPTS}" for number in numbers]
            writer.write_table(pa.table({"image": contents, "prompt": prompts}, schema))


def run(folder: Path, output: str, name: str, stop: int | None) -> None:
    """Score, until ``stop`` parts exist if it is not None; print time and peak memory."""
    began = time.monotonic()
    command = [sys.executable, "-m", "zreward_core", "score", "images.parquet"]
    job = subprocess.Popen(
        [*command, "--model", "student", "--output", output, "--device", "cpu"],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    parts = folder / f"{output}.parts"
    peak = 0.0
    while job.poll() is None:
        peak = max(peak, peak_mib(job.pid))
        if stop is not None and len(list(parts.glob("??????.parquet"))) >= stop:
            job.send_signal(signal.SIGKILL)
            job.wait()
        time.sleep(0.2)
    seconds = time.monotonic() - began
    told = job.stdout.read() if job.stdout is not None else ""
    first = told.splitlines()[0] if told else f"{len(list(parts.glob('??????.parquet')))} parts"
    print(f"{name:<10} {seconds:8.1f} s  peak {peak:6.0f} MiB  {first}", flush=True)
    if stop is None and job.returncode:
        sys.exit(f"zreward score ended with {job.returncode}")


def peak_mib(pid: int) -> float:
    """Peak resident memory of a running process, in MiB; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM")), 0.0)


def environment() -> dict[str, str]:
    """Environment of the runs: one thread, this code."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    main()

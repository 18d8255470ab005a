"""Stages hold a few images and one shard of labels in memory, whatever the size of the data.

Each measurement is a process of its own (`python -m tests.integration.test_memory images ...`),
which prints by how much its peak of resident memory (bytes) grows over that of the same stages on
a few small images, or of the start. The models are tiny. With `images` they resize every image to a
few pixels; with `prepared` to 1024 x 1024, which are 12.6 MB each when they are prepared.

By default glibc raises the size from which freed memory goes back to the system, up to 32 MiB;
freed images below it stay in the heaps of threads, by chance up to 0.6 GB. ``MMAP_THRESHOLD`` fixes
this size, so that what is measured is what is held.
"""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from zreward_core.commands.memory import own_peak
from zreward_core.training.images import AHEAD_BYTES, KEPT_BYTES

ROOT = Path(__file__).parents[2]
SIZE = 1000
"""Sides of an image of noise, which has 3 MB and no compression."""
FEW, MANY = 140, 700
MMAP_THRESHOLD = 2**20
PREPARED = 140
"""Images that have 1.8 GB when they are prepared, more than twice what training may keep."""
ROWS, TEXT = 200_000, 12_000
"""Traces and their length: 2.4 GB."""


@pytest.mark.timeout(900)
def test_images_of_420_mb_are_not_held(tmp_path: Path) -> None:
    grown = measure(tmp_path, "images", FEW)
    assert max(grown.values()) < 300e6, grown


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_images_of_2_gb_are_not_held(tmp_path: Path) -> None:
    grown = measure(tmp_path, "images", MANY)
    assert max(grown.values()) < 350e6, grown


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_prepared_images_of_1_8_gb_are_not_held(tmp_path: Path) -> None:
    """Training keeps images up to a limit; images prepared ahead and a step's patches are added.
    `evaluate` holds a window of images (``models.judge.WINDOW_PIXELS``) and one pass over them.
    """
    grown = measure(tmp_path, "prepared", PREPARED)
    assert grown["train_risd"] > KEPT_BYTES, grown
    assert max(grown.values()) < KEPT_BYTES + AHEAD_BYTES + 400e6, grown


@pytest.mark.timeout(900)
def test_traces_of_144_mb_are_not_held(tmp_path: Path) -> None:
    grown = measure(tmp_path, "labels", ROWS // 16)
    assert max(grown.values()) < 110e6, grown


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_traces_past_2_gib_are_not_held(tmp_path: Path) -> None:
    grown = measure(tmp_path, "labels", ROWS)
    assert max(grown.values()) < 300e6, grown


def measure(folder: Path, *arguments: object) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.integration.test_memory", *map(str, arguments)]
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(MMAP_THRESHOLD)}
    done = subprocess.run(
        [*command, str(folder)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    grown = json.loads(done.stdout.splitlines()[-1])
    print(*arguments, f"{max(grown.values()) / 1e6:.0f} MB", grown)
    return grown


def noise(number: int, size: int) -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    for _ in range(number):
        pixels = rng.integers(0, 256, (size, size, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
        yield buffer.getvalue()


def run_all(root: Path, number: int, size: int, kind: str) -> dict[str, int]:
    """Run the stages in a root with images of noise; the peak after each."""
    from tests.stages.training_root import RUBRIC, SIZES, WORDS, write_root
    from zreward_core.schemas import PROMPTS, RENDERED_IMAGES, write_table
    from zreward_core.stages import candidates, evaluate, label, train_gdso, train_risd

    files, world = root / "first/mine", root / "first/data/world"
    files.mkdir(parents=True)
    world.mkdir(parents=True)
    for name, schema in (("prompts", PROMPTS), ("rendered", RENDERED_IMAGES)):
        write_table(pd.DataFrame(columns=schema.names), world / f"{name}.parquet", schema)
    for n, content in enumerate(noise(number, size)):
        (files / f"{n}.png").write_bytes(content)
    names = {f"{n}.png": WORDS[n % 4] for n in range(number)}
    (files / "prompts.json").write_text(json.dumps(names))
    os.chdir(root / "first")
    candidates.run(candidates.Config(seed=1, folders=[{"path": "mine"}]))
    found = {"candidates": own_peak()}

    os.chdir(root)
    contents = (path.read_bytes() for path in sorted(files.glob("*.png")))
    if kind == "prepared":  # a large patch, so that an image has few tokens
        write_root(root, contents, SIZES.model_copy(update={"patch_size": 128}), 1024 * 1024)
    else:
        write_root(root, contents)
    items = pd.read_parquet("data/validate/items.parquet")
    ratings = items.assign(annotator_id="a")[["item_id", "dimension", "annotator_id", "score"]]
    ratings.to_parquet("data/validate/test_ratings.parquet")
    Path("data/rubric.yaml").write_text(yaml.safe_dump(RUBRIC.model_dump(mode="json")))
    batch = {"seed": 1, "batch_size": 8}
    stages = {
        "train_gdso": (train_gdso, {"seed": 1, "steps": 6, "pairs_per_step": 4, "group_size": 2}),
        "label": (label, {**batch, "num_traces": 1, "shard_items": 16}),
        "train_risd": (train_risd, {**batch, "micro_batch_size": 4, "steps": number // 8}),
        "evaluate": (evaluate, {**batch, "num_traces": 1, "oracle": False, "num_examples": 2}),
    }
    for name, (stage, settings) in stages.items():
        stage.run(stage.Config(**settings))
        found[name] = own_peak()
    return found


def grow_images(folder: Path, number: int, kind: str) -> dict[str, int]:
    before = max(run_all(folder / "few", 8, 40, kind).values())
    after = run_all(folder / "many", number, SIZE, kind)
    return {name: reached - before for name, reached in after.items()}


def grow_labels(folder: Path, number: int) -> dict[str, int]:
    """Memory of the main process while it computes and joins shards of long traces."""
    import torch

    from zreward_core.config import Settings
    from zreward_core.runtime.checkpoint import Checkpoint
    from zreward_core.runtime.shards import compute_shards
    from zreward_core.schemas import LABELS, TRACES
    from zreward_core.stages.label import write_labels

    os.chdir(folder)
    items = [f"item{n}" for n in range(number)]
    rng = np.random.default_rng(0)
    letters = rng.integers(97, 123, size=TEXT + number, dtype=np.uint8).tobytes().decode()
    pool = pd.DataFrame({"item_id": items, "prompt": "a cat", "image_id": items})

    def compute(part: slice) -> pd.DataFrame:
        own = range(part.start, part.stop)
        return pd.DataFrame(
            {
                "item_id": items[part],
                "dimension": "alignment",
                "number": 0,
                "trace": [letters[n : n + TEXT] for n in own],
                "tokens": [[1, 2, 3] for _ in own],
                "closed": True,
                "probs": [[0.25, 0.75] for _ in own],
                "mass": 1.0,
            }
        )

    before = own_peak()
    checkpoint = Checkpoint("label", Settings(), [])
    shards = compute_shards(checkpoint, "label", number, 512, TRACES, compute)
    made = own_peak()
    write_labels(shards, pool, 1, torch.tensor([1.0, 2.0]), folder / "label")
    after = own_peak()
    table = pd.read_parquet(folder / "label/labels.parquet", columns=["item_id"])
    assert table["item_id"].tolist() == items and LABELS.names
    return {"shards": made - before, "labels": after - before}


if __name__ == "__main__":
    kind, number, folder = sys.argv[1:]
    if kind == "labels":
        print(json.dumps(grow_labels(Path(folder), int(number))))
    else:
        print(json.dumps(grow_images(Path(folder), int(number), kind)))

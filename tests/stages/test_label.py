"""Labels are a function of stored traces; a killed run resumes; text past 2 GiB."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch

from tests.stages.training_root import tiny, trainable_root, training_root
from zreward_core.images import ImageStore
from zreward_core.models.loading import load_backbone
from zreward_core.models.traces import trace_log_probs
from zreward_core.runtime.checkpoint import CHECKPOINTS, tree_hash
from zreward_core.runtime.launch_accelerate import run_processes
from zreward_core.runtime.launch_settings import Accelerate
from zreward_core.schemas import CANDIDATES, LABELS, TRACES, file_hashes, read_table
from zreward_core.stages import label
from zreward_core.stages.label import IMAGES, OUTPUT, POOL, TEACHER, Config, labels_of

ROOT = Path(__file__).parents[2]
__all__ = ["trainable_root", "training_root"]
CONFIG = Config(seed=1, num_traces=3, batch_size=2, shard_items=3)


@pytest.fixture
def with_teacher(training_root: Path):
    tiny(7).save(TEACHER, {})
    yield
    shutil.rmtree(TEACHER.parent)


def test_labels_are_a_function_of_the_traces(with_teacher) -> None:
    label.run(CONFIG)
    pool, labels = read_table(POOL, CANDIDATES), read_table(OUTPUT / "labels.parquet", LABELS)
    shards = sorted((OUTPUT / "traces").iterdir())
    assert [pq.read_metadata(path).num_rows for path in shards] == [18, 18, 12]
    traces = pd.concat([read_table(path, TRACES) for path in shards])
    assert traces["item_id"].unique().tolist() == pool["item_id"].tolist()
    assert traces["number"].tolist() == [0, 1, 2] * 16

    backbone = load_backbone(TEACHER)
    again = labels_of(traces, 3, backbone.levels)
    assert np.array_equal(np.stack(again["probs"]), np.stack(labels["probs"]))
    for column in ("item_id", "dimension", "spread", "mass"):
        assert again[column].tolist() == labels[column].tolist()
    shown = pool.set_index("item_id").loc[labels["item_id"]]
    assert shown["image_id"].tolist() == labels["image_id"].tolist()
    assert shown["prompt"].tolist() == labels["prompt"].tolist()

    store, rows = ImageStore(IMAGES), pool.set_index("item_id").loc[traces["item_id"].iloc[::3]]
    with torch.no_grad():
        found = trace_log_probs(
            backbone,
            list(rows["prompt"]),
            [backbone.pixels.prepare(store.pixels(one)) for one in rows["image_id"]],
            [backbone.rubric.names.index(name) for name in traces["dimension"].iloc[::3]],
            [list(tokens) for tokens in traces["tokens"]],
        )
    stored = torch.tensor(np.stack(traces["probs"].tolist()), dtype=torch.float32)
    assert torch.allclose(found.scores_NS.exp(), stored, atol=1e-5)
    texts = [backbone.chat.text(list(tokens)) for tokens in traces["tokens"]]
    assert texts == traces["trace"].tolist() and len(set(texts)) > 4


def test_a_killed_run_resumes_to_the_same_labels(with_teacher, monkeypatch) -> None:
    label.run(CONFIG)
    expected = tree_hash(OUTPUT)
    sample, calls = label.sample_traces, iter(range(100))

    def killed(*arguments):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return sample(*arguments)

    monkeypatch.setattr(label, "sample_traces", killed)
    with pytest.raises(KeyboardInterrupt):
        label.run(CONFIG)
    assert len(list((CHECKPOINTS / "label").rglob("*.parquet"))) == 2
    monkeypatch.setattr(
        label, "sample_traces", lambda *arguments: next(calls) and sample(*arguments)
    )
    label.run(CONFIG)
    assert next(calls) == 4  # the third shard was made twice
    assert tree_hash(OUTPUT) == expected
    assert not (CHECKPOINTS / "label").exists()


@pytest.mark.timeout(600)
def test_two_processes_give_the_labels_of_one(with_teacher) -> None:
    code = (
        f"from zreward_core.stages import label; label.run(label.Config(**{CONFIG.model_dump()}))"
    )
    one = [sys.executable, "-c", code]  # rounding can differ in a process that has trained
    subprocess.run(one, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    expected = file_hashes(OUTPUT)
    shutil.rmtree(OUTPUT)
    settings = Accelerate(kind="accelerate", processes=2, threads=1, cpu=True)
    assert run_processes(settings, [sys.executable, "-c", code], {"PYTHONPATH": str(ROOT)}) == 0
    assert file_hashes(OUTPUT) == expected
    assert not (CHECKPOINTS / "label").exists()

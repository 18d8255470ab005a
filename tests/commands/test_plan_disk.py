"""`zreward plan`: bytes and files, beside those that the stages write."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.commands.plan_models import LORA, MACHINE, RUBRIC, blueprint, configs
from tests.integration.random_models import save_generator
from tests.tiny_models import PROMPT, build_family
from zreward_core.commands.plan import disk as plan_disk
from zreward_core.commands.plan import run as planning
from zreward_core.commands.plan.counts import count
from zreward_core.commands.plan.generator import read_generator
from zreward_core.commands.plan.rows import Row
from zreward_core.commands.plan.use import Use
from zreward_core.diffusion.loading import load_generator
from zreward_core.diffusion.tuning import close_weights, open_weights, save_adapters
from zreward_core.images import encode_png, shards, write_images
from zreward_core.runtime.checkpoint import CHECKPOINTS, Checkpoint
from zreward_core.schemas import write_json
from zreward_core.stages import _training, candidates, finetune_generator, train_gdso
from zreward_core.training.updates import training_state


def sizes(folder: Path, pattern: str = "*") -> list[int]:
    """Bytes of the files of a folder."""
    return [path.stat().st_size for path in folder.rglob(pattern) if path.is_file()]


@pytest.mark.parametrize("lora", [None, LORA | {"rank": 64}])
def test_a_trained_model_is_planned_as_it_is_saved(
    lora: dict[str, int] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = train_gdso.Config(seed=1, lora=lora, dtype="bfloat16")
    backbone = build_family("qwen3_5", ["word"], RUBRIC, PROMPT)
    backbone.network.to(torch.bfloat16)
    backbone.train_mode(config.lora)
    optimizer = torch.optim.AdamW(backbone.trainable())
    for parameter in backbone.trainable():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    checkpoint = Checkpoint("train_gdso", config, [])
    state = training_state(backbone, [optimizer]) | {"reference": backbone.snapshot()}
    for step in range(2):
        checkpoint.save("state", {"step": step, **state})
    states = sum(sizes(CHECKPOINTS))
    folder = Path("data/train_gdso")
    _training.save_trained(folder / "teacher", config, backbone, [], checkpoint, {})

    trained = float(sum(plan_disk.nbytes(value) for value in state["weights"]))
    update = Use(adapters=trained, optimizer=2 * trained)
    planned = plan_disk.trained_model(blueprint(4), config, update, copies=1)
    assert planned.disk == pytest.approx(sum(sizes(folder, "*.safetensors")), rel=0.1)
    assert planned.files == len(sizes(folder))
    # two checkpoints beside the output, or three while the last is written
    assert planned.peak == pytest.approx(max(planned.disk + states, 1.5 * states), rel=0.1)
    if lora:  # merged in float32
        whole = plan_disk.merged_bytes(blueprint(4), config.model_copy(update={"lora": None}))[0]
        assert planned.disk > 1.5 * whole


def test_a_tuned_generator_is_planned_as_it_is_saved(tmp_path: Path) -> None:
    save_generator(tmp_path / "base", "z_image", ["a word"])
    config = finetune_generator.Config(
        seed=1, lora={"rank": 8, "alpha": 8}, dtype="bfloat16", size=(64, 64)
    )
    generator = load_generator(tmp_path / "base", torch.bfloat16)
    assert config.lora is not None
    open_weights(generator, config.lora.rank, config.lora.alpha, 0)
    folder = tmp_path / "tuned"
    save_adapters(generator, folder / "adapter")
    close_weights(generator.transformer, config.lora.rank)
    generator.pipe.save_pretrained(folder)
    write_json({}, folder / "zreward.json")
    found = read_generator(str(tmp_path / "base"), None)
    planned = plan_disk.tuned_generator(found, config, Use(adapters=1e3, optimizer=4e3), 1e6)
    assert planned.disk == pytest.approx(sum(sizes(folder, "*.safetensors")), rel=0.1)
    assert planned.files == len(sizes(folder)) + 8  # of the stage
    assert planned.peak == planned.disk + 2 * 5e3 + 1e6


@pytest.mark.parametrize(("rows", "group", "shard"), [(7, 2**20, 2**20), (99, 9000, 30_000)])
def test_image_shards_end_at_rows_or_bytes(
    rows: int, group: int, shard: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", rows)
    monkeypatch.setattr(shards, "GROUP_BYTES", group)
    monkeypatch.setattr(shards, "SHARD_BYTES", shard)
    rng = np.random.default_rng(0)
    files = [encode_png(rng.integers(256, size=(32, 32, 3), dtype=np.uint8)) for _ in range(50)]
    write_images(files, tmp_path)
    mean = sum(map(len, files)) / len(files)
    assert len(sizes(tmp_path)) == plan_disk.image_shards(len(files), mean) > 3


def test_images_of_the_real_size_end_shards_by_bytes() -> None:
    assert plan_disk.image_shards(100_000, 1.6 * 1024**2) == pytest.approx(313, abs=3)


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "json", "disk", "split"])
def test_rows_of_a_data_set_are_counted(kind: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"image": ["a.png"] * 5, "prompt": ["a"] * 5})
    path: Path = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        table.to_parquet(path)
    elif kind == "csv":
        table.to_csv(path, index=False)
    elif kind in ("json", "jsonl"):
        table.to_json(path, orient="records", lines=kind == "jsonl")
    elif kind == "disk":
        from datasets import Dataset

        Dataset.from_pandas(table).save_to_disk(str(path))
    else:
        path.mkdir()
        table.to_parquet(path / "train-00000-of-00001.parquet")
        table.to_parquet(path / "test-00000-of-00001.parquet")
    sets = [{"path": path, "purpose": "unlabelled", "in_place": kind == "csv"}]
    found = counted(datasets=sets)
    assert found.images["unlabelled"] == 5 and found.not_counted == ()
    assert found.stored_images == (0 if kind == "csv" else 5)


def test_a_data_set_that_cannot_be_counted_is_named(tmp_path: Path) -> None:
    (tmp_path / "part-000.tar").touch()
    found = counted(datasets=[{"path": tmp_path}, {"path": tmp_path / "later.parquet"}])
    assert found.not_counted == (str(tmp_path), str(tmp_path / "later.parquet"))


def counted(**sources: Any) -> Any:
    """Counts of a profile without generators."""
    config = candidates.Config(seed=1, **sources)
    return count(configs() | {"candidates": config}, RUBRIC)


def test_the_table_has_host_memory_and_the_disk_that_is_needed_at_a_time() -> None:
    moments = {"prefill": Use(1e9), "decoding": Use(3e9)}
    row = Row("label", 8, moments, disk=2e9, peak=5e9, host=40e9)
    note = planning.disk_note([row, replace(row, peak=3e9)], 1e9)
    assert note.startswith("on disk: 6.0 GB in all") and "3.0 GB more while label" in note
    lines = planning.table(planning.Plan([row], [note], MACHINE)).splitlines()
    head, first, second = (lines[n].split(" | ") for n in (0, 2, 3))
    cells = dict(zip(head, first, strict=True))
    assert (cells["host"], cells["disk"], cells["disk peak"]) == ("40", "2.0", "5.0")
    assert (first[0], cells["phase"], cells["total"]) == ("| label", "prefill", "1.0")
    cells = dict(zip(head, second, strict=True))
    assert (second[0], cells["phase"], cells["total"]) == ("| ", "decoding", "**3.0**")
    assert cells["host"] == "" and "bold" in lines[5]

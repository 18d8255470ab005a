"""The stage world."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from zreward_core.config import UserError
from zreward_core.images import ImageStore
from zreward_core.schemas import PROMPTS, PURPOSES, RENDERED_IMAGES, normalise_prompt, read_table
from zreward_core.stages.world import Config, run
from zreward_core.world.inspection import INSPECTIONS

SMALL = {
    "seed": 5,
    "size": 30,
    "held_out": 6,
    "pretraining_prompts": 12,
    "held_out_prompts": 4,
    "annotation_prompts": 5,
    "unlabelled_prompts": 6,
    "generator_train_prompts": 4,
    "generator_eval_prompts": 3,
}


def _tables() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    folder = Path("data/world")
    return (
        read_table(folder / "prompts.parquet", PROMPTS),
        read_table(folder / "rendered.parquet", RENDERED_IMAGES),
        read_table(folder / "inspections.parquet", INSPECTIONS),
    )


def test_tables_are_consistent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(Config(**SMALL))
    prompts, images, inspections = _tables()
    assert prompts["prompt"].map(normalise_prompt).is_unique
    assert set(prompts["purpose"]) == set(PURPOSES)
    assert images["purpose"].value_counts().to_dict() == {
        "pretraining": 36,
        "unlabelled": 18,
        "annotation": 15,
    }
    merged = images.merge(prompts, on="prompt_id", suffixes=("", "_of_prompt"))
    assert (merged["purpose"] == merged["purpose_of_prompt"]).all()
    assert set(ImageStore(Path("data/world/images"))) == set(images["image_id"])
    assert set(inspections["image_id"]) == set(
        images.loc[images["purpose"] == "pretraining", "image_id"]
    )
    assert inspections["held_out"].sum() == 6
    held_out = set(inspections.loc[inspections["held_out"], "prompt"])
    assert not held_out & set(inspections.loc[~inspections["held_out"], "prompt"])
    assert all(len(json.loads(text)["alignment"]) == 4 for text in inspections["inspection"])
    assert Path("data/world/contact_sheet.png").is_file()


def test_the_same_seed_writes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contents = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        run(Config(**SMALL))
        files = sorted(path for path in Path("data/world").rglob("*") if path.is_file())
        contents.append({str(path): path.read_bytes() for path in files})
    assert contents[0] == contents[1]


def test_size_zero_writes_empty_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run(Config(seed=1, size=0))
    assert [len(table) for table in _tables()] == [0, 0, 0]
    assert len(ImageStore(Path("data/world/images"))) == 0
    graph = yaml.safe_load((Path(__file__).parents[2] / "dvc.yaml").read_text())
    assert all(Path(out).exists() for out in graph["stages"]["world"]["outs"])


def test_too_many_prompts_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"distinct ones exist"):
        run(Config(seed=1, size=1, annotation_prompts=50_000))
    assert not Path("data/world").exists()

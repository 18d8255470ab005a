"""Held-out annotations have no influence on trained weights."""

import shutil
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tests.stages.training_root import ON_POLICY, SUPERVISED
from zreward_core.schemas import ITEMS, PAIRS, write_table
from zreward_core.stages import (
    train_gdso,
    train_gdso_coupled,
    train_grpo,
    train_rewarddance,
    train_sft,
)
from zreward_core.stages._training import ITEMS_FILE, PAIRS_FILE


def trained_weights(stage: ModuleType, settings: dict) -> dict[str, torch.Tensor]:
    stage.run(stage.Config(seed=1, **settings))
    (file,) = stage.OUTPUT.rglob("*.safetensors")
    return load_file(file)


@pytest.mark.parametrize(
    ("stage", "settings"),
    [
        (train_gdso, ON_POLICY),
        (train_gdso_coupled, ON_POLICY),
        (train_grpo, ON_POLICY),
        (train_sft, SUPERVISED),
        (train_rewarddance, {**SUPERVISED, "num_chains": 1}),
    ],
)
def test_other_scores_of_held_out_items_leave_the_weights_unchanged(
    training_root: Path, tmp_path: Path, monkeypatch, stage: ModuleType, settings: dict
) -> None:
    expected = trained_weights(stage, settings)
    shutil.copytree("data", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    items, pairs = pd.read_parquet(ITEMS_FILE), pd.read_parquet(PAIRS_FILE)
    held_out = items["split"] != "train"
    items.loc[held_out, "score"] = 4.0 - items.loc[held_out, "score"]
    items["histogram"] = [
        row.histogram if row.split == "train" else row.histogram[::-1] for row in items.itertuples()
    ]
    held_out = pairs["split"] != "train"
    other = pairs.loc[held_out, ["loser", "winner", "score_l", "score_w"]].to_numpy()
    pairs.loc[held_out, ["winner", "loser", "score_w", "score_l"]] = other
    write_table(items, ITEMS_FILE, ITEMS)
    write_table(pairs, PAIRS_FILE, PAIRS)
    found = trained_weights(stage, settings)
    assert all(torch.equal(expected[name], found[name]) for name in expected)

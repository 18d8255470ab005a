"""Predictions with and without reasoning."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.stages.training_root import NAMES
from zreward_core.config import UserError
from zreward_core.schemas import write_json
from zreward_core.stages import predict
from zreward_core.stages.predict import OUTPUT, Config


@pytest.mark.parametrize(("reasoning", "model"), [(True, "teacher"), (False, "student")])
def test_every_item_of_the_split_is_predicted(training_root, reasoning: bool, model: str) -> None:
    predict.run(Config(seed=1, model=Path("data/base_vlm") / model, reasoning=reasoning))
    found = pd.read_parquet(OUTPUT / "predictions.parquet")
    keys = set(zip(found["item_id"], found["dimension"], strict=True))
    assert keys == {(item, name) for item in ("item6", "item7") for name in NAMES}
    probs = np.stack(found["probs"].to_list())
    assert np.allclose(probs.sum(1), 1) and np.allclose(probs @ [1, 2, 3], found["mean"], atol=1e-5)
    assert (found["output_tokens"] > 1).all() == reasoning


def test_a_split_without_items(training_root) -> None:
    with pytest.raises(UserError, match="no validation items"):
        predict.run(Config(seed=1, judged_splits=["test", "validation"]))


@pytest.mark.parametrize(("stage", "reasoning"), [("train_risd", True), ("train_gdso", False)])
def test_a_model_of_the_other_role_is_refused(
    training_root, tmp_path: Path, stage: str, reasoning: bool
) -> None:
    shutil.copytree("data/base_vlm/teacher", tmp_path / "model")
    content = json.loads((tmp_path / "model/zreward.json").read_text())
    write_json(content | {"lineage": {"stage": stage}}, tmp_path / "model/zreward.json")
    with pytest.raises(UserError, match=f"{stage} trained it to score"):
        predict.run(Config(seed=1, model=tmp_path / "model", reasoning=reasoning))

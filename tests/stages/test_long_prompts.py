"""A test prompt that is too long for a model costs its items, in every stage that uses them."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.stages.training_root import NAMES
from tests.viewer_root import embedded
from zreward_core.config import UserError
from zreward_core.schemas import (
    ITEMS,
    PAIRS,
    TEST_RATINGS,
    file_hashes,
    read_table,
    write_table,
)
from zreward_core.stages import evaluate, predict, trace_faithfulness
from zreward_core.stages.evaluate import ITEMS_FILE, PAIRS_FILE, STUDENT, TEACHER

LONG = "circle " * 3000
KEPT, LEFT_OUT = {"item4", "item5"}, {"item6", "item7"}


@pytest.fixture
def root(trainable_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two test prompts with two items each; the second prompt is too long."""
    shutil.copytree(trainable_root, tmp_path / "root")
    monkeypatch.chdir(tmp_path / "root")
    items, pairs = read_table(ITEMS_FILE, ITEMS), read_table(PAIRS_FILE, PAIRS)
    items.loc[items["item_id"].isin(KEPT), "split"] = "test"
    pairs.loc[pairs["winner"].isin(KEPT), "split"] = "test"
    items.loc[items["item_id"].isin(LEFT_OUT), "prompt"] = LONG
    write_table(items, ITEMS_FILE, ITEMS)
    write_table(pairs, PAIRS_FILE, PAIRS)
    ratings = items[items["split"] == "test"].assign(annotator_id="a")
    write_table(ratings, ITEMS_FILE.with_name("test_ratings.parquet"), TEST_RATINGS)
    for role, folder in (("teacher", TEACHER), ("student", STUDENT)):
        shutil.copytree(Path("data/base_vlm") / role, folder, dirs_exist_ok=True)
        (folder.parent / "history.jsonl").write_text("")
    Path("data/rubric.yaml").write_text(json.dumps(rubric_of(TEACHER)))
    return tmp_path / "root"


def rubric_of(model: Path) -> dict:
    return json.loads((model / "zreward.json").read_text())["rubric"]


@pytest.mark.parametrize(("reasoning", "model"), [(True, "teacher"), (False, "student")])
def test_predict(root: Path, caplog: pytest.LogCaptureFixture, reasoning: bool, model: str) -> None:
    predict.run(predict.Config(seed=1, model=Path("data/base_vlm") / model, reasoning=reasoning))
    found = pd.read_parquet(predict.OUTPUT / "predictions.parquet")
    assert set(found["item_id"]) == KEPT and len(found) == 2 * len(NAMES)
    assert "4 of 8 rows have too long prompts" in caplog.text and "'circle circle" in caplog.text


def test_evaluate(
    root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = evaluate.Config(seed=1, oracle=False, num_examples=1)
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "POOL_ITEMS", 0)
        evaluate.run(config)
    without_pool = file_hashes(evaluate.OUTPUT)
    evaluate.run(config)
    with_pool = file_hashes(evaluate.OUTPUT)
    assert set(with_pool) - set(without_pool) == {"pool_predictions.parquet"}
    assert without_pool.items() <= with_pool.items()
    assert set(pd.read_parquet(evaluate.OUTPUT / "pool_predictions.parquet")["item_id"]) >= KEPT
    shown = embedded(Path("reports/viewer/index.html").read_text(), "index")
    assert set(shown["id"][: len(KEPT)]) == KEPT and len(shown["id"]) == 8
    metrics = json.loads((evaluate.OUTPUT / "metrics.json").read_text())
    for model in ("zero_shot", "zero_shot_reasoning", "teacher", "student"):
        assert metrics["models"][model]["overall"]["num_pairs"] == len(NAMES)
    assert "4 of 8 rows have too long prompts" in caplog.text
    assert set(pd.read_parquet(evaluate.OUTPUT / "predictions.parquet")["item_id"]) == KEPT


def test_trace_faithfulness(root: Path) -> None:
    model = Path("data/base_vlm/teacher")
    trace_faithfulness.run(trace_faithfulness.Config(seed=1, model=model))
    found = pd.read_parquet(trace_faithfulness.OUTPUT / "scores.parquet")
    assert set(found["item_id"]) == KEPT


def test_no_prompt_is_short_enough(root: Path) -> None:
    items = read_table(ITEMS_FILE, ITEMS)
    write_table(items.assign(prompt=LONG), ITEMS_FILE, ITEMS)
    for stage in (predict, evaluate):
        with pytest.raises(UserError, match="8 of 8 rows have too long prompts"):
            stage.run(stage.Config(seed=1))

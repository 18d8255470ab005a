"""While a model computes a batch, the images of the next one are prepared."""

from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.stages.training_root import SUPERVISED, tiny
from zreward_core.images import ImageStore
from zreward_core.schemas import CANDIDATES, ITEMS, read_table
from zreward_core.stages import label, predict, train_rewarddance
from zreward_core.stages._judging import Judging, score_items, score_items_reasoning
from zreward_core.training.images import PreparedImages

IMAGES = Path("data/candidates/images")


@pytest.fixture
def early(training_root, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of each image that is taken for the first time: whether its preparation was started."""
    found: list[bool] = []
    take = PreparedImages.__getitem__

    def spy(prepared: PreparedImages, identifier: str):
        if identifier not in prepared._kept:
            found.append(identifier in prepared._ahead)
        return take(prepared, identifier)

    monkeypatch.setattr(PreparedImages, "__getitem__", spy)
    return found


@torch.no_grad()
@pytest.mark.parametrize("score", [score_items, score_items_reasoning])
def test_validation(early: list[bool], score) -> None:
    items = read_table(predict.ITEMS_FILE, ITEMS)
    found = score(Judging(seed=1, num_traces=1, batch_size=2), tiny(), items, ImageStore(IMAGES))
    assert list(found["item_id"]) == list(items["item_id"])
    assert early == [False] * 2 + [True] * 6


def test_label(early: list[bool]) -> None:
    pool = read_table(Path("data/candidates/pool.parquet"), CANDIDATES)
    config = label.Config(seed=1, num_traces=1, batch_size=3)
    traces = label.sample_traces(tiny(), config, pool, ImageStore(IMAGES))
    assert list(traces["item_id"][::2]) == list(pool["item_id"])
    assert early == [False] * 3 + [True] * 5


def test_predict_and_evaluate(early: list[bool]) -> None:
    """evaluate calls predict's function."""
    predict.run(
        predict.Config(
            seed=1, model=Path("data/base_vlm/teacher"), reasoning=True, num_traces=1, batch_size=1
        )
    )
    found = pd.read_parquet(predict.OUTPUT / "predictions.parquet")
    assert set(found["item_id"]) == {"item6", "item7"}
    assert early == [False, True]


def test_train_rewarddance(early: list[bool]) -> None:
    train_rewarddance.run(train_rewarddance.Config(seed=1, **SUPERVISED, num_chains=1))
    assert any(early) and early.count(False) <= SUPERVISED["micro_batch_size"]

"""Scores under perturbed traces."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from zreward_core.config import UserError
from zreward_core.images import ImageStore
from zreward_core.models.loading import load_backbone
from zreward_core.models.teacher import judge_queries, query_seed
from zreward_core.stages import trace_faithfulness
from zreward_core.stages.trace_faithfulness import IMAGES, OUTPUT, READINGS, Config

MODEL = Path("data/base_vlm/teacher")


def test_own_and_exchanged_traces_are_those_of_the_two_images(training_root) -> None:
    trace_faithfulness.run(Config(seed=1, model=MODEL, num_pairs=10))
    scores = pd.read_parquet(OUTPUT / "scores.parquet")
    assert len(scores) == 4  # two dimensions of the one test prompt, two images each
    assert (scores["direction"] == 0).all()
    assert np.allclose(scores["own"], scores["flipped"], atol=1e-6)
    backbone = load_backbone(MODEL, "float32")
    items = (
        pd.read_parquet(trace_faithfulness.ITEMS_FILE)
        .drop_duplicates("item_id")
        .set_index("item_id")
    )
    store = ImageStore(*IMAGES)
    for row in scores.itertuples():
        item = items.loc[row.item_id]
        judged = judge_queries(
            backbone,
            [item["prompt"]],
            [backbone.pixels.prepare(store.pixels(item["image_id"]))],
            [(0, backbone.rubric.names.index(row.dimension))],
            1,
            [query_seed(1, row.item_id, row.dimension)],
        )
        mean = (judged.probs[0] @ backbone.levels).item()
        assert row.own == pytest.approx(mean, abs=1e-4)
    assert (scores["own"] - scores["exchanged"]).abs().max() > 1e-6
    assert (scores["own"] - scores["truncated"]).abs().max() > 1e-6
    found = json.loads((OUTPUT / "coupling.json").read_text())
    assert set(found) == {"overall", "alignment", "realism"}
    assert found["overall"]["num_pairs"] == 2


def test_a_verdict_is_inverted_if_the_trace_has_one(training_root) -> None:
    # The untrained model generates random words, so every word counts as a verdict here.
    backbone = load_backbone(MODEL, "float32")
    words = sorted({backbone.tokenizer.decode([i]).strip() for i in range(len(backbone.tokenizer))})
    worse = {word: "circle" for word in words if word.isalnum() and word != "circle"}
    trace_faithfulness.run(Config(seed=1, model=MODEL, num_pairs=10, worse=worse))
    scores = pd.read_parquet(OUTPUT / "scores.parquet")
    turned = scores[scores["direction"] == -1]
    assert len(turned)
    assert (turned["own"] - turned["flipped"]).abs().max() > 1e-6


def test_a_split_without_pairs(training_root) -> None:
    with pytest.raises(UserError, match="no validation pairs"):
        trace_faithfulness.run(Config(seed=1, model=MODEL, split="validation"))


def test_readings_are_named_as_the_columns(training_root) -> None:
    trace_faithfulness.run(Config(seed=2, model=MODEL, num_pairs=1))
    assert set(READINGS) < set(pd.read_parquet(OUTPUT / "scores.parquet").columns)

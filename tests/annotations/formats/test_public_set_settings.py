"""Public sets whose files are not available, on rows in their documented layout."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from zreward_core.annotations.formats import FORMATS
from zreward_core.annotations.ingest.public_sets import load_public_set, public_set_names
from zreward_core.annotations.ingest.settings import Source


def parquet(drops: Path, rows: list[dict]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), drops / "set.parquet")
    return drops / "set.parquet"


def as_json(drops: Path, content: Any) -> Path:
    (drops / "set.json").write_text(json.dumps(content))
    return drops / "set.json"


def test_hpdv3_always_names_the_preferred_image_first(read, drops: Path) -> None:
    row = {
        "prompt": "a cat",
        "path1": "images/a.jpg",
        "path2": "images/b.jpg",
        "model1": "flux",
        "model2": "sdxl",
        "confidence": 0.9,
        "choice_dist": [9, 1],
    }
    path = as_json(drops, [row, {**row, "path1": "images/b.jpg", "path2": "images/a.jpg"}])
    votes = read(path, format="hpdv3", dimension="aesthetics").comparisons
    assert votes["vote"].tolist() == ["a", "a"]
    assert votes["dimension"].tolist() == ["aesthetics"] * 2


def test_hpdv2_choices(read, drops: Path) -> None:
    row = {"prompt": "a cat", "file_path": ["1.jpg", "2.jpg"], "user_hash": "u"}
    rows = [{**row, "human_preference": one} for one in ([1, 0], [0, 1])]
    votes = read(as_json(drops, rows), format="hpdv2", dimension="aesthetics").comparisons
    assert votes["vote"].tolist() == ["a", "b"]
    assert votes["item_a"].nunique() == votes["item_b"].nunique() == 1
    assert votes["annotator_id"].tolist() == ["u", "u"]


@pytest.mark.parametrize("key", ["raw_annotations", "raw_annotation"])
def test_hpdv2_rankings_lower_is_better(read, drops: Path, key: str) -> None:
    raters = [{"rank": [2, 1, 3], "user_hash": "u"}, {"rank": [1, 1], "user_hash": "v"}]
    entry = {"prompt": "a", "image_path": ["x", "y", "z"], "rank": [2, 1, 3]}
    path = as_json(drops, [{**entry, key: raters}])
    result = read(path, format="hpdv2_test", dimension="aesthetics")
    assert result.comparisons["vote"].tolist() == ["b", "a", "a"]
    assert result.quarantine["reason"].tolist() == ["malformed_record"]  # two ranks, three images


def test_imagereward_db_ratings(read, drops: Path) -> None:
    row = {"prompt_id": "1-2", "prompt": "a cat", "image_path": "images/x.webp", "rank": 1}
    ratings = {
        "overall_rating": 6,
        "image_text_alignment_rating": 7,
        "fidelity_rating": 1,
    }
    result = read(parquet(drops, [{**row, **ratings}]), format="imagereward_db").ratings
    assert dict(zip(result["dimension"], result["score"], strict=True)) == {
        "alignment": 5.0,
        "plausibility": 1.0,
    }


def test_pick_a_pic_labels_and_rows_without_one(read, drops: Path) -> None:
    row = {
        "caption": "a cat",
        "image_0_uid": "x",
        "image_1_uid": "y",
        "model_0": "m",
        "model_1": "n",
        "user_id": 12,
        "created_at": pd.Timestamp("2023-01-01"),
        "has_label": True,
    }
    rows = [{**row, "label_0": label, "label_1": 1 - label} for label in (1.0, 0.0, 0.5)]
    rows.append({**row, "label_0": 0.0, "label_1": 0.0, "has_label": False})
    result = read(parquet(drops, rows), format="pick_a_pic", dimension="aesthetics")
    assert result.comparisons["vote"].tolist() == ["a", "b", "tie"]
    assert result.comparisons["annotator_id"].tolist() == ["12"] * 3
    assert result.summary.ignored == {"skipped": 1}


def test_evalmuse_scores_are_anonymous_votes(read, drops: Path) -> None:
    row = {"prompt": "a cat", "img_path": "SDXL/00110.png", "total_score": [4, 5, 3]}
    result = read(as_json(drops, [row]), format="evalmuse").ratings
    assert result["score"].tolist() == [4.0, 5.0, 3.0]
    assert result["generator"].tolist() == ["SDXL"] * 3
    assert result["item_id"].nunique() == 1


def test_richhf_means_from_0_to_1(read, drops: Path) -> None:
    row = {"caption": "a car", "filename": "train/x.png", "artifact_score": 0.5}
    row |= {"misalignment_score": 1.0, "aesthetics_score": 0.0, "overall_score": 0.25}
    result = read(parquet(drops, [row]), format="richhf").opinions
    assert dict(zip(result["dimension"], result["mean"], strict=True)) == {
        "alignment": 5.0,
        "plausibility": 3.0,
        "aesthetics": 1.0,
    }


def test_genai_arena_votes(read, drops: Path) -> None:
    row = {"prompt": "a cat", "left_model": "m", "right_model": "n"}
    words = ["leftvote", "rightvote", "tievote", "bothbad_vote", "unclear"]
    path = parquet(drops, [{**row, "vote_type": word} for word in words])
    result = read(path, format="genai_arena", dimension="aesthetics")
    assert result.comparisons["vote"].tolist() == ["a", "b", "tie", "both_bad"]
    assert result.quarantine["reason"].tolist() == ["malformed_record"]


def test_mmrb2_pairs(read, drops: Path) -> None:
    def answer(model: str) -> dict:
        return {"model_name": model, "response_content": [["image", f"images/{model}.jpg"]]}

    pair = {
        "id": "1",
        "prompt_content": [["text", "a cat"]],
        "response_a": answer("m"),
        "response_b": answer("n"),
    }
    content = {"pairs": [{**pair, "chosen": one} for one in "AB"]}
    result = read(as_json(drops, content), format="mmrb2", dimension="alignment")
    votes = result.comparisons
    assert votes["vote"].tolist() == ["a", "b"]
    assert set(result.compared_items["generator"]) == {"m", "n"}
    assert votes["item_a"].nunique() == 1 and votes["item_a"][0] != votes["item_b"][0]


@pytest.mark.parametrize("name", public_set_names())
def test_every_public_set_is_a_valid_source(name: str) -> None:
    known = load_public_set(name)
    settings = {"name": "x", "format": name, "path": "data/drops/x"}
    if "vote" in known.settings["columns"]:
        with pytest.raises(ValidationError, match="which dimension of the rubric is judged"):
            Source(**settings)
        settings["dimension"] = "aesthetics"
    assert Source(**settings).base_format == known.format
    assert known.format in FORMATS
    assert known.title and known.origin


def test_15_public_sets_are_shipped() -> None:
    assert len(public_set_names()) == 15


def test_settings_override_those_of_the_public_set() -> None:
    source = Source(
        name="x",
        format="avt_ai_images",
        path="data/drops/x",
        dimension={"map": {"range_realism": "plausibility"}},
    )
    assert source.dimension.map["range_realism"] == "plausibility"  # type: ignore[union-attr]
    assert source.dimension.map["range_image_appeal"] == "aesthetics"  # type: ignore[union-attr]

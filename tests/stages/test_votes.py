"""A study of votes without scores, from its file to training and evaluation."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from tests.stages.training_root import RUBRIC, tiny
from zreward_core.commands import gate
from zreward_core.config import UserError
from zreward_core.images import encode_png, write_images
from zreward_core.runtime.progress import read_history, write_history
from zreward_core.schemas import (
    CANDIDATES,
    ITEMS,
    read_json,
    read_pairs,
    read_table,
    write_table,
)
from zreward_core.stages import (
    evaluate,
    ingest,
    predict,
    trace_faithfulness,
    train_gdso,
    train_gdso_coupled,
    train_grpo,
    train_sft,
    validate,
)

PROMPTS = (
    "red circle", "blue star", "top left", "circle", "red star", "blue circle", "top star", "star"
)  # fmt: skip
PARAMS = """
seed: 1
splits: {train: 0.5, validation: 0.0}
ingest:
  sources:
    - name: votes
      format: jsonl
      path: data/drops/votes.jsonl
      images: data/drops/images
      dimension: alignment
      columns:
        prompt: caption
        image_a: image_0_uid
        image_b: image_1_uid
        annotator_id: user_id
        vote: {column: label_0, map: {1: a, 0: b, 0.5: tie}}
      only: {column: has_label, words: [true]}
"""
RATED = """
    - name: ratings
      format: jsonl
      path: data/drops/ratings.jsonl
      images: data/drops/images
      columns: {prompt: caption, image: image, annotator_id: user_id, score: stars}
      dimension: alignment
      scale: {min: 1, max: 3, higher_is_better: true}
validate: {min_test_ratings: 1}
"""
ON_POLICY = {"seed": 1, "steps": 1, "pairs_per_step": 4, "group_size": 2}


def write_votes(folder: Path) -> None:
    """Three images per prompt: 0 beats 1 by two of three users, 1 ties with 2, one row skipped."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    rows = []
    for number, prompt in enumerate(PROMPTS):
        uids = [f"uid-{number}-{place}" for place in range(3)]
        for uid in uids:
            image = encode_png(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            (folder / "images" / f"{uid}.png").write_bytes(image)
        for first, second, label, user, labelled in (
            (0, 1, 1, 1, True),
            (1, 0, 0, 2, True),
            (0, 1, 0, 3, True),
            (2, 1, 0.5, 1, True),
            (2, 0, 0, 1, False),
        ):
            rows.append(
                {
                    "caption": prompt,
                    "image_0_uid": f"{uids[first]}.png",
                    "image_1_uid": f"{uids[second]}.png",
                    "label_0": label,
                    "has_label": labelled,
                    "user_id": user,
                }
            )
    (folder / "votes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_ratings(folder: Path) -> None:
    """Two further images of each prompt with scores."""
    rng = np.random.default_rng(1)
    rows = []
    for number, prompt in enumerate(PROMPTS):
        for place, stars in ((3, 3), (4, 1)):
            name = f"uid-{number}-{place}.png"
            image = encode_png(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8))
            (folder / "images" / name).write_bytes(image)
            rows.append({"caption": prompt, "image": name, "user_id": 1, "stars": stars})
    (folder / "ratings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_root(root: Path, rated: bool) -> None:
    """Drops, models, and the outputs of ingest and validate; the current folder."""
    write_votes(root / "data/drops")
    if rated:
        write_ratings(root / "data/drops")
    (root / "params.yaml").write_text(PARAMS + RATED * rated)
    (root / "data/rubric.yaml").write_text(yaml.safe_dump(RUBRIC.model_dump(mode="json")))
    for seed, role in enumerate(("teacher", "student")):
        tiny(seed).save(root / "data/base_vlm" / role, {})
    tiny(2).save(root / "data/train_risd/student", {})
    write_history([], root / "data/train_risd/history.jsonl")
    write_images([], root / "data/candidates/images")
    for stage in (ingest, validate):
        stage.run(stage.Config.load(stage.__name__.rsplit(".", 1)[-1]))


@pytest.fixture(scope="module", params=[False, True], ids=["votes", "mixed"])
def made(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bool]:
    root = tmp_path_factory.mktemp("votes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_root(root, request.param)
    return root, request.param


@pytest.fixture
def rated(made: tuple[Path, bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """A copy of the root is the current folder; whether it has scored items too."""
    shutil.copytree(made[0], tmp_path / "root")
    monkeypatch.chdir(tmp_path / "root")
    return made[1]


def test_validate_writes_pairs_without_scores(rated: bool) -> None:
    pairs = read_pairs(validate.OUTPUT / "pairs.parquet")
    items = read_table(validate.OUTPUT / "items.parquet", ITEMS)
    voted, scored = pairs[pairs["score_w"].isna()], pairs[pairs["score_w"].notna()]
    assert len(voted) == 2 * len(PROMPTS) and len(scored) == rated * len(PROMPTS)
    assert voted["score_l"].isna().all() and scored["vote_share"].isna().all()
    assert sorted(set(voted["vote_share"].round(3))) == [0.5, 0.667]
    unscored = items[items["score"].isna()]
    assert len(unscored) == 3 * len(PROMPTS) and (unscored["num_ratings"] == 0).all()
    assert unscored["image_id"].notna().all() and set(unscored["prompt"]) == set(PROMPTS)
    assert unscored["histogram"].isna().all()
    audit = read_json(validate.OUTPUT / "audit.json")
    assert audit["votes"]["comparisons"] == 4 * len(PROMPTS)
    assert audit["votes"]["ties"] == audit["votes"]["contradicting"] == len(PROMPTS)
    assert sum(audit["votes"]["pairs"].values()) == 2 * len(PROMPTS)
    assert sum(audit["counts"]["pairs"].values()) == rated * len(PROMPTS)
    assert {"votes", "items", "pairs"} <= {
        rule["table"] for rule in read_json(validate.OUTPUT / "contracts.json")
    }


def test_validate_reports_a_study_of_votes_alone(rated: bool, caplog) -> None:
    with caplog.at_level(logging.INFO):
        validate.run(validate.Config.load("validate"))
    assert "32 comparisons of images without scores make 16 pairs (8 ties)" in caplog.text
    assert ("only comparisons were read" in caplog.text) == (not rated)


def test_comparisons_that_make_no_pair_are_counted(rated: bool) -> None:
    compared = read_table(validate.COMPARED_FILE, CANDIDATES).assign(image_id=None)
    write_table(compared, validate.COMPARED_FILE, CANDIDATES)
    config = validate.Config.load("validate")
    if not rated:
        with pytest.raises(UserError, match=r"only comparisons.*'without_prompt_or_image': 32"):
            validate.run(config)
        return
    validate.run(config)
    votes = read_json(validate.OUTPUT / "audit.json")["votes"]
    assert votes["without_prompt_or_image"] == 32 and sum(votes["pairs"].values()) == 0
    assert read_pairs(validate.OUTPUT / "pairs.parquet")["score_w"].notna().all()


@pytest.mark.parametrize(
    ("stage", "votes"),
    [
        (train_gdso, "margin"),
        (train_gdso, "bradley_terry"),
        (train_gdso_coupled, "margin"),
    ],
)
def test_gdso_uses_votes(rated: bool, stage: Any, votes: str) -> None:
    stage.run(stage.Config(**ON_POLICY, votes=votes))
    (row,) = read_history(stage.OUTPUT / "history.jsonl")
    assert np.isfinite(list(row.values())).all()
    assert row["loss/pairwise"] > 0 and row["grad_norm"] > 0 and "reward/pairwise" in row
    if not rated:
        assert row["loss/pointwise"] == 0.0 and "reward/pointwise" not in row


def test_evaluate_measures_votes_apart(rated: bool) -> None:
    train_gdso.run(train_gdso.Config(**ON_POLICY, votes="margin"))
    evaluate.run(evaluate.Config(seed=1, oracle=not rated, num_traces=1, num_examples=0))
    metrics = read_json(evaluate.OUTPUT / "metrics.json")
    num_test = read_json(validate.OUTPUT / "audit.json")["votes"]["pairs"]["test"]
    assert num_test >= 4
    for model in ("zero_shot", "zero_shot_reasoning", "teacher", "student"):
        by_votes = metrics["votes"][model]["overall"]
        assert by_votes["num_pairs"] == by_votes["num_ties"] == num_test / 2
        assert 0 <= by_votes["hpa"] <= 1
        overall = metrics["models"][model]["overall"]
        assert overall["num_pairs"] == rated * num_test / 2
        assert (overall["hpa"] is None) == (not rated)
    predictions = pd.read_parquet(evaluate.OUTPUT / "predictions.parquet")
    means = predictions[predictions["model"] == "student"].set_index("item_id")["mean"]
    pairs = read_pairs(validate.OUTPUT / "pairs.parquet")
    pairs = pairs[(pairs["split"] == "test") & (pairs["vote_share"] > 0.5)]
    right = means[pairs["winner"]].to_numpy() > means[pairs["loser"]].to_numpy()
    assert metrics["votes"]["student"]["overall"]["hpa"] == pytest.approx(right.mean())


def test_stages_that_need_scores_leave_votes_out(rated: bool, caplog) -> None:
    stages = (train_gdso, train_grpo, train_gdso_coupled)
    for stage in stages:
        if rated:
            with caplog.at_level(logging.INFO):
                stage.run(stage.Config(**ON_POLICY))
            assert "pairs.parquet: " in caplog.text and "without scores are left out" in caplog.text
            assert read_history(stage.OUTPUT / "history.jsonl")[0]["loss/total"] != 0
        else:
            with pytest.raises(UserError, match=r"none of the \d+ training pairs has scores"):
                stage.run(stage.Config(**ON_POLICY))
    if rated:
        train_sft.run(train_sft.Config(seed=1, steps=1, batch_size=4, micro_batch_size=4))
        test = gate.read_test_set()
        assert len(test.pairs) > 0 and test.pairs["score_w"].notna().all()
        assert test.items["score"].notna().all()
    else:
        with pytest.raises(UserError, match="no training item with an image and a score"):
            train_sft.run(train_sft.Config(seed=1, steps=1))
        with pytest.raises(UserError, match="no test pair with images and scores"):
            gate.read_test_set()


def test_predict_and_trace_faithfulness_include_images_without_scores(rated: bool) -> None:
    predict.run(predict.Config(seed=1))
    items = read_table(validate.OUTPUT / "items.parquet", ITEMS)
    predictions = pd.read_parquet(predict.OUTPUT / "predictions.parquet")
    assert len(predictions) == (items["split"] == "test").sum() > 0
    model = Path("data/base_vlm/teacher")
    trace_faithfulness.run(trace_faithfulness.Config(seed=1, model=model))
    found = read_json(trace_faithfulness.OUTPUT / "coupling.json")["overall"]
    pairs = read_pairs(validate.OUTPUT / "pairs.parquet")
    assert found["num_pairs"] == (pairs["split"] == "test").sum()

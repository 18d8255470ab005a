"""A published study from its event log to its published means, by params alone."""

import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from zreward_core.schemas import (
    COMPARISONS,
    ITEMS,
    OPINIONS,
    PAIRS,
    RATINGS,
    read_json,
    read_table,
    write_json,
    write_table,
)
from zreward_core.stages import ingest, validate

REPOSITORY = Path(__file__).parents[2]
SHARED = Path(os.environ.get("ZREWARD_SHARED_DATA", REPOSITORY.parent / "shared/data"))
SMALL = "seed: 1\nsplits: {train: 0, validation: 0}\nvalidate: {min_test_ratings: 1}"
LOG = "evaluation/subjective/2022_12_02/_ratings.csv"
PARAMS = """
seed: 1
ingest:
  sources:
    - name: avt
      format: avt_ai_images
      path: data/drops/avt
      images: data/drops/avt/images_512
validate:
  resubmissions: keep
  min_items_per_annotator: 140
  min_agreement: -1.0
  min_test_ratings: 1
  trim_test: false
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "data/drops").mkdir(parents=True)
    shutil.copy(REPOSITORY / "data/rubric.yaml", tmp_path / "data/rubric.yaml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_avt_means_are_reproduced_exactly(root: Path) -> None:
    if not (SHARED / "avt_ai_images").is_dir():
        pytest.skip(f"{SHARED / 'avt_ai_images'} is absent; ZREWARD_SHARED_DATA names its parent")
    Path("data/drops/avt").symlink_to(SHARED / "avt_ai_images")
    Path("params.yaml").write_text(PARAMS)
    ingest.run(ingest.Config.load("ingest"))
    validate.run(validate.Config.load("validate"))

    log = pd.read_csv(Path("data/drops/avt") / LOG)
    keys = log["stimuli_file"].str.extract(r"^\./stimuli/(.*)\.png$")[0]
    rows = {f"data/drops/avt/{LOG}#row {number + 2}": key for number, key in keys.items()}
    ratings = read_table(Path("data/ingest/ratings.parquet"), RATINGS)
    key_of = dict(zip(ratings["item_id"], ratings["row_ref"].map(rows), strict=True))
    items = read_table(Path("data/validate/items.parquet"), ITEMS)
    ours = items.assign(key=items["item_id"].map(key_of)).pivot(
        index="key", columns="dimension", values="score"
    )
    published = pd.read_csv("data/drops/avt/evaluation/all_ratings.csv", index_col="image_key")
    assert len(ours) == len(published) == 146
    for dimension, column in (
        ("aesthetics", "appeal_mean"),
        ("realism", "realism_mean"),
        ("alignment", "prompt_matching_mean"),
    ):
        assert (ours[dimension] - published.loc[ours.index, column]).abs().max() == 0.0
    audit = read_json(Path("data/validate/audit.json"))
    assert sum(not one["included"] for one in audit["annotators"].values()) == 5
    assert audit["alpha"]["aesthetics"] == pytest.approx(0.299, abs=0.005)
    assert audit["alpha"]["realism"] == pytest.approx(0.457, abs=0.005)
    assert audit["alpha"]["alignment"] == pytest.approx(0.519, abs=0.005)


def test_opinions_become_items_with_a_histogram(root: Path) -> None:
    Path("params.yaml").write_text(SMALL)
    for name, schema in (("ratings", RATINGS), ("comparisons", COMPARISONS)):
        empty = pd.DataFrame(columns=schema.names)
        write_table(empty, Path(f"data/ingest/{name}.parquet"), schema)
    write_json({"sources": {}}, Path("data/ingest/summary.json"))
    rows = [
        {
            "item_id": f"i{n}",
            "prompt_id": "p",
            "prompt": "a star",
            "image_id": f"{n}" * 64,
            "dimension": "realism",
            "mean": 1.5 + n,
            "std": 0.5,
            "histogram": None,
            "num_ratings": 20,
            "source": "s",
            "row_ref": f"s#row {n}",
        }
        for n in range(3)
    ]
    opinions = pd.DataFrame(rows, columns=OPINIONS.names)
    write_table(opinions, Path("data/ingest/opinions.parquet"), OPINIONS)
    validate.run(validate.Config.load("validate"))
    items = read_table(Path("data/validate/items.parquet"), ITEMS)
    assert items["score"].tolist() == pytest.approx([1.5, 2.5, 3.5])
    assert items["num_ratings"].tolist() == [20, 20, 20]
    assert all(abs(sum(one) - 1) < 1e-9 and min(one) >= 0 for one in items["histogram"])
    assert len(read_table(Path("data/validate/pairs.parquet"), PAIRS)) == 3

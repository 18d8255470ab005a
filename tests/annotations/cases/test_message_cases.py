"""Messages of ingest and validate about unexpected studies; numbers refer to the cases."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.annotations.sources import REPOSITORY
from zreward_core.config import UserError
from zreward_core.images import encode_png
from zreward_core.schemas import COMPARISONS, RATINGS, read_json, read_table
from zreward_core.stages import ingest, validate

VOTES = {
    "name": "votes",
    "format": "csv",
    "path": "data/drops/votes.csv",
    "images": "data/drops/images",
    "columns": {"prompt": "prompt", "image": "image", "annotator_id": "rater", "score": "score"},
    "dimension": "alignment",
    "scale": {"min": 1, "max": 5, "higher_is_better": True},
}
COMPARED = VOTES | {
    "columns": {
        "prompt": "prompt",
        "annotator_id": "rater",
        "image_a": "left",
        "image_b": "right",
        "vote": {"column": "best", "map": {"left": "a", "right": "b"}},
    }
}


@pytest.fixture
def root(drops: Path) -> Path:
    """An empty project with forty images of ten prompts."""
    Path("data/rubric.yaml").write_text((REPOSITORY / "data/rubric.yaml").read_text())
    (drops / "images").mkdir()
    for n in range(40):
        image = encode_png(np.full((4, 4, 3), 6 * n, np.uint8))
        (drops / f"images/{n}.png").write_bytes(image)
    return drops


def run(source: dict, **params: object) -> None:
    """Run ingest; with settings of validate, validate too."""
    content = {"seed": 5, "ingest": {"sources": [source]}, **params}
    Path("params.yaml").write_text(yaml.safe_dump(content))
    ingest.run(ingest.Config.load("ingest"))
    if params:
        validate.run(validate.Config.load("validate"))


def write_votes(root: Path, raters: int, spread: bool) -> None:
    rows = [
        f"a lamp {n // 4},{n}.png,r{rater},{n % 4 + 1 if spread else 4}"
        for n in range(40)
        for rater in range(raters)
    ]
    (root / "votes.csv").write_text("\n".join(["prompt,image,rater,score", *rows]))


def test_20_only_ties(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_votes(root, raters=3, spread=False)
    run(VOTES, validate={"min_overlap": 20})
    message = caplog.text
    assert "the dimension alignment has no pairs: all images of a prompt have the same" in message
    audit = read_json(Path("data/validate/audit.json"))
    assert [one["agreement"] for one in audit["annotators"].values()] == [1.0] * 3
    assert sum(audit["counts"]["items"].values()) == 40


def test_21_one_annotator(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_votes(root, raters=1, spread=True)
    try:
        run(VOTES, validate={"min_overlap": 20})
        message = caplog.text
    except UserError as error:
        message = str(error)
    assert "validate.min_test_ratings" in message


def test_41_first_try(drops: Path, caplog: pytest.LogCaptureFixture) -> None:
    Path("data/rubric.yaml").write_text((REPOSITORY / "data/rubric.yaml").read_text())
    rating = {"from_name": "alignment", "type": "rating", "value": {"rating": 4}}
    annotation = {"id": 1, "completed_by": 1, "result": [rating]}
    data = {"prompt": "a bun", "image": "1.png"}
    (drops / "export.json").write_text(
        json.dumps([{"id": 1, "data": data, "annotations": [annotation]}])
    )
    run({"name": "people", "path": "data/drops/export.json"})
    assert read_table(ingest.OUTPUT / "ratings.parquet", RATINGS)["score"].tolist() == [4.0]
    assert "there is no data/candidates/images, the default of `images`" in caplog.text


def test_only_comparisons_and_repeated_ones(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    rows = [
        "r0,0.png,1.png,left",
        "r0,1.png,0.png,left",
        "r0,2.png,1.png,left",
        "r1,0.png,1.png,right",
    ]
    rows = ["prompt,rater,left,right,best", *(f"a lamp,{row}" for row in rows)]
    (root / "votes.csv").write_text("\n".join(rows))
    run(COMPARED)
    assert len(read_table(ingest.OUTPUT / "comparisons.parquet", COMPARISONS)) == 4
    assert "only comparisons were read, no scores" in caplog.text
    assert "1 comparisons repeat one of the same annotator" in caplog.text
    assert "1 of these annotators' answers contradict each other" in caplog.text


@pytest.mark.parametrize(
    ("rows", "settings", "message"),
    [
        (["a,0.png,r,9"], {}, "correct `scale`"),
        (["a,0.png,r,good"], {}, "`words` of a score"),
        (["a,0.png,r,"], {}, "cells of the judgements are empty"),
        ([], {}, "no rows below its header"),
        (["a,0.png,r,3"], {"dimension": "beauty"}, "`dimension` must be one of the rubric's"),
        (
            ["a,0.png,r,3"],
            {"dimension": {"column": "rater"}},
            "map the values of the column 'rater' to the rubric's dimensions",
        ),
        (["a,0.png,r,3"], {"only": {"column": "rater", "words": ["x"]}}, "compare `only`"),
    ],
)
def test_the_remedy_follows_from_the_cause(
    root: Path, rows: list[str], settings: dict, message: str
) -> None:
    (root / "votes.csv").write_text("\n".join(["prompt,image,rater,score", *rows]) + "\n")
    with pytest.raises(UserError, match=message):
        run(VOTES | settings)

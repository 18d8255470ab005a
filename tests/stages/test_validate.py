"""Validate: the contracts, the audit, test items by several annotators, splits by prompt."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.stages.annotation_root import make_root
from zreward_core.annotations.items.splits import split_of
from zreward_core.config import Splits, UserError
from zreward_core.rubric import load_rubric
from zreward_core.schemas import (
    DISAGREEMENT,
    ITEMS,
    PAIRS,
    RATINGS,
    TEST_RATINGS,
    read_table,
    write_table,
)
from zreward_core.stages import annotate, ingest, validate
from zreward_core.stages.validate import Config

INPUT = Path("data/ingest/ratings.parquet")
OUTPUT = Path("data/validate")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with validate's output."""
    root = tmp_path_factory.mktemp("validate") / "root"
    make_root(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for stage in (annotate, ingest, validate):
            stage.run(stage.Config.load(stage.__name__.rsplit(".", 1)[-1]))
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, the current folder."""
    shutil.copytree(made, tmp_path / "root")
    monkeypatch.chdir(tmp_path / "root")
    return tmp_path / "root"


def audit() -> dict:
    return json.loads((OUTPUT / "audit.json").read_text())


def test_the_careless_annotator_is_excluded(root: Path) -> None:
    figures = audit()["annotators"]
    assert [name for name, row in figures.items() if not row["included"]] == ["6"]
    raters = read_table(OUTPUT / "test_ratings.parquet", TEST_RATINGS)["annotator_id"]
    assert set(raters) == {"1", "2", "3", "4", "5"}
    assert min(audit()["alpha"].values()) > 0.3
    before = (OUTPUT / "items.parquet").read_bytes()
    ratings = read_table(INPUT, RATINGS)
    careless = ratings["annotator_id"] == "6"
    ratings.loc[careless, "score"] = 6 - ratings.loc[careless, "score"]
    write_table(ratings, INPUT, RATINGS)
    validate.run(Config.load("validate"))
    assert (OUTPUT / "items.parquet").read_bytes() == before


def test_items_follow_from_the_ratings(root: Path) -> None:
    items = read_table(OUTPUT / "items.parquet", ITEMS)
    ratings = read_table(INPUT, RATINGS)
    ratings = ratings[ratings["annotator_id"] != "6"]
    rubric = load_rubric()
    by_item = {
        key: sorted(group["score"]) for key, group in ratings.groupby(["item_id", "dimension"])
    }
    for row in items.itertuples():
        scores = by_item.pop((row.item_id, row.dimension))
        assert row.num_ratings == len(scores)
        assert row.split == split_of(row.prompt, Splits(train=0.4, validation=0.2))
        if row.split == "test":
            assert len(scores) >= 3
            scores = scores[1:-1]
        assert row.score == pytest.approx(sum(scores) / len(scores))
        assert list(row.histogram) == pytest.approx(list(rubric.histogram(scores)))
    left_out = audit()["counts"]["test_items_left_out"]
    assert len(by_item) == left_out
    assert all(len(scores) < 3 for scores in by_item.values())


def test_pairs_are_all_that_differ_within_a_prompt(root: Path) -> None:
    items = read_table(OUTPUT / "items.parquet", ITEMS).dropna(subset="image_id")
    expected = set()
    for (prompt, dimension), group in items.groupby(["prompt_id", "dimension"]):
        for one in group.itertuples():
            for other in group.itertuples():
                if one.score > other.score + 1e-9:
                    expected.add((prompt, dimension, one.item_id, other.item_id, one.split))
    pairs = read_table(OUTPUT / "pairs.parquet", PAIRS)
    columns = ["prompt_id", "dimension", "winner", "loser", "split"]
    assert set(pairs[columns].itertuples(index=False, name=None)) == expected
    assert len(pairs) == len(expected) > 0


def test_every_included_test_rating_is_handed_on(root: Path) -> None:
    items = read_table(OUTPUT / "items.parquet", ITEMS)
    table = read_table(OUTPUT / "test_ratings.parquet", TEST_RATINGS)
    sizes = table.groupby(["item_id", "dimension"]).size()
    expected = items[items["split"] == "test"].set_index(["item_id", "dimension"])["num_ratings"]
    assert sizes.to_dict() == expected.to_dict()


def test_a_second_run_writes_the_same_bytes(root: Path) -> None:
    first = {path.name: path.read_bytes() for path in OUTPUT.iterdir()}
    validate.run(Config.load("validate"))
    assert {path.name: path.read_bytes() for path in OUTPUT.iterdir()} == first


def test_data_docs_lie_outside_the_outputs(root: Path) -> None:
    assert Path("reports/data_docs/index.html").is_file()
    assert not list(Path("data").rglob("*.html"))
    page = Path("reports/data_docs/expectations/ratings.html").read_text()
    reasons = json.loads(Path("data/ingest/summary.json").read_text())["sources"]["annotate"]
    assert all(f"quarantine {reason}" in page for reason in reasons["quarantine"])
    assert f"{reasons['native']:,} judgements" in page


def test_every_contract_that_was_checked_is_listed(root: Path) -> None:
    rules = json.loads((OUTPUT / "contracts.json").read_text())
    assert {rule["table"] for rule in rules} == {"ratings", "items", "pairs"}
    assert all(rule["success"] for rule in rules)
    assert "score_w is higher than score_l" in {rule["rule"] for rule in rules}


def test_a_broken_contract_stops_before_anything_is_written(root: Path) -> None:
    shutil.rmtree(OUTPUT)
    ratings = read_table(INPUT, RATINGS)
    ratings.loc[7, "score"] = 6.5
    write_table(ratings, INPUT, RATINGS)
    with pytest.raises(UserError) as caught:
        validate.run(Config.load("validate"))
    message = str(caught.value)
    assert f"{INPUT}: 1 rows violate" in message
    assert f"{ratings.loc[7, 'row_ref']}: 6.5" in message
    assert "zreward ingest" in message
    assert not OUTPUT.exists()
    assert not list(Path("data").glob(".*"))


def test_missing_and_empty_inputs(root: Path) -> None:
    config = Config.load("validate")
    write_table(pd.DataFrame(columns=RATINGS.names), INPUT, RATINGS)
    with pytest.raises(UserError, match=r"ratings.parquet has no ratings.*zreward ingest"):
        validate.run(config)
    INPUT.unlink()
    with pytest.raises(UserError, match=r"ratings.parquet not found.*zreward ingest"):
        validate.run(config)


def test_nobody_agrees(root: Path) -> None:
    Path("params.yaml").write_text("seed: 5\nvalidate: {min_agreement: 1.0, min_overlap: 2}")
    with pytest.raises(UserError, match=r"validate\.min_agreement"):
        validate.run(Config.load("validate"))


def test_settings_change_what_counts(root: Path) -> None:
    Path("params.yaml").write_text(
        "seed: 5\nsplits: {train: 0.4, validation: 0.2}\n"
        "validate: {min_agreement: -1.0, min_test_ratings: 1, trim_test: false}"
    )
    validate.run(Config.load("validate"))
    items = read_table(OUTPUT / "items.parquet", ITEMS)
    ratings = read_table(INPUT, RATINGS)
    means = ratings.groupby(["item_id", "dimension"])["score"].mean()
    assert len(items) == len(means)
    scores = items.set_index(["item_id", "dimension"])["score"]
    assert scores.to_dict() == pytest.approx(means.to_dict())


def test_queue_page_and_audit_belong_together(root: Path) -> None:
    queue = read_table(OUTPUT / "disagreement.parquet", DISAGREEMENT)
    assert len(queue) > 10 and queue["spread"].is_monotonic_decreasing
    page = Path("reports/audit.html").read_text()
    assert queue["item_id"][0] in page and "excluded</span>" in page
    figures = audit()
    for name, alpha in figures["alpha"].items():
        low, high = figures["alpha_interval"][name]
        assert low < alpha < high
    assert figures["annotators"]["6"]["seconds"] < figures["annotators"]["1"]["seconds"]


def test_a_test_split_without_enough_ratings_stops_the_run(root: Path) -> None:
    before = (OUTPUT / "items.parquet").read_bytes()
    with pytest.raises(UserError, match=r"test split is empty: .*'validate.min_test_ratings'"):
        validate.run(Config.load("validate").model_copy(update={"min_test_ratings": 99}))
    assert (OUTPUT / "items.parquet").read_bytes() == before

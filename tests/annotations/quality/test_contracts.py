"""Each broken rule of a contract stops the run and names file and row."""

import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from tests.browser import CHROMIUM, visit
from zreward_core.annotations.items.aggregation import aggregate
from zreward_core.annotations.items.pairs import make_pairs
from zreward_core.annotations.quality.contracts import (
    items_contract,
    pairs_contract,
    ratings_contract,
)
from zreward_core.annotations.quality.data_docs import Gate
from zreward_core.config import UserError
from zreward_core.rubric import Rubric

FILE = Path("data/some/table.parquet")
RATINGS = pd.DataFrame(
    [
        {
            "item_id": f"i{item}",
            "prompt_id": f"p{item // 2}",
            "image_id": f"{item}" * 64,
            "dimension": dimension,
            "score": 1.0 + (item + rater) % 4,
            "source": "study",
            "row_ref": f"export.json#task {item} annotation {rater} {dimension}",
        }
        for item in range(6)
        for dimension in ("alignment", "realism")
        for rater in range(3)
    ]
)


@pytest.fixture
def items(rubric: Rubric) -> pd.DataFrame:
    """Six images of three prompts, the last prompt in the test split."""
    facts = RATINGS.drop_duplicates("item_id").set_index("item_id")[["prompt_id", "image_id"]]
    table = aggregate(RATINGS, RATINGS["prompt_id"] == "p2", rubric).join(facts, on="item_id")
    return table.assign(split=(table["prompt_id"] == "p2").map({True: "test", False: "train"}))


def change(frame: pd.DataFrame, column: str, value: object, row: int = 4) -> pd.DataFrame:
    changed = frame.copy()
    changed.at[row, column] = value
    return changed


def test_sound_tables_pass_and_have_data_docs(
    rubric: Rubric, items: pd.DataFrame, tmp_path: Path
) -> None:
    gate = Gate(tmp_path / "docs")
    gate.check(ratings_contract(RATINGS, rubric, FILE))
    gate.check(items_contract(items, RATINGS, rubric, 3, FILE))
    gate.check(pairs_contract(make_pairs(items), items, rubric, FILE))
    gate.publish()
    pages = [path.read_text() for path in (tmp_path / "docs").rglob("*.html")]
    assert any("each prompt is in one split" in page for page in pages)
    index = (tmp_path / "docs/index.html").read_text()
    assert "each prompt is in one split" in index and index.count("passed") == 3
    linked = re.findall(r'href="([^"]+)"', index)
    assert len(linked) == 6 and all((tmp_path / "docs" / path).is_file() for path in linked)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_data_docs_request_nothing_from_the_network(rubric: Rubric, tmp_path: Path) -> None:
    gate = Gate(tmp_path / "docs")
    gate.check(ratings_contract(RATINGS, rubric, FILE))
    gate.publish()
    pages = sorted((tmp_path / "docs").rglob("*.html"))
    assert len(pages) == 3
    for page in pages:
        assert visit(page.as_uri(), tmp_path)[1] == set(), page
        assert "://" not in re.sub(r'<a [^>]*href="[^"]*"', "", page.read_text())
    script = '<script src="https://example.org/a.js"></script>'
    page.write_text(page.read_text() + script)
    assert visit(page.as_uri(), tmp_path)[1] == set()  # by the policy
    page.write_text(script)
    assert visit(page.as_uri(), tmp_path)[1] == {"https://example.org/a.js"}


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("score", 9.0, "score is between 1 and 5"),
        ("score", None, "score is not null"),
        ("dimension", "beauty", "dimension is defined in the rubric"),
        ("image_id", "image.png", "image_id is a SHA-256 digest"),
        ("prompt_id", "p9", "each item has one prompt"),
    ],
)
def test_ratings(rubric: Rubric, tmp_path: Path, column: str, value: object, rule: str) -> None:
    contract = ratings_contract(change(RATINGS, column, value), rubric, FILE)
    with pytest.raises(UserError, match=rule) as caught:
        Gate(tmp_path / "docs").check(contract)
    # All rows of an item with two prompts break the rule.
    row = "task 0 annotation 0" if column == "prompt_id" else "task 0 annotation 1 realism"
    assert str(FILE) in str(caught.value)
    assert row in str(caught.value)
    assert f"{len(RATINGS)} rows of" in (tmp_path / "docs" / "index.html").read_text()


ITEM_FAULTS: dict[str, tuple[str, Callable[[pd.DataFrame], pd.DataFrame]]] = {
    "outside the scale": ("score is between 1 and 5", lambda t: change(t, "score", 5.5)),
    "not its ratings' mean": (
        "score is between the lowest and the highest rating",
        lambda t: change(t, "score", 4.9, row=0),
    ),
    "wrong sum": ("histogram sums to 1", lambda t: with_shares(t, [0.5] + [0.0] * 8)),
    "negative share": ("no negative share", lambda t: with_shares(t, [-1.0, 2.0] + [0.0] * 7)),
    "wrong mean": ("mean of the histogram equals", lambda t: with_shares(t, [1.0] + [0.0] * 8)),
    "twice": ("one score per dimension", lambda t: change(t, "dimension", "realism", row=0)),
    "leak": ("each prompt is in one split", lambda t: change(t, "split", "test")),
    "unknown split": ("split is train, validation or test", lambda t: t.assign(split="dev")),
    "too few": ("at least 3 in the test split", lambda t: change(t, "num_ratings", 2, row=11)),
    "none": ("num_ratings is at least 3", lambda t: change(t, "num_ratings", 0, row=0)),
}


def with_shares(items: pd.DataFrame, shares: list[float]) -> pd.DataFrame:
    lists = items["histogram"].tolist()
    return items.assign(histogram=[*lists[:4], shares, *lists[5:]])


@pytest.mark.parametrize("name", ITEM_FAULTS)
def test_items(rubric: Rubric, items: pd.DataFrame, tmp_path: Path, name: str) -> None:
    rule, spoil = ITEM_FAULTS[name]
    contract = items_contract(spoil(items), RATINGS, rubric, 3, FILE)
    with pytest.raises(UserError, match=rule):
        Gate(tmp_path / "docs").check(contract)


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("score_w", 1.0, "score_w is higher than score_l|score_w equals the score of the winner"),
        ("loser", None, "loser is not null"),
        ("split", "test", "split equals the split of the winner"),
        ("prompt_id", "p7", "prompt_id equals the prompt_id of the loser"),
        ("dimension", "beauty", "dimension is defined in the rubric"),
    ],
)
def test_pairs(
    rubric: Rubric, items: pd.DataFrame, tmp_path: Path, column: str, value: object, rule: str
) -> None:
    pairs = make_pairs(items)
    with pytest.raises(UserError, match=rule):
        Gate(tmp_path / "docs").check(
            pairs_contract(change(pairs, column, value, row=0), items, rubric, FILE)
        )


def test_winner_and_loser_differ(rubric: Rubric, items: pd.DataFrame, tmp_path: Path) -> None:
    pairs = make_pairs(items)
    pairs.loc[0, "loser"] = pairs.loc[0, "winner"]
    with pytest.raises(UserError, match="winner and loser are different items"):
        Gate(tmp_path / "docs").check(pairs_contract(pairs, items, rubric, FILE))

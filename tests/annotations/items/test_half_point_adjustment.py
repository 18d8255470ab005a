"""An annotator's votes on images with equal scores move their ratings by one level."""

import pandas as pd

from zreward_core.annotations.items.half_point_adjustment import adjust_by_comparisons
from zreward_core.rubric import Rubric
from zreward_core.schemas import COMPARISONS

RATINGS = [
    ("x", "alignment", "anna", 3.0),
    ("y", "alignment", "anna", 3.0),
    ("z", "alignment", "anna", 3.0),
    ("top", "alignment", "anna", 5.0),
    ("best", "alignment", "anna", 5.0),
    ("x", "realism", "anna", 3.0),
    ("y", "realism", "anna", 3.0),
    ("x", "alignment", "ben", 4.0),
    ("y", "alignment", "ben", 4.0),
    ("x", "alignment", None, 2.0),
]
RATED = ["item_id", "dimension", "annotator_id"]


def adjusted(votes: list[tuple[str, str, str]], rubric: Rubric, who: str | None = "anna"):
    ratings = pd.DataFrame(RATINGS, columns=["item_id", "dimension", "annotator_id", "score"])
    rows = [(a, b, "alignment", vote, who, "s", "r") for a, b, vote in votes]
    comparisons = pd.DataFrame(rows, columns=COMPARISONS.names)
    result, moved = adjust_by_comparisons(ratings, comparisons, rubric)
    changed = result["score"] != ratings["score"]
    keys = ["/".join(key) for key in result.loc[changed, RATED].itertuples(index=False)]
    assert moved == changed.sum()
    return dict(zip(keys, result.loc[changed, "score"], strict=True))


def test_winner_goes_up_and_loser_down(rubric: Rubric) -> None:
    moved = {"x/alignment/anna": 3.5, "y/alignment/anna": 2.5}
    assert adjusted([("x", "y", "a")], rubric) == moved
    assert adjusted([("y", "x", "b")], rubric) == moved


def test_the_middle_one_stays(rubric: Rubric) -> None:
    votes = [("x", "y", "a"), ("y", "z", "a"), ("x", "z", "a")]
    assert adjusted(votes, rubric) == {"x/alignment/anna": 3.5, "z/alignment/anna": 2.5}


def test_scores_stay_on_the_scale(rubric: Rubric) -> None:
    assert adjusted([("top", "best", "a")], rubric) == {"best/alignment/anna": 4.5}


def test_repeated_votes_count_once(rubric: Rubric) -> None:
    votes = [("x", "y", "a"), ("y", "x", "b"), ("z", "x", "a")]
    assert adjusted(votes, rubric) == {"y/alignment/anna": 2.5, "z/alignment/anna": 3.5}


def test_what_moves_nothing(rubric: Rubric) -> None:
    assert adjusted([("x", "y", "tie"), ("x", "y", "both_bad")], rubric) == {}
    assert adjusted([("x", "top", "a")], rubric) == {}, "another bin"
    assert adjusted([("x", "y", "a"), ("x", "y", "b")], rubric) == {}, "one vote each"
    assert adjusted([("x", "unknown", "a")], rubric) == {}
    assert adjusted([("x", "y", "a")], rubric, who="carl") == {}, "carl rated neither"
    assert adjusted([("x", "y", "a")], rubric, who=None) == {}, "an anonymous vote"

"""Biases and careless annotators are detected."""

import numpy as np
import pandas as pd
import pytest

from zreward_core.annotations.quality.reliability import (
    alpha_by_dimension,
    alpha_intervals,
    annotator_reliability,
    audit_record,
)


def table(rows: list[tuple[str, str, str | None, float]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["item_id", "dimension", "annotator_id", "score"])


def team(seed: int = 0) -> pd.DataFrame:
    """Three attentive people, one of them half a point too strict, and one careless."""
    rng = np.random.default_rng(seed)
    rows = []
    for item in range(150):
        for dimension, shift in (("alignment", 0.0), ("realism", 1.0)):
            truth = rng.uniform(1, 4) + shift
            for name in ("anna", "ben", "strict"):
                bias = -0.5 if name == "strict" else 0.0
                rows.append((f"i{item}", dimension, name, truth + bias + 0.3 * rng.normal()))
            rows.append((f"i{item}", dimension, "careless", rng.uniform(1, 5)))
    return table(rows)


def test_hand_worked_bias_and_noise() -> None:
    rows = [
        ("i1", "alignment", "a", 4.0),
        ("i1", "alignment", "b", 3.0),
        ("i1", "alignment", "c", 2.0),
        ("i2", "alignment", "a", 5.0),
        ("i2", "alignment", "b", 2.0),
        ("i3", "alignment", "a", 1.0),
    ]
    result = annotator_reliability(table(rows), -1.0, 2).set_index("annotator_id")
    # a: 4 against (3 + 2) / 2 and 5 against 2; i3 is not shared.
    assert result.loc["a", "bias"] == pytest.approx((1.5 + 3.0) / 2)
    assert result.loc["a", "noise"] == pytest.approx(0.75)
    assert result.loc["a", "num_ratings"] == 3
    assert result.loc["a", "num_shared"] == 2
    # a rose from 4 to 5 while the others fell from 2.5 to 2.
    assert result.loc["a", "agreement"] == pytest.approx(-1.0)


def test_careless_falls_and_strict_stays() -> None:
    result = annotator_reliability(team(), 0.4, 20).set_index("annotator_id")
    assert result.index[~result["included"]].tolist() == ["careless"]
    # The careless one pulls the others' mean towards 3, the same for both.
    assert result.loc["strict", "bias"] - result.loc["anna", "bias"] == pytest.approx(
        -0.67, abs=0.1
    )
    assert result.loc["careless", "noise"] > 2 * result.loc["anna", "noise"]


def test_agreement_is_within_dimensions() -> None:
    # Different means of two dimensions must not look like agreement.
    rng = np.random.default_rng(1)
    rows = [
        (f"i{item}", dimension, name, base + 0.1 * rng.normal())
        for item in range(200)
        for dimension, base in (("alignment", 1.5), ("realism", 4.5))
        for name in ("a", "b", "c")
    ]
    result = annotator_reliability(table(rows), 0.4, 20)
    assert result["agreement"].abs().max() < 0.2


def test_one_score_for_everything_agrees_with_nobody() -> None:
    ratings = team()
    ratings.loc[ratings["annotator_id"] == "careless", "score"] = 3.0
    result = annotator_reliability(ratings, 0.4, 20).set_index("annotator_id")
    assert result.loc["careless", "agreement"] == 0.0
    assert not result.loc["careless", "included"]


def test_constant_raters_who_agree_exactly_agree() -> None:
    scores = {"alignment": 4.0, "realism": 2.0}
    rows = [
        (f"i{n}", name, who, scores[name]) for n in range(30) for name in scores for who in "ab"
    ]
    assert annotator_reliability(table(rows), 0.4, 20)["agreement"].tolist() == [1.0, 1.0]
    rows[0] = ("i0", "alignment", "a", 5.0)
    assert annotator_reliability(table(rows), 0.4, 20)["agreement"].tolist() == [0.0, 0.0]


def test_without_overlap_nobody_is_judged() -> None:
    rows = [(f"i{n}", "alignment", name, float(n % 5)) for n in range(30) for name in "ab"]
    single = table(rows).drop_duplicates("item_id")
    for ratings, least in ((single, 2), (table(rows), 31)):
        result = annotator_reliability(ratings, 0.9, least)
        assert result["included"].all()
        assert result["agreement"].isna().all()
    record = audit_record(annotator_reliability(single, 0.9, 2))
    assert record["a"] == {
        "num_ratings": 30,
        "num_shared": 0,
        "bias": None,
        "noise": None,
        "agreement": None,
        "num_gold": 0,
        "gold_bias": None,
        "gold_agreement": None,
        "included": True,
    }


def test_anonymous_votes_count_among_the_others() -> None:
    rows = [("i1", "alignment", "a", 4.0), ("i1", "alignment", None, 2.0)]
    result = annotator_reliability(table(rows), -1.0, 2)
    assert result["annotator_id"].tolist() == ["a"]
    assert result["bias"].tolist() == [2.0]


def test_alpha_of_each_dimension() -> None:
    rows = [(f"i{n}", "alignment", name, float(n)) for n in range(3) for name in "ab"]
    result = alpha_by_dimension(table(rows), ["alignment", "realism"])
    assert result == {"alignment": 1.0, "realism": None}


def test_gold_ratings_decide_where_the_team_is_wrong() -> None:
    # Two annotators agree on the wrong order; the expert and a third annotator on the right one.
    rng = np.random.default_rng(2)
    rows = []
    for item in range(60):
        truth = rng.uniform(1, 5)
        rows += [(f"i{item}", "realism", name, truth) for name in ("expert", "right")]
        wrong = 6 - truth
        rows += [(f"i{item}", "realism", name, wrong) for name in ("wrong1", "wrong2", "wrong3")]
    result = annotator_reliability(table(rows), 0.4, 20, ["expert"]).set_index("annotator_id")
    assert result["included"].to_dict() == {
        "expert": True,
        "right": True,
        "wrong1": False,
        "wrong2": False,
        "wrong3": False,
    }
    assert result.loc["right", "agreement"] < 0.4, "outvoted, but gold decides"
    assert result.loc["right", "gold_agreement"] == pytest.approx(1.0)
    assert result.loc["wrong1", "gold_agreement"] == pytest.approx(-1.0)
    assert result.loc["right", "gold_bias"] == pytest.approx(0.0)
    assert result.loc["right", "num_gold"] == 60
    assert result.loc["expert", "num_gold"] == 0
    assert np.isnan(result.loc["expert", "gold_agreement"])


def test_interval_holds_alpha() -> None:
    ratings = team()
    alphas = alpha_by_dimension(ratings, ["alignment", "realism", "absent"])
    ends = alpha_intervals(ratings, ["alignment", "realism", "absent"], seed=1)
    for name in ("alignment", "realism"):
        low, high = ends[name]
        assert low is not None and high is not None
        assert low < alphas[name] < high  # type: ignore[operator]
    assert ends["absent"] == [None, None]

"""The report on a test split worked by hand, and on a random one against brute force."""

import json

import numpy as np
import pandas as pd
import pytest

from zreward_core.evaluation.agreement import split_means
from zreward_core.evaluation.reference import build_reference
from zreward_core.evaluation.report import evaluate_predictions
from zreward_core.schemas import NotFinite

LEVELS = np.array([1.0, 2.0, 3.0])
FIELDS = {
    "hpa",
    "hpa_low",
    "hpa_high",
    "margin_hpa",
    "plcc",
    "srcc",
    "nll",
    "ece",
    "num_pairs",
    "output_tokens",
}


def make_items(rows: list[tuple[str, str, str, float]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["item_id", "prompt_id", "dimension", "score"])
    frame["histogram"] = [
        np.maximum(0.0, 1 - np.abs(LEVELS - score)).tolist() for score in frame["score"]
    ]
    return frame


def make_pairs(items: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (prompt, dimension), group in items.groupby(["prompt_id", "dimension"]):
        for i, first in enumerate(group.itertuples()):
            for second in list(group.itertuples())[i + 1 :]:
                winner, loser = sorted((first, second), key=lambda row: -row.score)
                rows.append(
                    (prompt, dimension, winner.item_id, loser.item_id, winner.score, loser.score)
                )
    columns = ["prompt_id", "dimension", "winner", "loser", "score_w", "score_l"]
    return pd.DataFrame(rows, columns=columns)


def predict(items: pd.DataFrame, means: list[float], tokens: int = 1) -> pd.DataFrame:
    frame = items[["item_id", "dimension"]].copy()
    frame["mean"] = means
    frame["probs"] = [np.maximum(0.0, 1 - np.abs(LEVELS - mean)).tolist() for mean in means]
    frame["output_tokens"] = tokens
    return frame


@pytest.fixture
def small() -> tuple[pd.DataFrame, pd.DataFrame]:
    items = make_items(
        [
            ("a1", "p", "alignment", 3.0),
            ("a2", "p", "alignment", 1.0),
            ("a3", "q", "alignment", 2.0),
            ("a4", "q", "alignment", 1.5),
            ("a1", "p", "realism", 2.0),
            ("a2", "p", "realism", 2.0),
        ]
    )
    return items, make_pairs(items)


def drawn(num_prompts: int = 30) -> tuple[pd.DataFrame, pd.DataFrame, np.random.Generator]:
    rng = np.random.default_rng(0)
    items = make_items(
        [
            (f"i{prompt}-{image}", f"p{prompt}", dimension, rng.integers(2, 7) / 2)
            for prompt in range(num_prompts)
            for image in range(3)
            for dimension in ("alignment", "realism")
        ]
    )
    return items, make_pairs(items), rng


def test_report_by_hand(small):
    items, pairs = small
    student = predict(items, [2.5, 1.5, 1.0, 2.0, 3.0, 1.0], tokens=1)
    report = evaluate_predictions({"student": student}, items, pairs)
    overall = report["models"]["student"]["overall"]
    assert set(overall) == FIELDS
    # p: correct, 2 points apart; q: incorrect, half a point apart; realism: an annotated tie
    assert (overall["hpa"], overall["margin_hpa"], overall["num_pairs"]) == (0.5, 1.0, 2)
    assert (overall["hpa_low"], overall["hpa_high"]) == (0.0, 1.0)
    assert overall["output_tokens"] == 1.0
    realism = report["models"]["student"]["realism"]
    assert (realism["hpa"], realism["hpa_low"], realism["plcc"]) == (None, None, None)
    assert realism["num_pairs"] == 0
    # above 1: predicted 1 and 0, observed 1 twice; above 2: the same, observed 0 twice
    assert realism["ece"] == pytest.approx(0.5)


def test_report_against_a_loop():
    items, pairs, rng = drawn()
    means = np.clip(items["score"] + rng.normal(0, 0.7, len(items)), 1, 3).tolist()
    report = evaluate_predictions({"teacher": predict(items, means)}, items, pairs)
    by_key = {
        (row.item_id, row.dimension): mean
        for row, mean in zip(items.itertuples(), means, strict=True)
    }
    for name in ("overall", "alignment", "realism"):
        right, wide = [], []
        for pair in pairs.itertuples():
            if (name != "overall" and pair.dimension != name) or pair.score_w == pair.score_l:
                continue
            winner = by_key[pair.winner, pair.dimension]
            loser = by_key[pair.loser, pair.dimension]
            right.append(winner > loser)
            if pair.score_w - pair.score_l > 0.5:
                wide.append(winner > loser)
        part = report["models"]["teacher"][name]
        assert part["hpa"] == pytest.approx(np.mean(right))
        assert part["margin_hpa"] == pytest.approx(np.mean(wide))
        assert part["num_pairs"] == len(right)
        assert part["hpa_low"] < part["hpa"] < part["hpa_high"]


def test_differences_are_paired():
    items, pairs, rng = drawn()
    scores = items["score"].to_numpy()
    noisy = {
        name: predict(items, np.clip(scores + rng.normal(0, width, len(items)), 1, 3).tolist())
        for name, width in (
            ("zero_shot", 3.0),
            ("zero_shot_reasoning", 2.0),
            ("teacher", 0.3),
            ("student", 0.4),
        )
    }
    report = evaluate_predictions(noisy, items, pairs)
    assert set(report["differences"]) == {
        "teacher-zero_shot_reasoning",
        "student-zero_shot",
        "teacher-student",
    }
    entry = report["differences"]["teacher-zero_shot_reasoning"]
    models = report["models"]
    expected = models["teacher"]["overall"]["hpa"] - models["zero_shot_reasoning"]["overall"]["hpa"]
    assert entry["hpa"] == pytest.approx(expected)
    assert 0 < entry["low"] < entry["hpa"] < entry["high"]


def test_identical_models_differ_by_exactly_zero():
    items, pairs, rng = drawn()
    same = predict(items, rng.uniform(1, 3, len(items)).tolist())
    shuffled = same.sample(frac=1, random_state=0)  # the order of the rows is irrelevant
    models = {"zero_shot": same, "student": shuffled, "teacher": same, "zero_shot_reasoning": same}
    report = evaluate_predictions(models, items, pairs)
    assert all(
        entry == {"hpa": 0.0, "low": 0.0, "high": 0.0} for entry in report["differences"].values()
    )
    assert report["models"]["student"] == report["models"]["zero_shot"]


def test_references():
    items, pairs, rng = drawn(60)
    ratings = items.loc[items.index.repeat(5), ["item_id", "dimension", "score"]]
    ratings["annotator_id"] = [f"r{i % 5}" for i in range(len(ratings))]
    exact = evaluate_predictions({}, items, pairs, ratings, items)["reference"]
    for part in (exact["annotator_agreement"], exact["oracle"]):
        assert set(part) == {"overall", "alignment", "realism"}
        assert set(part["overall"]) == FIELDS
        assert part["overall"]["hpa"] == 1.0
        assert part["overall"]["plcc"] == pytest.approx(1.0)
        assert part["overall"]["nll"] is None
    assert (
        exact["annotator_agreement"]["overall"]["num_pairs"]
        == exact["oracle"]["overall"]["num_pairs"]
    )
    ratings["score"] = ratings["score"] + rng.normal(0, 1, len(ratings))
    noisy = evaluate_predictions({}, items, pairs, ratings)["reference"]["annotator_agreement"]
    assert 0.55 < noisy["overall"]["hpa"] < 0.9
    assert noisy["overall"]["hpa_low"] < noisy["overall"]["hpa"] < noisy["overall"]["hpa_high"]
    again = evaluate_predictions({}, items, pairs, ratings)["reference"]["annotator_agreement"]
    assert noisy == again


def test_random_annotators_agree_at_chance_level():
    items, pairs, rng = drawn(150)
    ratings = items.loc[items.index.repeat(4), ["item_id", "dimension"]]
    ratings["score"] = rng.normal(3, 1, len(ratings))
    report = evaluate_predictions({}, items, pairs, ratings)
    assert report["reference"]["annotator_agreement"]["overall"]["hpa"] == pytest.approx(
        0.5, abs=0.06
    )


def test_split_means_by_hand():
    positions = np.array([0, 0, 2, 0])
    scores = np.array([1.0, 2.0, 5.0, 6.0])
    seen = set()
    for seed in range(40):
        first, second = split_means(positions, scores, 3, np.random.default_rng(seed))
        assert first[0] + 2 * second[0] == pytest.approx(9.0)  # one rating predicts the other two
        assert np.isnan(first[[1, 2]]).all()
        assert np.isnan(second[1])
        assert second[2] == 5.0
        seen.add(first[0])
    assert seen == {1.0, 2.0, 6.0}


def test_the_report_is_plain_json(small):
    items, pairs = small
    prediction = predict(items, [2.0] * 6)
    ratings = items[["item_id", "dimension", "score"]].assign(annotator_id="only")
    report = evaluate_predictions({"student": prediction}, items, pairs, ratings, items)
    json.dumps(report, allow_nan=False)
    assert report["models"]["student"]["overall"]["hpa"] == 0.0
    assert report["reference"]["annotator_agreement"]["overall"]["hpa"] is None


def test_no_pairs_and_no_items(small):
    items, pairs = small
    empty = evaluate_predictions(
        {"student": predict(items[:0], [])}, items[:0], pairs[:0], items[:0], items[:0]
    )
    assert empty["models"]["student"]["overall"]["hpa"] is None
    assert empty["models"]["student"]["overall"]["num_pairs"] == 0


def test_missing_and_duplicate_predictions_are_rejected(small):
    items, pairs = small
    prediction = predict(items, [2.0] * 6)
    with pytest.raises(ValueError, match="student: 1 items lack a prediction"):
        evaluate_predictions({"student": prediction[1:]}, items, pairs)
    with pytest.raises(ValueError, match="two predictions"):
        evaluate_predictions({"student": pd.concat([prediction, prediction])}, items, pairs)
    with pytest.raises(ValueError, match="not among the items"):
        build_reference(items[1:], pairs, seed=0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("column", ["mean", "probs"])
def test_predictions_that_are_not_finite_are_refused(small, column: str, value: float) -> None:
    items, pairs = small
    frame = predict(items, [2.0] * len(items)).astype({"mean": float})
    frame.at[2, column] = value if column == "mean" else [value, 0.0, 0.0]
    with pytest.raises(NotFinite, match=rf"m: 1 of {len(items)} predictions are not finite"):
        evaluate_predictions({"m": frame}, items, pairs)

"""Blind pairs and GSB (equation 21)."""

import math

import numpy as np
import pandas as pd
import pytest

from zreward_core.evaluation.gsb import aggregate_gsb, blind_pairs, gsb_share, judge, unblind
from zreward_core.schemas import NotFinite


def test_gsb_by_hand():
    assert gsb_share(5, 2, 3) == pytest.approx(0.2)
    assert gsb_share(3, 2, 5) == -gsb_share(5, 2, 3)
    assert math.isnan(gsb_share(0, 0, 0))


def test_blind_pairs_are_balanced_shuffled_and_reproducible():
    ids = [f"p{i}" for i in range(100)]
    pairs = blind_pairs(ids, seed=3)
    assert sorted(pairs["prompt_id"]) == sorted(ids)
    assert (pairs["left"] == "tuned").sum() == 50
    assert (pairs["left"] != pairs["right"]).all()
    assert pairs["prompt_id"].tolist() != ids
    pd.testing.assert_frame_equal(pairs, blind_pairs(ids, seed=3))
    assert pairs["left"].tolist() != blind_pairs(ids, seed=4)["left"].tolist()


def test_sides_are_drawn_and_do_not_follow_the_position_of_a_pair():
    num_pairs, num_seeds = 40, 200
    tuned_left = np.array(
        [
            blind_pairs([f"p{i}" for i in range(num_pairs)], seed).sort_values("pair")["left"]
            == "tuned"
            for seed in range(num_seeds)
        ]
    )
    # Sides that alternate by position would give a share of 0 or 1; 0.5 has standard error 0.035.
    shares = tuned_left.mean(axis=0)
    assert shares.min() > 0.35 and shares.max() < 0.65
    repeats = (tuned_left[:, 1:] == tuned_left[:, :-1]).mean()
    assert repeats == pytest.approx((num_pairs / 2 - 1) / (num_pairs - 1), abs=0.03)


def test_sides_do_not_alternate_in_the_order_of_presentation():
    shown = [blind_pairs([f"p{i}" for i in range(40)], seed)["left"] for seed in range(200)]
    first = np.mean([sides.iloc[0] == "tuned" for sides in shown])
    repeats = np.mean([(sides[1:].to_numpy() == sides[:-1].to_numpy()).mean() for sides in shown])
    assert 0.35 < first < 0.65
    assert repeats == pytest.approx(19 / 39, abs=0.03)


def test_judge_by_hand():
    left = np.array([[3.0, 3.0], [3.0, 3.0], [3.0, 3.0], [1.0, 5.0]])
    right = np.array([[3.2, 3.25], [2.7, 3.0], [3.6, 2.9], [5.0, 1.2]])
    choices = judge(left, right, ["a", "b"])
    assert choices["a"].tolist() == ["same", "left", "right", "right"]
    assert choices["b"].tolist() == ["right", "same", "same", "left"]
    # means over the two: +.225, -.15, +.25, +.1
    assert choices["overall"].tolist() == ["same", "same", "right", "same"]


def test_unblinding_inverts_the_sides():
    choices = pd.DataFrame({"overall": ["left", "left", "right", "right", "same"]})
    verdicts = unblind(choices, ["tuned", "base", "tuned", "base", "base"])
    assert verdicts["overall"].tolist() == ["good", "bad", "bad", "good", "same"]


def test_an_unknown_choice_is_rejected():
    with pytest.raises(ValueError, match="better"):
        unblind(pd.DataFrame({"overall": ["better"]}), ["tuned"])


def test_blinding_changes_no_verdict():
    rng = np.random.default_rng(0)
    base, tuned = rng.uniform(1, 5, (2, 30, 2))
    pairs = blind_pairs([str(i) for i in range(30)], seed=0)
    order = pairs["pair"].to_numpy()
    tuned_left = (pairs["left"] == "tuned").to_numpy()[:, None]
    left = np.where(tuned_left, tuned[order], base[order])
    right = np.where(tuned_left, base[order], tuned[order])
    blind = unblind(judge(left, right, ["a", "b"]), pairs["left"])
    plain = unblind(judge(base, tuned, ["a", "b"]), ["base"] * 30)
    pd.testing.assert_frame_equal(blind, plain.iloc[order].reset_index(drop=True))


def test_aggregate_by_hand():
    verdicts = pd.DataFrame({"overall": ["good"] * 6 + ["same"] * 2 + ["bad"] * 2})
    entry = aggregate_gsb(verdicts, [str(i) for i in range(10)], seed=0)["overall"]
    assert (entry["good"], entry["same"], entry["bad"]) == (6, 2, 2)
    assert entry["gsb"] == pytest.approx(0.4)
    assert -1 <= entry["low"] < 0.4 < entry["high"] <= 1


def test_equal_generators_have_a_zero_interval():
    scores = np.random.default_rng(0).uniform(1, 5, (8, 2))
    verdicts = unblind(judge(scores, scores, ["a", "b"]), ["base"] * 8)
    for entry in aggregate_gsb(verdicts, [str(i) for i in range(8)], seed=0).values():
        assert entry == {"good": 0, "same": 8, "bad": 0, "gsb": 0.0, "low": 0.0, "high": 0.0}


def test_images_of_a_prompt_are_resampled_together():
    verdicts = pd.DataFrame({"overall": ["good", "good", "bad", "bad"]})
    together = aggregate_gsb(verdicts, ["a", "a", "b", "b"], seed=0)["overall"]
    apart = aggregate_gsb(verdicts, ["a", "b", "a", "b"], seed=0)["overall"]
    assert (together["low"], together["high"]) == (-1.0, 1.0)
    assert (apart["low"], apart["high"]) == (0.0, 0.0)


def test_no_judgements_are_null():
    entry = aggregate_gsb(pd.DataFrame({"overall": []}), [], seed=0)["overall"]
    assert entry == {"good": 0, "same": 0, "bad": 0, "gsb": None, "low": None, "high": None}


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_that_are_not_finite_are_not_judged_the_same(value):
    left, right = np.ones((2, 1)), np.ones((2, 1))
    right[1, 0] = value
    with pytest.raises(NotFinite, match="not finite"):
        judge(left, right, ["charm"])

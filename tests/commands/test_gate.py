"""The promotion gate on a few pairs."""

import numpy as np
import pandas as pd
import pytest

from zreward_core.commands.gate import Config, FrozenTest, judge
from zreward_core.config import UserError
from zreward_core.schemas import NotFinite


def pairs(num_prompts: int) -> pd.DataFrame:
    rows = [(f"p{n}", "charm", f"a{n}", f"b{n}", 4.0, 2.0, "test") for n in range(num_prompts)]
    columns = ["prompt_id", "dimension", "winner", "loser", "score_w", "score_l", "split"]
    return pd.DataFrame(rows, columns=columns)


def scores(right: list[bool]) -> pd.Series:
    values = {}
    for n, one in enumerate(right):
        values[(f"a{n}", "charm")], values[(f"b{n}", "charm")] = (2.0, 1.0) if one else (1.0, 2.0)
    found = pd.Series(values, name="value")
    found.index.names = ["item_id", "dimension"]
    return found


def verdict(candidate: list[bool], champion: list[bool], margin: float):
    test = FrozenTest(pairs(len(candidate)), pd.DataFrame(), "key")
    config = Config(seed=1, margin=margin, num_resamples=500)
    return judge(config, test, scores(candidate), scores(champion))


def test_the_same_student_has_a_difference_of_zero() -> None:
    right = [True, False, True, True]
    found = verdict(right, right, 0.0)
    assert found.passed and (found.difference, found.low, found.high) == (0.0, 0.0, 0.0)
    assert "on 4 test pairs" in found.reason


def test_a_student_that_is_wrong_everywhere_is_blocked() -> None:
    found = verdict([False] * 6, [True] * 6, 0.5)
    assert not found.passed and (found.difference, found.low, found.high) == (-1.0, -1.0, -1.0)
    assert verdict([True] * 6, [False] * 6, 0.0).passed


def test_the_reason_names_the_margin_and_a_gate_that_cannot_block() -> None:
    worse, better = [False] * 6, [True] * 6
    assert verdict(worse, better, 0.5).reason.endswith("is below -0.5 (promote.margin)")
    assert verdict(better, worse, 0.02).reason.endswith("is at least -0.02 (promote.margin)")
    open_gate = verdict(worse, better, 1.0)
    assert open_gate.passed and "with promote.margin 1 every difference passes" in open_gate.reason


def test_the_margin_is_compared_with_the_lower_bound_not_the_difference() -> None:
    candidate, champion = [False, *[True] * 9], [True, *[True] * 9]
    found = verdict(candidate, champion, 0.2)
    assert found.difference == pytest.approx(-0.1) and found.low < -0.2 and not found.passed
    assert verdict(candidate, champion, -found.low).passed


def test_pairs_with_equal_scores_are_excluded() -> None:
    tied = pairs(3).assign(score_w=2.0)
    with pytest.raises(UserError, match="no test pair with different scores"):
        judge(Config(seed=1), FrozenTest(tied, pd.DataFrame(), "key"), *[scores([True] * 3)] * 2)


def test_scores_that_are_not_finite_are_refused_whatever_the_margin() -> None:
    test = FrozenTest(pairs(3), pd.DataFrame(), "key")
    good, broken = scores([True] * 3), scores([True] * 3)
    broken.iloc[0] = np.nan
    for two in ((broken, good), (good, broken)):
        with pytest.raises(NotFinite, match="1 of 3 pairs have a score that is not finite"):
            judge(Config(seed=1, margin=1.0), test, *two)


def test_pairs_that_a_model_did_not_score_are_left_out_and_counted() -> None:
    test = FrozenTest(pairs(4), pd.DataFrame(), "key")
    whole = scores([True, True, True, False])
    short = whole.drop([("a3", "charm")])
    for two in ((short, whole), (whole, short)):
        found = judge(Config(seed=1, margin=0.0), test, *two)
        assert found.passed and "on 3 test pairs" in found.reason
        assert "1 test pairs were left out, their prompts are too long" in found.reason
    with pytest.raises(UserError, match="no test pair"):
        judge(Config(seed=1), test, short[:0], whole)


def test_a_student_of_another_rubric_is_rejected() -> None:
    test = FrozenTest(pairs(1).assign(dimension="beauty"), pd.DataFrame(), "key")
    with pytest.raises(UserError, match="another rubric"):
        judge(Config(seed=1), test, scores([True]), scores([True]))

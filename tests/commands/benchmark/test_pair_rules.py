"""Rules for pairs, on figures worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from zreward_core.commands.benchmark import pair_rules
from zreward_core.commands.benchmark.judges import Decisions, first_image
from zreward_core.commands.benchmark.tables import Pair


def pairs(labels: list[float], **columns: list) -> pd.DataFrame:
    rows = [Pair("file", f"p{n}", 2 * n, 2 * n + 1, label) for n, label in enumerate(labels)]
    return pd.DataFrame(rows, columns=Pair._fields).assign(**columns)


def share(credit, frame: pd.DataFrame, differences: list[float]) -> tuple[float, float]:
    difference = np.array(differences)
    credits, weights = credit(frame, Decisions(difference, difference))
    assert not (credits[weights == 0]).any()
    return credits.sum(), weights.sum()


# people: first, second, second, tie, both bad; the judge: right, right, tie, tie, first
LABELS = [1, -1, -1, 0, 0]
DIFFERENCES = [0.5, -2.0, 0.0, 0.0, 0.1]


@pytest.mark.parametrize(
    ("credit", "right", "total"),
    [
        (pair_rules.strict, 2, 3),
        (pair_rules.both_orders, 2, 3),
        (pair_rules.four_classes, 3, 5),  # the predicted tie of the fourth pair, too
        (pair_rules.ties_never_right, 2, 5),
        (pair_rules.predicted_ties_left_out, 2, 2),
    ],
)
def test_ties(credit, right: float, total: float) -> None:
    assert share(credit, pairs(LABELS), DIFFERENCES) == (right, total)


def test_a_preference_for_a_position_is_worth_half_in_both_orders() -> None:
    frame, judge = pairs([1, 1, 1, -1]), first_image(4)
    assert pair_rules.strict(frame, judge)[0].sum() == 3
    assert pair_rules.both_orders(frame, judge)[0].tolist() == [0.5] * 4


def test_only_a_known_low_confidence_excludes_a_pair() -> None:
    frame = pairs([1, 1, 1], confidence=[0.94, 0.95, np.nan])
    assert share(pair_rules.confident, frame, [1, -1, 1]) == (1, 2)


def test_means_of_rankings() -> None:
    # first ranking: three pairs, one of them a tie of people; second: one pair
    frame = pairs([1, -1, 0, 1], ranking=[0, 0, 0, 1])
    differences = [1.0, 1.0, -1.0, 0.0]
    assert share(pair_rules.strict, frame, differences) == (1, 3)
    assert share(pair_rules.mean_of_rankings, frame, differences) == (0.5, 2)
    # the tie of people is right, and the judge's tie is an order: the first is better
    right, rankings = share(pair_rules.inversions, frame, differences)
    assert right == pytest.approx(2 / 3 + 1) and rankings == pytest.approx(2)


def test_a_ranking_of_ties_has_no_share() -> None:
    frame = pairs([0, 1], ranking=[0, 1])
    assert share(pair_rules.mean_of_rankings, frame, [1, 1]) == (1, 1)

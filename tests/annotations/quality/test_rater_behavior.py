"""Drift, straight-lining, seconds and distribution of scores, by hand."""

import numpy as np
import pandas as pd
import pytest

from zreward_core.annotations.items.times import parse_times
from zreward_core.annotations.quality.encoding import encode
from zreward_core.annotations.quality.rater_behavior import audit_behavior
from zreward_core.rubric import Rubric


def audit(frame: pd.DataFrame, rubric: Rubric) -> pd.DataFrame:
    encoded = encode(frame, rubric.names)
    result = audit_behavior(encoded, parse_times(frame["submitted_at"]), frame["seconds"], rubric)
    return result.set_index("annotator_id")


def work(num_items: int = 60) -> pd.DataFrame:
    """Two people; "slips" starts where "steady" is and ends a point above."""
    rng = np.random.default_rng(1)
    rows = []
    for item in range(num_items):
        time = f"2026-01-05T{9 + item // 60:02d}:{item % 60:02d}:00.000000Z"
        for dimension in ("alignment", "realism"):
            truth = rng.uniform(1, 4)
            rows.append((f"i{item}", dimension, "steady", truth, time, 10.0 + item))
            slipped = truth + item / (num_items - 1)
            rows.append((f"i{item}", dimension, "slips", slipped, time, 4.0))
    columns = ["item_id", "dimension", "annotator_id", "score", "submitted_at", "seconds"]
    return pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=2)


def test_drift_is_found_whatever_the_order_of_the_rows(rubric: Rubric) -> None:
    result = audit(work(), rubric)
    assert result.loc["slips", "drift"] == pytest.approx(1.0, abs=0.01)
    assert result.loc["slips", "drift_error"] < 0.01
    assert result.loc["steady", "drift"] == pytest.approx(-1.0, abs=0.01)
    parts = result.loc["slips", "drift_parts"]
    assert len(parts) == 10 and parts[0] < 0.1 and parts[-1] > 0.9
    assert parts == sorted(parts)


def test_seconds_are_the_median_of_a_submission(rubric: Rubric) -> None:
    result = audit(work(), rubric)
    assert result["seconds"].to_dict() == {"slips": 4.0, "steady": 10.0 + 59 / 2}


def test_too_little_or_no_time_gives_no_drift(rubric: Rubric) -> None:
    for frame in (work().assign(submitted_at=None), work(6)):
        result = audit(frame, rubric)
        assert result["drift"].isna().all() and result["drift_parts"].isna().all()
    assert audit(work().assign(submitted_at=None), rubric)["longest_run"].isna().all()
    assert audit(work().assign(seconds=np.nan), rubric)["seconds"].isna().all()


def test_straight_lining_by_hand(rubric: Rubric) -> None:
    # b: alignment 3 3 3 4, realism 3 3 1 4: three of four submissions have one score.
    scores = {"alignment": [3, 3, 3, 4], "realism": [3, 3, 1, 4]}
    rows = [
        (f"i{place}", dimension, "b", float(score), f"2026-01-0{place + 1}T00:00:00Z", 1.0)
        for dimension, values in scores.items()
        for place, score in enumerate(values)
    ]
    rows.append(("i9", "alignment", "one dimension only", 2.0, "2026-01-01T00:00:00Z", 1.0))
    columns = ["item_id", "dimension", "annotator_id", "score", "submitted_at", "seconds"]
    result = audit(pd.DataFrame(rows, columns=columns), rubric)
    assert result.loc["b", "same_share"] == 0.75
    assert result.loc["b", "longest_run"] == 3
    assert np.isnan(result.loc["one dimension only", "same_share"])
    assert result.loc["b", "scores"] == [1, 0, 0, 0, 5, 0, 2, 0, 0]


def test_anonymous_votes_are_nobodys_habit(rubric: Rubric) -> None:
    frame = work().assign(annotator_id=None)
    assert audit(frame, rubric).empty

"""The page says who does not count and why, shows everybody, and trusts no text."""

import re

import numpy as np
import pandas as pd
import pytest
from zreward_core.annotations.encoding import encode

from zreward_core.annotations.quality.audit import (
    alpha_by_dimension,
    alpha_intervals,
    audit_annotators,
    audit_record,
)
from zreward_core.annotations.quality.audit_page import audit_page, remarks_on
from zreward_core.annotations.quality.rater_behavior import audit_habits
from zreward_core.annotations.svg import round_ticks
from zreward_core.rubric import Rubric
from zreward_core.schemas import DISAGREEMENT

TEAM = {"seconds": 20.0, "noise": 0.5, "same_share": 0.05}
SOUND = {
    "agreement": 0.8, "gold_agreement": None, "num_shared": 100, "seconds": 18.0, "same_share": 0.1,
    "bias": 0.1, "noise": 0.5, "drift": 0.1, "drift_error": 0.1,
}  # fmt: skip
LEAST = {"min_agreement": 0.4, "min_overlap": 20}


@pytest.fixture
def audit(rubric: Rubric) -> dict:
    rng = np.random.default_rng(1)
    rows = []
    for item in range(40):
        for dimension in rubric.names:
            truth = rng.uniform(1, 5)
            rows += [(f"i{item}", dimension, n, float(np.round(truth))) for n in ("anna", "ben")]
            rows.append((f"i{item}", dimension, "<b>carl", float(rng.integers(1, 6))))
    frame = pd.DataFrame(rows, columns=["item_id", "dimension", "annotator_id", "score"])
    coded = encode(frame, rubric.names)
    times = pd.Series([f"2026-01-05T{n // 60:02d}:{n % 60:02d}:00Z" for n in range(len(frame))])
    habits = audit_habits(coded, times, pd.Series(np.full(len(frame), 9.0)), rubric)
    table = audit_annotators(coded, 0.4, 20)
    return {
        "alpha": alpha_by_dimension(coded, rubric.names),
        "alpha_interval": alpha_intervals(coded, rubric.names, 1),
        "alpha_included": alpha_by_dimension(coded, rubric.names),
        "annotators": audit_record(table.merge(habits, on="annotator_id")),
        "thresholds": LEAST,
        "levels": rubric.levels,
        "counts": dict.fromkeys(
            ("ratings", "ratings_excluded", "resubmissions", "ratings_adjusted"), 7
        ),
    }


def test_a_row_for_everybody_and_no_foreign_markup(audit: dict) -> None:
    empty = pd.DataFrame(columns=DISAGREEMENT.names)
    page = audit_page(audit, empty)
    assert "<b>carl" not in page and "&lt;b&gt;carl" in page
    rows = re.findall(r'<tr(?: class="out")?><td class=""><b>(.*?)</b>', page)
    assert rows == ["&lt;b&gt;carl", "anna", "ben"], "who agrees least comes first"
    assert "does not count" in page and "agrees too little with the others" in page
    assert "No item was rated differently" in page
    assert not re.search(r'(src|href)="http', page), "nothing is fetched"


def test_disputed_items_are_shown_with_their_images(audit: dict) -> None:
    row = {
        "item_id": "i1", "prompt_id": "p", "prompt": "<script>", "image_id": "f" * 64,
        "dimension": "alignment", "spread": 2.0, "lowest": 1.0, "highest": 5.0, "num_ratings": 3,
        "split": "test",
    }  # fmt: skip
    page = audit_page(audit, pd.DataFrame([row]), {"f" * 64: b"\x89PNG"})
    assert "&lt;script&gt;" in page and "<script>" not in page
    assert 'src="data:image/png;base64,iVBORw==' in page
    assert "1 to 5" in page


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, None),
        ({"agreement": 0.1}, "agrees too little with the others (0.10)"),
        ({"gold_agreement": 0.3}, "with the gold ratings"),
        ({"agreement": None}, "too few to judge"),
        ({"seconds": 5.0}, "fast: 5.0 s"),
        ({"same_share": 0.8}, "one score for all dimensions in 80%"),
        ({"bias": -0.9}, "strict by 0.90"),
        ({"noise": 1.5}, "scatters 3.0 times"),
        ({"drift": 0.9}, "drifted by +0.90"),
        ({"drift": 0.9, "drift_error": 0.5}, None),
    ],
)
def test_remarks(change: dict, told: str | None) -> None:
    remarks = remarks_on(SOUND | change, TEAM, LEAST)
    assert len(remarks) == (told is not None)
    assert told is None or told in remarks[0]


def test_axes_have_round_numbers() -> None:
    assert round_ticks(0, 32.7) == [0, 5, 10, 15, 20, 25, 30]
    assert round_ticks(-1.93, 1.93) == [-1, 0, 1]
    assert round_ticks(0, 0.6) == [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]

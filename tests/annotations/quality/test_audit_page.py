"""The page shows every annotator and the reasons for exclusion; all text is escaped."""

import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from zreward_core.annotations.items.times import parse_times
from zreward_core.annotations.quality.audit_page import audit_page, remarks_on
from zreward_core.annotations.quality.audit_plots import plot_biases, plot_seconds
from zreward_core.annotations.quality.encoding import encode
from zreward_core.annotations.quality.rater_behavior import audit_behavior
from zreward_core.annotations.quality.reliability import (
    alpha_by_dimension,
    alpha_intervals,
    annotator_reliability,
    audit_record,
)
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
    encoded = encode(frame, rubric.names)
    texts = pd.Series([f"2026-01-05T{n // 60:02d}:{n % 60:02d}:00Z" for n in range(len(frame))])
    times, seconds = parse_times(texts), pd.Series(np.full(len(frame), 9.0))
    behavior = audit_behavior(encoded, times, seconds, rubric)
    table = annotator_reliability(encoded, 0.4, 20)
    return {
        "alpha": alpha_by_dimension(encoded, rubric.names),
        "alpha_interval": alpha_intervals(encoded, rubric.names, 1),
        "alpha_included": alpha_by_dimension(encoded, rubric.names),
        "annotators": audit_record(table.merge(behavior, on="annotator_id")),
        "thresholds": LEAST,
        "levels": rubric.levels,
        "counts": dict.fromkeys(
            ("ratings", "ratings_excluded", "resubmissions", "ratings_adjusted"), 7
        ),
    }


def test_a_row_per_annotator_and_escaped_names(audit: dict) -> None:
    empty = pd.DataFrame(columns=DISAGREEMENT.names)
    page = audit_page(audit, empty)
    assert "<b>carl" not in page and "&lt;b&gt;carl" in page
    rows = re.findall(r'<tr(?: class="out")?><td><b>(.*?)</b>', page)
    assert rows == ["&lt;b&gt;carl", "anna", "ben"], "lowest agreement first"
    assert "excluded" in page and "low agreement with the others" in page
    assert "Included annotators disagree on no item" in page
    assert not re.search(r'(src|href)="http', page), "nothing is loaded from elsewhere"


def test_each_plot_has_its_own_legend(audit: dict) -> None:
    page = audit_page(audit, pd.DataFrame(columns=DISAGREEMENT.names))
    legends = re.findall(r"<figure><img[^>]*><figcaption>(.*?)</figcaption></figure>", page)
    assert [legend.partition("Red: ")[2].split(".")[0] for legend in legends] == [
        "alpha below 0",
        "excluded",
        "excluded",
    ]


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
    ("change", "remark"),
    [
        ({}, None),
        ({"agreement": 0.1}, "low agreement with the others (0.10)"),
        ({"gold_agreement": 0.3}, "with the gold ratings"),
        ({"agreement": None}, "too few to judge"),
        ({"seconds": 5.0}, "too fast: 5.0 s"),
        ({"same_share": 0.8}, "one score for all dimensions in 80%"),
        ({"bias": -0.9}, "strict by 0.90"),
        ({"noise": 1.5}, "noise 3.0 times the team median"),
        ({"drift": 0.9}, "drifted by +0.90"),
        ({"drift": 0.9, "drift_error": 0.5}, None),
    ],
)
def test_remarks(change: dict, remark: str | None) -> None:
    remarks = remarks_on(SOUND | change, TEAM, LEAST)
    assert len(remarks) == (remark is not None)
    assert remark is None or remark in remarks[0]


def test_plots_repeat_and_take_names_literally() -> None:
    names = ["<b>carl", "a$^b$", "x & y"]
    people = {name: SOUND | {"included": name != "a$^b$"} for name in names}
    plot = plot_biases(people, {"x & y"})
    assert plot == plot_biases(people, {"x & y"}), "no date and no random identifiers"
    text = "".join(ElementTree.fromstring(plot or b"").itertext())
    assert all(name in text for name in names) and "x & y *" in text
    assert b"<b>" not in (plot or b"")
    (colour,) = set(re.findall(rb"stroke: (#b23a00)", plot or b""))
    assert colour, "the excluded annotator is red"
    assert plot_seconds({}, 0.4) is None and plot_biases({}, set()) is None

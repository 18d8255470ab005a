"""The speed benchmark runs with tiny sizes, and its page shows the committed figures."""

import pytest

from benchmarks import speed
from benchmarks.speed_measures import Measured, alternate
from benchmarks.speed_models import TINY
from zreward_core.config import UserError
from zreward_core.schemas import read_json

CASES = {"score": 2, "dimensions": 2, "server": 2}
"""Rows of the ratios that have several."""


@pytest.mark.parametrize("name", speed.RATIOS)
def test_every_ratio_is_measured(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    rows = speed.measure([name], TINY)["rows"]
    assert len(rows) == CASES.get(name, 1)
    for found in rows:
        assert found["name"] == name and found["parameters"] > 0
        assert found["repeats"] == 1 and min(*found["seconds"], found["ratio"]) > 0
    printed = capfd.readouterr().out
    assert all(speed.line(found) in printed for found in rows)


def measured(first: list[float], second: list[float]) -> Measured:
    return Measured("miniature", 559_488, first, second, weight=2.0, note="4 images")


def test_a_row_has_the_median_of_the_ratios_of_each_repeat() -> None:
    ratio = speed.RATIOS["score"][0]
    found = speed.row(ratio, measured([1.0, 3.0, 5.0], [2.0, 4.0, 20.0]))
    assert [found[key] for key in ("ratio", "lowest", "highest", "repeats")] == [1.0, 0.5, 1.5, 3]
    assert found["seconds"] == [3.0, 4.0] and found["met"] and found["reason"] is None
    assert "| miniature, 0.56 M | ≥ 0.9 | 1.00 (0.50-1.50, 3 repeats) | yes |" in speed.line(found)


def test_a_missed_goal_is_shown_with_its_reason() -> None:
    for name, seconds in (("score", 0.4), ("dimensions", 0.6)):
        ratio = speed.RATIOS[name][0]
        found = speed.row(ratio, measured([seconds], [1.0]))
        assert not found["met"] and f"**missed**: {ratio.missed}" in speed.line(found)


def test_both_sides_alternate_after_one_run_of_each() -> None:
    runs: list[str] = []
    times = iter(range(100))
    first, second = alternate(
        lambda: runs.append("first"), lambda: runs.append("second"), 2, lambda: float(next(times))
    )
    assert runs == ["first", "second"] * 3
    assert first == second == [1.0, 1.0]


def test_the_page_shows_the_committed_figures() -> None:
    text, results = speed.PAGE.read_text(), read_json(speed.FIGURES)
    assert text == speed.rendered(text, results), "run python -m benchmarks.speed --render"
    results["rows"][0]["ratio"] = 0.123
    assert "0.12 (" in speed.rendered(text, results)
    with pytest.raises(UserError, match="<!-- run: speed -->"):
        speed.rendered("# Speed", results)

"""Submission times in the formats of exports."""

import pandas as pd

from zreward_core.annotations.items.times import UNKNOWN, parse_times


def test_times_in_many_forms() -> None:
    iso = parse_times(pd.Series(["1970-01-01T00:00:01Z", None, "1970-01-01T01:00:01+01:00"]))
    assert iso.tolist() == [1_000_000, UNKNOWN, 1_000_000]
    mixed = parse_times(
        pd.Series(["1970-01-01 00:00:02", "yesterday", None, "Jan 1 1970 00:00:03"])
    )
    assert mixed.tolist() == [2_000_000, UNKNOWN, UNKNOWN, 3_000_000]
    unix = parse_times(
        pd.Series(["1670000000", "1670000000.25", " 1670000000123", None, "1670000000123456", "7"])
    )
    first = 1_670_000_000_000_000
    assert (unix[:3] - first).tolist() == [0, 250_000, 123_000]
    assert unix[4] - first == 123_456
    assert unix[[3, 5]].tolist() == [UNKNOWN, UNKNOWN]
    wrong = parse_times(pd.Series(["2026-06-31 00:00:00", "1970-01-01 00:00:02"]))
    assert wrong.tolist() == [UNKNOWN, 2_000_000]


def days(*texts: str) -> list[int]:
    """Days since 1970, -1 if unknown."""
    return [
        -1 if one == UNKNOWN else one // 86_400_000_000 for one in parse_times(pd.Series(texts))
    ]


def test_dates_of_other_tools_sort_by_time() -> None:
    assert days("02-Jan-1970 10:51:16", "01-Feb-1970 09:00:00") == [1, 31]
    assert days("01/02/1970", "01/03/1970") == [1, 2], "the month comes first"
    assert days("02/01/1970", "31/01/1970") == [1, 30], "no month is the 31st"
    assert days("02.01.1970", "3.1.1970") == [1, 2], "dates with dots have the day first"
    assert days("02/01/1970", "31/01/1970", "01/31/1970") == [-1, 30, 30], "they contradict"

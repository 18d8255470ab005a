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


def days_of_2024(*texts: str) -> list[int]:
    """Days since 1 January 2024, -1 if unknown."""
    return [one if one < 0 else one - 19_723 for one in days(*texts)]


def test_years_of_two_digits() -> None:
    assert days_of_2024("13/01/24 10:00", "03/02/24 10:00") == [12, 33], "no month is the 13th"
    assert days_of_2024("02/01/24, 3:04 PM", "03/01/24") == [31, 60], "the month comes first"
    assert days_of_2024("03.02.24", "3.1.24 10:00") == [33, 2], "dates with dots have the day first"
    assert days_of_2024("02-01-24", "31-01-24", "Wed, 03-01-24") == [1, 30, 2]
    assert days_of_2024("10:00 31/01/24", "10:00 PM 02/01/24") == [30, 1]
    assert days_of_2024("02/01/24", "31/01/24", "01/31/24") == [-1, 30, 30], "they contradict"
    assert days_of_2024("03-Feb-24", "3 Feb 24 10:00", "Feb 3, 2024") == [33, 33, 33]


def test_times_without_a_date_or_year_are_unknown() -> None:
    texts = ["10:00", "10:00:05.25 PM", "T10:00", "10:00 +0100", "now", "today", "Jan 5", "5/1"]
    assert days(*texts, "Tue, 5 Jan 10:00") == [-1] * 9
    assert days("1970/01/03", "19700103", "1970-01", "Jan 1970") == [2, 2, 0, 0]

"""Submission times in the formats of exports."""

import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

UNKNOWN = np.iinfo(np.int64).min


def _stamps(texts: pa.Array) -> pa.Array:
    return pc.cast(texts, pa.timestamp("us")).cast(pa.int64())


def _zoned(texts: pa.Array) -> pa.Array:
    return pc.cast(texts, pa.timestamp("us", tz="UTC")).cast(pa.int64())


def _unix(microseconds: int) -> Callable[[pa.Array], pa.Array]:
    def read(texts: pa.Array) -> pa.Array:
        return pc.round(pc.multiply(texts.cast(pa.float64()), microseconds)).cast(pa.int64())

    return read


_DAY_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?"
TIMES = {
    _DAY_TIME + r"(Z|[+-][0-9]{2}:?[0-9]{2})$": _zoned,
    _DAY_TIME + "$": _stamps,
    r"^[0-9]{9,10}(\.[0-9]+)?$": _unix(1_000_000),
    r"^[0-9]{12,13}(\.[0-9]+)?$": _unix(1_000),
    r"^[0-9]{15,16}$": _unix(1),
}
"""Pattern of a time to its parser; Unix times from 1973 to 2286 have these numbers of digits."""


_CLOCK = re.compile(r"\d{1,2}:\d{2}(:\d{2}([.,]\d+)?)?(\s*[+-]\d{2}:?\d{2}(?!\d))?")
_MONTH = re.compile(r"(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)", re.IGNORECASE)
_NUMERIC_DATE = (
    r"^(?:[A-Za-z]+\.?,?\s+)?(?:\d{1,2}:\d{2}(?::\d{2})?(?:\s*[AaPp][Mm])?,?\s+)?"
    r"(\d{1,2})([-/.])(\d{1,2})[-/.](?:\d{4}|\d{2})(?!\d)"
)
"""Two numbers of a date and the separator, behind a weekday and a time of day."""


def parse_times(texts: pd.Series) -> np.ndarray:
    """[N] microseconds since 1970 (UTC); ``UNKNOWN`` where the text is missing or not a time.

    Common forms are parsed as whole columns: ISO 8601, and Unix seconds, milliseconds and
    microseconds. pandas parses all others. Dates such as 03/04/2026 have the month first unless
    another one of the column has a number above 12 there; dates with dots have the day first. Years
    may have two digits; a time of day alone, or a date without a year, is unknown.
    """
    column = pc.utf8_trim_whitespace(pa.array(texts, type=pa.string(), from_pandas=True))
    times_N = np.full(len(column), UNKNOWN)
    left_N = column.is_valid().to_numpy(zero_copy_only=False)
    first = next((text.as_py() for text in column if text.is_valid), "")
    likely_first = sorted(TIMES.items(), key=lambda form: not re.match(form[0], first))
    for pattern, read in likely_first:  # no text fits two patterns
        rows = np.flatnonzero(left_N)
        if not len(rows):
            break
        rest = column if len(rows) == len(column) else column.take(pa.array(rows))
        fits = pc.match_substring_regex(rest, pattern)
        try:
            read_M = read(rest.filter(fits)).to_numpy(zero_copy_only=False)
        except pa.ArrowInvalid:  # an invalid date such as 31 June: pandas parses these rows
            continue
        rows = rows[fits.to_numpy(zero_copy_only=False)]
        times_N[rows] = read_M
        left_N[rows] = False
    rows = np.flatnonzero(left_N)
    codes, distinct = pd.factorize(column.take(pa.array(rows)).to_pandas())
    parsed = _parse_others(pd.Series(distinct, dtype=object))
    known = parsed.dt.as_unit("us").astype("int64").where(parsed.notna(), UNKNOWN)
    times_N[rows] = known.to_numpy(dtype=np.int64)[codes]
    return times_N


def _has_year(text: str) -> bool:
    """Whether a text has a date with its year; pandas completes other texts by today's date."""
    date = _CLOCK.sub(" ", text)
    numbers = re.findall(r"\d+", date)
    named = _MONTH.search(date) is not None
    return any(len(one) >= 4 for one in numbers) or len(numbers) + named >= 3


def _parse_others(texts: pd.Series) -> pd.Series:
    texts = texts.where(texts.map(_has_year, na_action="ignore").eq(True), None)
    parts = texts.str.extract(_NUMERIC_DATE)
    first, second = parts[0].astype(float), parts[2].astype(float)
    day_first = (parts[1] == ".") | ((first > 12).any() and not (second > 12).any())
    parsed = pd.Series(pd.NaT, index=texts.index, dtype="datetime64[ns, UTC]")
    for rows, flag in ((day_first, True), (~day_first, False)):
        parsed[rows] = pd.to_datetime(
            texts[rows], errors="coerce", utc=True, format="mixed", dayfirst=flag
        )
    either = (first <= 12) & (second <= 12) & (parts[1] != ".")
    contradiction = (first > 12).any() and (second[parts[1] != "."] > 12).any()
    return parsed.mask(either & contradiction)

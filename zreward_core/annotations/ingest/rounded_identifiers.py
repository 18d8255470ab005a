"""Identifiers that a program stored as numbers and rounded: two of them can have become equal.

Shapes: N records.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from zreward_core.annotations.formats.records import is_text

_ROUNDED = (
    r"^\s*-?\d(?:[.,]\d+)?(?:"
    r"E\+\d{2,3}"  # Excel, from 12 digits on
    r"|e\+(?:1[5-9]|[2-9]\d|\d{3})"  # Python and R; R writes 100000 as 1e+05
    r")\s*$"
    r"|^\s*-?\d[.,]\d+[eE](?:1[5-9]|[2-9]\d)\s*$"  # Java
)


def are_rounded(column: pa.Array) -> np.ndarray:
    """[N] whether a value is a number in scientific notation, or a float too large to be exact."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        flags = are_rounded(column.dictionary)
        if not flags.any():
            return np.zeros(len(column), dtype=bool)
        codes = pc.fill_null(column.indices, -1).to_numpy(zero_copy_only=False)
        return np.append(flags, False)[codes]  # a code of -1 is the last
    if pa.types.is_floating(kind):
        values = column.to_numpy(zero_copy_only=False)
        limit = 2.0 ** (np.finfo(values.dtype).nmant + 1)
        return np.isfinite(values) & (np.abs(values) >= limit)
    if is_text(kind):
        found = pc.fill_null(pc.match_substring_regex(column, _ROUNDED), False)
        return found.to_numpy(zero_copy_only=False)
    return np.zeros(len(column), dtype=bool)

"""Mutated mappings and bytes."""

import copy
import datetime
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Path = tuple[int | str, ...]
"""Keys from the top of nested mappings and lists to a value."""

LONELY = st.sampled_from(["\ud800", "\0", "a\udfffb", "", " ", "../x", "~", "1e-3", "true", "nan"])
NUMBERS = st.one_of(
    st.integers(),
    st.sampled_from([0, -1, 1, 2**31, 2**63, 2**64, 10**400]),
    st.floats(),
    st.sampled_from([float("nan"), float("inf"), float("-inf"), -0.0, 1e-320, 1e308, 1e10]),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    NUMBERS,
    NUMBERS,
    st.text(max_size=8),
    LONELY,
    st.just(datetime.date(2026, 1, 1)),
    st.binary(max_size=3),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=5), NUMBERS, st.none()), inner, max_size=3),
    ),
    max_leaves=5,
)
KINDS = ("replace", "replace", "delete", "misspell", "add", "wrap")
FACTORS = st.sampled_from([-1, 0, 0.5, 2, 10, 1e10, 1e30, float("inf"), float("nan")])


def paths(value: Any, at: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every place in nested mappings and lists with its value, without the top."""
    if not isinstance(value, dict | list):
        return
    for key, one in value.items() if isinstance(value, dict) else enumerate(value):
        yield (*at, key), one
        yield from paths(one, (*at, key))


@st.composite
def mutated(draw: st.DrawFn, value: dict[str, Any]) -> dict[str, Any]:
    """A copy of a mapping with one or two changes, half of them of numbers."""
    changed = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 2))):
        places = dict(paths(changed))
        numbers = [path for path, one in places.items() if isinstance(one, int | float)]
        chosen = numbers if numbers and draw(st.booleans()) else list(places)
        if chosen:
            _change(draw, changed, draw(st.sampled_from(chosen)))
    return changed


def _change(draw: st.DrawFn, top: Any, path: Path) -> None:
    holder = top
    for key in path[:-1]:
        holder = holder[key]
    key, kind = path[-1], draw(st.sampled_from(KINDS))
    if kind == "delete":
        del holder[key]
    elif kind == "misspell" and isinstance(key, str):
        holder[key[1:] + key[:1]] = holder.pop(key)
    elif kind == "add" and isinstance(holder, dict):
        holder[draw(st.one_of(st.text(max_size=6), NUMBERS))] = draw(VALUES)
    elif kind == "wrap":
        holder[key] = [holder[key]]
    elif isinstance(holder[key], int | float) and draw(st.booleans()):
        holder[key] = draw(NUMBERS) if draw(st.booleans()) else holder[key] * draw(FACTORS)
    else:
        holder[key] = draw(VALUES)


@st.composite
def mutated_bytes(draw: st.DrawFn, content: bytes) -> bytes:
    """A copy with up to four changes: cut, overwritten, inserted, removed or repeated bytes."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        end = draw(st.integers(at, min(len(content), at + 64)))
        kind = draw(st.sampled_from(["cut", "overwrite", "insert", "remove", "repeat"]))
        fresh = draw(st.binary(max_size=8))
        content = {
            "cut": content[:at],
            "overwrite": content[:at] + fresh + content[at + len(fresh) :],
            "insert": content[:at] + fresh + content[at:],
            "remove": content[:at] + content[end:],
            "repeat": content[:end] + content[at:],
        }[kind]
    return content

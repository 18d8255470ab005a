"""Records with several judgements unfolded: a record per answer, or per pair of
images of a ranking.

Shapes: N records before, L records after.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from zreward_core.annotations.formats.records import (
    Records,
    Wanted,
    column_of,
    matched,
    parsed,
    pick,
    raw_text,
)
from zreward_core.annotations.ingest.column_settings import (
    ANSWER,
    ENTRANTS,
    JUDGED,
    RANKED,
    Cell,
    Ranking,
)
from zreward_core.annotations.ingest.list_cells import text_lists
from zreward_core.annotations.ingest.mapping import cells_in, cells_of
from zreward_core.annotations.ingest.settings import Answers, Source
from zreward_core.annotations.ingest.values import OK, parse_number, texts

_OWN = re.compile(rf"{ANSWER}([._].*)?|{RANKED}\..*")
"""Names of columns that unfolding creates."""


def wanted_of(source: Source) -> Wanted:
    """Columns and reader settings that a source requests from its files."""
    names = [cell.column for cell in cells_of(source) if cell.column is not None]
    judged = [cell.column for name in JUDGED for cell in cells_in(getattr(source.columns, name))]
    answers, pattern = source.answers, None
    if answers is not None or source.columns.ranking is not None:
        names = [name for name in names if not _OWN.fullmatch(name)]
    if answers is not None:
        pattern = answers.columns
        names += [answers.root[0]] if answers.path is not None else []
        judged += [answers.root[0]]
    return Wanted(
        tuple(dict.fromkeys(names)),
        pattern=pattern,
        judged=frozenset(name for name in judged if name is not None),
        encoding=source.encoding,
        records=source.records,
        delimiter=source.delimiter,
        header_row=source.header_row,
        sheet=source.sheet,
    )


def unfold(records: Records, source: Source) -> Records:
    """Unfold records, so that each has at most one judgement."""
    if source.answers is not None:
        records = _unfold_answers(records, source.answers, _names(source))
    if source.columns.ranking is not None:
        records = _unfold_ranking(records, source.columns.ranking, source.decimal)
    return records


def _names(source: Source) -> list[str]:
    return [cell.column for cell in cells_of(source) if cell.column is not None]


def _unfold_answers(records: Records, answers: Answers, names: list[str]) -> Records:
    """A record per answer; one without any counts as an empty result."""
    rows: list[int] = []
    found: list[Any] = []
    captured: list[tuple[str, ...]] = []
    ignored, broken = Counter(records.ignored), list(records.broken)
    refs = records.refs.to_pylist()
    empty = _empty(records)
    for row, listed in enumerate(_listed(records, answers)):
        if empty[row]:
            listed = [(None, ())]  # stays an empty line
        elif listed is None:
            broken.append((refs[row], raw_text(_record(records, row))))
            continue
        elif not listed:
            ignored["empty_result"] += 1
        for answer, keys in listed:
            blank = answer is None or answer == ""
            if blank and answers.optional and not empty[row]:
                ignored["empty_result"] += 1
                continue
            rows.append(row)
            found.append(answer)
            captured.append(keys)
    columns = {name: one.take(pa.array(rows, pa.int64())) for name, one in records.columns.items()}
    for name in names:
        if name == ANSWER or name.startswith(f"{ANSWER}."):
            path = name[len(ANSWER) + 1 :]
            columns[name] = column_of([pick(one, path) if path else one for one in found])
        elif re.fullmatch(rf"{ANSWER}_\d+", name):
            place = int(name[len(ANSWER) + 1 :]) - 1
            parts = [keys[place] if 0 <= place < len(keys) else None for keys in captured]
            columns[name] = pa.array(parts, pa.string())
    places = [
        f"{refs[row]} answer {' '.join(keys)}" if keys else refs[row]
        for row, keys in zip(rows, captured, strict=True)
    ]
    return Records(
        columns,
        pa.array(places, pa.string()),
        broken,
        num_repaired=records.num_repaired,
        ignored=ignored,
    )


def _listed(
    records: Records, answers: Answers
) -> Iterator[list[tuple[Any, tuple[str, ...]]] | None]:
    """Answers of each record, and the keys that lead to them; None: no list or object."""
    if answers.columns is not None:
        found = {name: matched(answers.columns, name) for name in records.columns}
        keys = {
            name: tuple(one or "" for one in match.groups()) or (name,)
            for name, match in found.items()
            if match
        }
        cells = {name: records.columns[name].to_pylist() for name in keys}
        for row in range(len(records)):
            yield [(cells[name][row], keys[name]) for name in keys]
        return
    top, path = answers.root
    for value in records.columns[top].to_pylist():
        yield _leaves(value, path, ())


def _leaves(
    value: Any, path: list[str], keys: tuple[str, ...]
) -> list[tuple[Any, tuple[str, ...]]] | None:
    """The values at a path with stars; None if a list or object is expected but missing."""
    if not path:
        return [(value, keys)]
    value = parsed(value)
    if value is None or value == "":
        return []
    if path[0] != "*":
        return _leaves(pick(value, path[0]), path[1:], keys)
    if isinstance(value, dict):
        pairs = [(key, one) for key, one in value.items()]
    elif isinstance(value, list):
        pairs = [(str(place), one) for place, one in enumerate(value)]
    else:
        return None
    found = [_leaves(one, path[1:], (*keys, key)) for key, one in pairs]
    if any(one is None for one in found):
        return None
    return [leaf for one in found if one for leaf in one]


def _unfold_ranking(records: Records, ranking: Ranking, decimal: str | None) -> Records:
    """A record per pair of images of each ranking."""
    cells = {name: getattr(ranking, f"{name}s") for name in ENTRANTS}
    cells = {name: _with_marks(records, one) for name, one in cells.items() if one is not None}
    marked = {name for name, one in cells.items() if isinstance(one, Cell) and one.separator == ">"}
    entrants = {name: _lists(records, one) for name, one in cells.items()}
    ranks = None if ranking.ranks is None else _lists(records, ranking.ranks)
    rows: list[int] = []
    made: dict[str, list[str | None]] = {
        f"{RANKED}.{name}": []
        for name in ("vote", *(f"{one}_{side}" for one in ENTRANTS for side in "ab"))
    }
    broken, refs, empty = list(records.broken), records.refs.to_pylist(), _empty(records)
    for row in range(len(records)):
        named = {name: lists[row] for name, lists in entrants.items()}
        if ranks is None:
            named, places = _ordered(named, marked)
        else:
            places = ranks[row]
        pairs = _pairs(named, places, ranking, decimal)
        if pairs is None and not empty[row]:
            broken.append((refs[row], raw_text(_record(records, row))))
            continue
        for pair in pairs or [{}]:
            rows.append(row)
            for name, column in made.items():
                column.append(pair.get(name[len(RANKED) + 1 :]))
    index = pa.array(rows, pa.int64())
    columns = {name: column.take(index) for name, column in records.columns.items()}
    columns |= {name: pa.array(one, pa.string()) for name, one in made.items()}
    return replace(records, columns=columns, refs=records.refs.take(index), broken=broken)


def _with_marks(records: Records, cells: Cell | list[Cell]) -> Cell | list[Cell]:
    """The cells, with the separator of a column such as A>B=C; HTML has such characters, too."""
    if isinstance(cells, list) or cells.separator is not None:
        return cells
    column = records.columns[cells.key]
    if pa.types.is_nested(column.type):
        return cells
    distinct = [one for one in texts(column, cells).listed() if one is not None]
    marks = any(">" in one for one in distinct) and not any("<" in one for one in distinct)
    return cells.model_copy(update={"separator": ">"}) if marks else cells


def _ordered(
    named: dict[str, list[str | None]], marked: set[str]
) -> tuple[dict[str, list[str | None]], list[str | None]]:
    """Entrants, best first, and their ranks: those of a list in the list, or of A=B, are tied."""
    groups = {
        name: [_group(part, name in marked) for part in parts] for name, parts in named.items()
    }
    sizes = [[len(group) for group in one] for one in groups.values()]
    flat = {name: [one for group in listed for one in group] for name, listed in groups.items()}
    if any(one != sizes[0] for one in sizes):  # two lists that are tied differently
        return flat, []
    return flat, [str(place) for place, size in enumerate(sizes[0]) for _ in range(size)]


def _group(part: str | None, marked: bool) -> list[str | None]:
    """The entrants of one place of a ranking."""
    if part is None:
        return [part]
    if marked:
        return [one.strip() or None for one in part.split("=")]
    listed = parsed(part)
    if not isinstance(listed, list):
        return [part]
    return [one if isinstance(one, str) or one is None else json.dumps(one) for one in listed]


def _pairs(
    named: dict[str, list[str | None]],
    ranks: list[str | None],
    ranking: Ranking,
    decimal: str | None,
) -> list[dict[str, str | None]] | None:
    """Comparisons of a ranking; None if it is not one of at least two images."""
    lengths = {len(one) for one in [*named.values(), ranks]}
    if len(lengths) != 1:
        return None
    (number,) = lengths
    read = [parse_number(one, decimal) for one in ranks]
    if any(state != OK for (_, state), one in zip(read, ranks, strict=True) if one is not None):
        return None
    sign = -1.0 if ranking.higher_is_better else 1.0
    places = [sign * value if state == OK else None for value, state in read]
    known = [
        place
        for place in range(number)
        if places[place] is not None and any(one[place] for one in named.values())
    ]
    entrants = [tuple(one[place] for one in named.values()) for place in known]
    if len(known) < 2 or len(set(entrants)) < len(entrants):
        return None
    pairs = []
    for a, b in combinations(known, 2):
        gap = places[a] - places[b]  # type: ignore[operator]
        pair: dict[str, str | None] = {"vote": "a" if gap < 0 else "b" if gap > 0 else "tie"}
        for name, one in named.items():
            pair |= {f"{name}_a": one[a], f"{name}_b": one[b]}
        pairs.append(pair)
    return pairs


def _lists(records: Records, cells: Cell | list[Cell]) -> list[list[str | None]]:
    """[N] texts of a list cell, or of one column each."""
    if isinstance(cells, list):
        columns = []
        for cell in cells:
            fixed = cell.value is not None
            column = [cell.value] * len(records) if fixed else records.columns[cell.key]
            columns.append(column if fixed else texts(column, cell).take().to_pylist())
        return [list(row) for row in zip(*columns, strict=True)]
    flat, lengths = text_lists(records.columns[cells.key], cells)
    listed, ends = flat.to_pylist(), np.cumsum(lengths)
    return [listed[end - length : end] for end, length in zip(ends, lengths, strict=True)]


def _empty(records: Records) -> np.ndarray:
    """[N] whether all values of a record are missing."""
    empty = np.ones(len(records), dtype=bool)
    for column in records.columns.values():
        empty &= np.array([one is None or one == "" for one in column.to_pylist()], dtype=bool)
    return empty


def _record(records: Records, row: int) -> dict[str, Any]:
    return {name: column[row].as_py() for name, column in records.columns.items()}

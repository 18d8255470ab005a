"""Whether the quotes of a delimited file enclose whole cells.

In a well-formed file (RFC 4180), a quote opens a cell, closes a cell, or is doubled inside one. If
a file has any other quote, such as one that is never closed, a parser can read the following rows
as the text of one cell.
"""

import codecs
from collections.abc import Iterator
from pathlib import Path

import numpy as np

CHUNK_BYTES = 2**22
QUOTE, LINE_ENDS = ord('"'), (ord("\n"), ord("\r"))


def is_sound(path: Path, encoding: str, delimiter: str, width: int) -> bool:
    """Check all quotes of a file.

    A line inside a quoted cell that has as many delimiters as a row of the table is taken as a row
    hidden by unclosed quotes: the file is not well-formed.

    Args:
        path: the file.
        encoding: its encoding, as a Python codec name.
        delimiter: between the cells.
        width: number of columns.
    """
    separators = np.zeros(256, dtype=bool)
    separators[[ord(delimiter), *LINE_ENDS]] = True
    open_ = False
    for chunk in _chunks(path, encoding):
        if QUOTE not in chunk and not open_:
            continue
        text = np.frombuffer(chunk, dtype=np.uint8)
        quotes = np.flatnonzero(text == QUOTE)
        if not _enclose_cells(text, quotes, separators, open_):
            return False
        if _hides_rows(text, quotes, ord(delimiter), width, open_):
            return False
        open_ ^= bool(len(quotes) % 2)
    return not open_


def _chunks(path: Path, encoding: str) -> Iterator[bytes]:
    """Chunks of whole lines of the file, in UTF-8 (or a superset of ASCII)."""
    if codecs.lookup(encoding).name.startswith(("utf-16", "utf-32")):
        with path.open(encoding=encoding, errors="replace", newline="") as file:
            while text := file.read(CHUNK_BYTES):
                yield (text + file.readline()).encode()
    else:
        with path.open("rb") as file:
            file.seek(len(codecs.BOM_UTF8) if encoding == "utf-8-sig" else 0)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk + file.readline()


def _enclose_cells(
    text: np.ndarray, quotes: np.ndarray, separators: np.ndarray, open_: bool
) -> bool:
    """Whether each run of quotes opens or closes a cell, or both, or is doubled inside one."""
    if not len(quotes):
        return True
    starts = np.append(True, np.diff(quotes) > 1)
    first = quotes[starts]
    lengths = np.diff(np.append(np.flatnonzero(starts), len(quotes)))
    inside = (np.flatnonzero(starts) + open_) % 2 == 1
    after = first + lengths
    last = len(text) - 1
    after_separator = (first == 0) | separators[text[first - 1]]
    before_separator = (after > last) | separators[text[np.minimum(after, last)]]
    odd = lengths % 2 == 1
    sound = np.where(inside, before_separator | ~odd, after_separator & (before_separator | odd))
    return bool(sound.all())


def _hides_rows(
    text: np.ndarray, quotes: np.ndarray, delimiter: int, width: int, open_: bool
) -> bool:
    """Whether a whole line inside a quoted cell has as many delimiters as a row."""
    ends = np.flatnonzero(text == LINE_ENDS[0])
    inside = (np.searchsorted(quotes, ends) + open_) % 2 == 1
    before = np.append(open_, inside[:-1])
    if width < 2 or not (inside & before).any():
        return False
    places = np.searchsorted(np.flatnonzero(text == delimiter), ends)
    counts = np.diff(np.append(0, places))
    untouched = np.diff(np.append(0, np.searchsorted(quotes, ends))) == 0
    return bool((inside & before & untouched & (counts == width - 1)).any())

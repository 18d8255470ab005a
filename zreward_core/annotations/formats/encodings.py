"""The encoding of a text file, and invalid bytes."""

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from zreward_core.annotations.formats.records import Wanted
from zreward_core.config import UserError

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
GZIP = b"\x1f\x8b"
WIDE = (
    ("utf-32-le", 4, (0,), (2, 3)),
    ("utf-32-be", 4, (3,), (0, 1)),
    ("utf-16-le", 2, (0,), (1,)),
    ("utf-16-be", 2, (1,), (0,)),
)
"""Encoding, bytes per character, and which of them are never NUL and often NUL."""
START_BYTES = 2**14
MIN_NULS = 0.05
"""Share of characters below U+0100 from which a text without a mark is UTF-16 or UTF-32."""
CHUNK_BYTES = 2**22
_LETTERS = re.compile(r"[^\x00-\x7f\ufffd]")
_NOT_IN_CP1252 = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")


@dataclass(frozen=True)
class Encoding:
    """Result of one pass over a text file."""

    name: str
    """Python's name of the encoding."""
    damaged: bool
    """Some bytes are not valid in this encoding."""
    guessed: bool = False
    """The file is neither UTF-8 nor marked, and any 8-bit encoding fits it."""


def encoding_of(path: Path, wanted: Wanted) -> Encoding:
    """The declared or detected encoding of a file; a note says that it was guessed.

    Raises:
        UserError: the file is not text, or the declared encoding is unknown.
    """
    found = detect_encoding(path, wanted.encoding)
    if found.guessed:
        wanted.notes.append(guess_note(found.name))
    return found


def guess_note(name: str) -> str:
    """The remark about a guessed encoding."""
    return f"not UTF-8, read as {name}; set `encoding` if letters look wrong"


def detect_encoding(path: Path, declared: str | None = None) -> Encoding:
    """Detect the encoding of a text file: by its byte order mark, else UTF-8, else Latin-1.

    A file with more non-ASCII UTF-8 letters than invalid bytes is damaged UTF-8; a file whose
    non-ASCII bytes are mostly invalid UTF-8 is Latin-1 (or cp1252, its extension by Windows). NULs
    show UTF-16 and UTF-32 without a mark.

    Raises:
        UserError: the file is compressed, or the declared encoding is unknown.
    """
    with path.open("rb") as file:
        start = file.read(START_BYTES)
    refuse_gzip(start, path)
    marked = next((name for mark, name in MARKS if start.startswith(mark)), None)
    encoding = declared or marked or _wide(start) or "utf-8"
    try:
        decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    except LookupError:
        raise UserError(
            f"{path}: unknown encoding '{encoding}'; use the name of a Python codec"
        ) from None
    wrong = right = 0
    windows = True
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            if encoding == "utf-8" and chunk.isascii() and not decoder.getstate()[0]:
                continue
            text = decoder.decode(chunk)
            lost = text.count("\ufffd")
            wrong += lost
            # Counting letters is slow; in a clean chunk, surplus bytes approximate their number.
            right += len(_LETTERS.findall(text)) if lost else len(chunk) - len(text)
            windows = windows and _NOT_IN_CP1252.search(chunk) is None
    wrong += decoder.decode(b"", final=True).count("\ufffd")
    if encoding == "utf-8" and not declared and wrong > right:
        return Encoding("cp1252" if windows else "latin-1", False, guessed=True)
    return Encoding(encoding, wrong > 0)


def refuse_gzip(start: bytes, path: Path) -> None:
    """Reject a compressed file.

    Raises:
        UserError: its first bytes are those of gzip.
    """
    if start.startswith(GZIP):
        raise UserError(f"{path}: compressed by gzip; decompress it (`gunzip`)")


def _wide(start: bytes) -> str | None:
    """UTF-16 or UTF-32 without a byte order mark, by the places of NULs."""
    for name, width, never, often in WIDE:
        number = len(start) // width
        counts = [start[place : number * width : width].count(0) for place in range(width)]
        if any(counts[place] for place in never) or not number:
            continue
        # All characters of UTF-32 have NULs; of UTF-16 those of ASCII and Latin-1 do.
        least = number if width == 4 else MIN_NULS * number
        if all(counts[place] >= least for place in often):
            return name
    return None

"""The encoding of a text file, and invalid bytes."""

import codecs
import re
from dataclasses import dataclass
from pathlib import Path

from zreward_core.config import UserError

MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
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


def detect_encoding(path: Path, declared: str | None = None) -> Encoding:
    """Detect the encoding of a text file: by its byte order mark, else UTF-8, else Latin-1.

    A file with more non-ASCII UTF-8 letters than invalid bytes is damaged UTF-8; a file whose
    non-ASCII bytes are mostly invalid UTF-8 is Latin-1 (or cp1252, its extension by Windows).

    Raises:
        UserError: the declared encoding is unknown.
    """
    with path.open("rb") as file:
        start = file.read(4)
    encoding = declared or next((name for mark, name in MARKS if start.startswith(mark)), "utf-8")
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
        return Encoding("cp1252" if windows else "latin-1", False)
    return Encoding(encoding, wrong > 0)

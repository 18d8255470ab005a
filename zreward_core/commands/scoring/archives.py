"""WebDataset: tar archives whose consecutive members with one key are a sample.

The key of a member is its name up to the first dot of the last component; the rest is the suffix
(https://github.com/webdataset/webdataset, "The WebDataset Format").
"""

import tarfile
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import IO, Any

from zreward_core.annotations.formats.records import pick
from zreward_core.commands.scoring.rows import SUFFIXES, Columns, Images, Row, Source
from zreward_core.commands.scoring.tables import PROMPT_COLUMNS
from zreward_core.config import UserError, parse_json, writable
from zreward_core.images import MAX_BYTES

TEXTS = ("txt", "caption", "prompt")
"""Suffixes of members that are a prompt."""
ADJACENT = "the members of a sample must follow each other in the archive"
Member = tuple[str, str, int, int]
"""Key, suffix, offset and length."""


class Archives(Source):
    """Samples of plain tar archives: an image, and a text or JSON member with its prompt."""

    def __init__(self, files: Sequence[Path], columns: Columns) -> None:
        """Count the samples; only the headers are read.

        Raises:
            UserError: an archive is damaged or compressed.
        """
        self.files, self._columns = files, columns
        self._counts = [sum(1 for _ in _samples(path)) for path in files]
        self.count = sum(self._counts)

    def rows(self, start: int = 0) -> Iterator[Row]:
        """The samples from a position on, archive by archive."""
        images, first = Images(Path(".")), 0
        for path, count in zip(self.files, self._counts, strict=True):
            if first + count > start:
                with path.open("rb") as file:
                    for number, (key, members) in enumerate(_samples(path), start=first):
                        if number >= start:
                            yield self._row(images, path, key, members, file)
            first += count

    def _row(
        self, images: Images, path: Path, key: str, members: list[Member], file: IO[bytes]
    ) -> Row:
        place = writable(f"{path} sample {key}")
        parts = {suffix: (offset, length) for _, suffix, offset, length in members}
        shown = ", ".join(suffix for _, suffix, _, _ in members)
        if len(parts) < len(members):
            return Row(place, error=f"the sample has a member twice: {shown}")
        found = [one for one in parts if f".{one.rpartition('.')[2]}" in SUFFIXES]
        suffix = self._columns.image or (found[0] if found else None)
        if suffix not in parts:
            return Row(place, error=f"the sample has no image, only {shown}; {ADJACENT}")
        if self._columns.image is None and len(found) > 1:
            return Row(
                place,
                error=f"the sample has several images ({', '.join(found)}): name one with"
                f" --image-column {suffix}",
            )
        name = f"{key}.{suffix}"
        content = _content(file, *parts[suffix])
        if content is None:
            return Row(place, name, error=f"the image has more than {MAX_BYTES:,} bytes")
        prompt = self._columns.text
        if prompt is None:
            prompt = self._prompt({one: parts[one] for one in parts if one != suffix}, file)
            if prompt is None:
                reason = f"the prompt is missing, the sample has only {shown}; {ADJACENT}"
                return Row(place, writable(name), error=reason)
        row = images.row(place, content, prompt)
        return Row(row.place, writable(name), row.prompt, row.image, row.error)

    def _prompt(self, parts: dict[str, tuple[int, int]], file: IO[bytes]) -> Any:
        """The prompt of a sample; None if there is none."""
        if self._columns.prompt is None:
            for suffix in TEXTS:
                if suffix in parts:
                    content = _content(file, *parts[suffix]) or b""
                    return content.decode("utf-8-sig", "replace").strip()
        try:
            record = parse_json(_content(file, *parts["json"]) or b"") if "json" in parts else {}
        except ValueError:
            return None
        names = PROMPT_COLUMNS if self._columns.prompt is None else [self._columns.prompt]
        values = (pick(record, name.removeprefix("json.")) for name in names)
        return next((value for value in values if value is not None), None)


def _samples(path: Path) -> Iterator[tuple[str, list[Member]]]:
    """Keys of an archive with their members."""
    for key, members in groupby(_members(path), key=lambda member: member[0]):
        yield key, list(members)


def _members(path: Path) -> Iterator[Member]:
    try:
        with tarfile.open(path, "r:") as opened:
            while (one := opened.next()) is not None:
                opened.members = []  # type: ignore[attr-defined]  # it keeps all of them
                if not one.isfile():
                    continue
                folder, slash, base = one.name.rpartition("/")
                stem, _, suffix = base.partition(".")
                if stem:
                    key = f"{folder}{slash}{stem}"
                    yield key, suffix.lower(), one.offset_data, one.size
    except (tarfile.TarError, OSError) as error:
        raise UserError(
            f"{writable(str(path))} is not a whole, uncompressed tar archive ({error}): unpack or"
            " download it again"
        ) from None


def _content(file: IO[bytes], offset: int, length: int) -> bytes | None:
    if length > MAX_BYTES:
        return None
    file.seek(offset)
    return file.read(length)

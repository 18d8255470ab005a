"""Images with their prompts, as they are read from tables, folders and archives."""

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zreward_core.annotations.ingest.references import embedded
from zreward_core.config import UserError, writable
from zreward_core.images import ImageStore

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".avif", ".tif", ".tiff")
"""Suffixes of image files."""
IMAGE_ID = re.compile(r"[0-9a-f]{64}")
URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""A URL; a drive of Windows has one letter."""
MAX_NAME = 4096
"""Longer references are embedded images and are not kept as names."""


@dataclass(frozen=True)
class Row:
    """One image with its prompt, or the reason why there is none."""

    place: str
    """File and row, for messages."""
    name: str | None = None
    """The image as its source names it; None for bytes in a table."""
    prompt: str | None = None
    image: Path | bytes | None = None
    """A file, or encoded bytes."""
    error: str | None = None
    """Why it cannot be scored."""


class Source(ABC):
    """Images with prompts, in a fixed order. One image is read at a time."""

    files: Sequence[Path]
    """The files that list the images; with their sizes and times they identify the source."""
    count: int
    """Number of rows."""

    @abstractmethod
    def rows(self, start: int = 0) -> Iterator[Row]:
        """The rows from a position on.

        Raises:
            UserError: a file is damaged beyond one row.
        """


@dataclass(frozen=True)
class Columns:
    """Where rows have image and prompt; None: the first of the usual names that is present."""

    image: str | None = None
    prompt: str | None = None
    text: str | None = None
    """The prompt of all images, instead of a column."""


@dataclass(frozen=True)
class Images:
    """Turns the cells of an image column into images."""

    folder: Path
    """Folder of relative paths."""
    store: ImageStore | None = field(default=None, compare=False)
    """Shards with the images of cells that are image ids."""

    def row(self, place: str, value: Any, prompt: Any) -> Row:
        """A row of a table from its two cells."""
        name = self._name(value)
        try:
            return Row(place, name, checked_prompt(prompt), self._find(value))
        except UserError as error:
            text = writable(prompt) if isinstance(prompt, str) else None
            return Row(place, name, text, error=str(error))

    def _name(self, value: Any) -> str | None:
        if isinstance(value, Mapping):
            value = value.get("path")
        return writable(value) if isinstance(value, str) and len(value) <= MAX_NAME else None

    def _find(self, value: Any) -> Path | bytes:
        if isinstance(value, Mapping):  # an image of `datasets`
            value = value.get("bytes") or value.get("path")
        if isinstance(value, bytes) and value:
            return value
        if not isinstance(value, str) or not value:
            raise UserError("the cell of the image is empty, or neither a path nor bytes")
        if self.store is not None and IMAGE_ID.fullmatch(value):
            return self.store.content(value)
        try:
            content = embedded(value)
        except ValueError as error:
            raise UserError(f"the embedded image is damaged: {error}") from None
        if content is not None:
            return content
        if URL.match(value):
            raise UserError(f"{writable(value)} is a URL: download the image, and name its file")
        path = self.folder / value
        if "\\" in value and not os.path.exists(path):
            raise UserError(f"{writable(str(path))} is not found: separate folders by /")
        return path


def checked_prompt(prompt: Any) -> str:
    """A prompt that is a text; the model checks the rest."""
    if not isinstance(prompt, str):
        missing = prompt is None or prompt != prompt  # NaN
        raise UserError("the prompt is missing" if missing else "the prompt is not a text")
    return prompt


def choose_column(
    given: str | None, usual: Sequence[str], present: Sequence[str], option: str, path: Path
) -> str:
    """The name of a column.

    Args:
        given: as named by the user; may be dotted.
        usual: names that are tried in this order.
        present: columns of the table.

    Raises:
        UserError: the table has none of them.
    """
    wanted = [given] if given is not None else usual
    for name in wanted:
        if name in present or name.partition(".")[0] in present:
            return name
    shown = ", ".join(writable(str(name)) for name in present) or "none"
    raise UserError(
        f"{writable(str(path))}: no column {' or '.join(wanted)} (it has: {shown}); name the column"
        f" with {option}"
    )

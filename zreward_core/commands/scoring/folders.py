"""Image files with prompts: a folder, or a list of files; and shards of images without prompts."""

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from zreward_core.commands.scoring.rows import SUFFIXES, Images, Row, Source
from zreward_core.config import UserError, writable
from zreward_core.images import ImageStore
from zreward_core.images.folders import note_of_unlisted
from zreward_core.schemas import read_json

PROMPTS_FILE = "prompts.json"

logger = logging.getLogger(__name__)


class ImageFiles(Source):
    """Image files, each with its prompt."""

    def __init__(
        self, folder: Path, prompts: Sequence[tuple[str, Any]], listed: Sequence[Path]
    ) -> None:
        """Args:
        folder: of the images.
        prompts: names of images in the folder, each with its prompt or the file that has it.
        listed: files that list them.
        """
        self._folder, self._prompts = folder, prompts
        self.files, self.count = listed, len(prompts)

    def rows(self, start: int = 0) -> Iterator[Row]:
        """The images from a position on."""
        images = Images(self._folder)
        for name, prompt in islice(self._prompts, start, None):
            place = writable(str(self._folder / name))
            if isinstance(prompt, Path):
                yield images.row(place, name, _text_of(prompt))
            else:
                yield images.row(place, name, prompt)


class Shards(Source):
    """Shards of images that all have one prompt."""

    def __init__(self, folder: Path, prompt: str) -> None:
        self._store, self._prompt = ImageStore(folder), prompt
        self._ids = list(self._store)
        self._images = Images(folder, self._store)
        self.files, self.count = sorted(folder.glob("*.parquet")), len(self._ids)

    def rows(self, start: int = 0) -> Iterator[Row]:
        """The images from a position on, in the order of the shards."""
        for identifier in self._ids[start:]:
            yield self._images.row(f"image {identifier}", identifier, self._prompt)


def read_prompts(folder: Path) -> list[tuple[str, Any]]:
    """File names and prompts of a folder's prompts.json, sorted by name.

    Images that it does not list are named in a warning.

    Raises:
        UserError: it does not.
    """
    prompts = read_json(folder / PROMPTS_FILE)
    if not isinstance(prompts, dict):
        raise UserError(f"{folder / PROMPTS_FILE} must map file names to prompts")
    if note := note_of_unlisted(folder, folder / PROMPTS_FILE, prompts, SUFFIXES):
        logger.warning("%s", note)
    return sorted(prompts.items())


def prompts_beside(folder: Path, names: Sequence[str]) -> list[tuple[str, Path]]:
    """Images with the text file beside each: cat.png with cat.txt."""
    return [(name, (folder / name).with_suffix(".txt")) for name in names]


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        return ""

"""Image files with prompts: a folder, or a list of files; and shards of images without prompts."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zreward_core.commands.scoring.rows import SUFFIXES, Images, Row, Source
from zreward_core.config import UserError, writable
from zreward_core.images import ImageStore
from zreward_core.schemas import read_json

PROMPTS_FILE = "prompts.json"


class ImageFiles(Source):
    """Image files, each with its prompt."""

    def __init__(self, folder: Path, prompts: Mapping[str, Any], listed: Sequence[Path]) -> None:
        """Args:
        folder: of the images.
        prompts: name of an image in the folder to its prompt.
        listed: files that list them.
        """
        self._folder, self._prompts = folder, dict(prompts)
        self._names = sorted(self._prompts)
        self.files, self.count = listed, len(self._names)

    def rows(self, start: int = 0) -> Iterator[Row]:
        """The images from a position on, sorted by name."""
        images = Images(self._folder)
        for name in self._names[start:]:
            place = writable(str(self._folder / name))
            prompt = self._prompts[name]
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


def read_prompts(folder: Path) -> dict[str, Any]:
    """A folder's prompts.json, which maps file names to prompts.

    Raises:
        UserError: it does not.
    """
    prompts = read_json(folder / PROMPTS_FILE)
    if not isinstance(prompts, dict):
        raise UserError(f"{folder / PROMPTS_FILE} must map file names to prompts")
    return prompts


def image_names(folder: Path) -> list[str]:
    """Names of the image files below a folder, relative to it.

    Names that begin with a dot are left out, as those of files that systems and editors make.
    """
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    names = (path.relative_to(folder) for path in found if not os.path.isdir(path))
    return sorted(str(name) for name in names if not any(p.startswith(".") for p in name.parts))


def prompts_beside(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    """Image to the text file beside it: cat.png to cat.txt."""
    return {name: (folder / name).with_suffix(".txt") for name in names}


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        return ""

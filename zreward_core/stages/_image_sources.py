"""Images that the user has: folders, and data sets that Hugging Face `datasets` reads. Not a stage.

A data set may be a folder of Parquet or Arrow files, of a table of paths (CSV, JSON, Parquet), of
images with metadata, or of WebDataset archives.
"""

import json
import logging
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from zreward_core.config import Settings, UserError, is_unicode, writable
from zreward_core.images import MAX_BYTES, ImageTooLarge, Outside, decode, read_image
from zreward_core.images.folders import note_of_unlisted
from zreward_core.schemas import normalise_prompt, read_json

logger = logging.getLogger(__name__)
TABLES = {".csv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
"""Suffix of a table to its name in `datasets`."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
NUM_LISTED = 10
"""Refused images whose reasons are logged."""
SourceImage = tuple[bytes | Outside, str, str, str]
"""Image, prompt, purpose, origin."""
Checked = tuple[bytes | Outside, str] | str
"""Image and prompt of a row, or why they cannot be used."""
Purpose = Literal["annotation", "unlabelled"]


class Source(Settings):
    """Images with prompts."""

    path: Path
    """Folder or file."""
    purpose: Purpose = "annotation"
    """Purpose of the images."""
    in_place: bool = False
    """Leave images that are files, or members of tar archives, where they are: the shards then name
    their places. They are checked when they are read. Other images are copied."""

    @property
    def listed(self) -> Path:
        """File or folder that lists the images."""
        return self.path


class ImageFolder(Source):
    """A folder of images; its prompts.json maps file name to prompt."""

    @property
    def listed(self) -> Path:
        """File or folder that lists the images."""
        return self.path / "prompts.json"


class ImageDataset(Source):
    """A folder that `datasets.load_dataset` or `load_from_disk` opens, or one table of paths."""

    split: str = "train"
    """Split that is read of a folder that has several."""
    image: str = "image"
    """Column of the images: encoded bytes, a path, or both (the form of `datasets`). Paths are
    relative to the folder, or to that of the table. In WebDataset archives, the suffix of the
    images, such as jpg."""
    prompt: str = "prompt"
    """Column of the prompts; a dot leads into an object (json.caption)."""


def given_images(
    sources: Iterable[Source],
    refused: dict[str, int],
    read: Callable[[Source], Iterator[Checked]] | None = None,
) -> Iterator[SourceImage]:
    """Images of the user's folders and data sets, in a fixed order.

    An image or prompt that cannot be used is left out; the first reasons are logged, and so are
    the images of a folder that its prompts.json does not list.

    Args:
        refused: receives the number of those images by folder.
        read: what reads the rows of a source, in place of ``checked_rows``.

    Raises:
        UserError: no image of a folder can be used, or it cannot be read.
    """
    for source in sources:
        faults: list[str] = []
        number = num_faults = 0
        for found in (read or checked_rows)(source):
            number += 1
            if isinstance(found, str):
                num_faults += 1
                faults = [*faults, found][:NUM_LISTED]
                continue
            yield *found, source.purpose, str(source.path)
        if isinstance(source, ImageFolder):
            names = read_json(source.listed)
            if note := note_of_unlisted(source.path, source.listed, names, SUFFIXES):
                logger.warning("%s", note)
        if not num_faults:
            continue
        listed = "\n  ".join(faults)
        message = f"{source.listed}: {num_faults} of {number} images cannot be used:\n  {listed}"
        if num_faults == number:
            raise UserError(message)
        refused[str(source.path)] = num_faults
        logger.warning("%s", message)


def checked_rows(source: Source, first: int = 0) -> Iterator[Checked]:
    """Images and prompts of a source, checked, from a row on.

    Raises:
        UserError: it cannot be read.
    """
    if isinstance(source, ImageDataset):
        rows = dataset_rows(source, first)
    else:
        rows = folder_rows(source.listed, first)
    for row in rows:
        try:
            yield _of_row(source, row)
        except UserError as error:
            yield str(error)


def folder_rows(listed: Path, first: int = 0) -> Iterator[dict[str, Any]]:
    """Rows of a folder's prompts.json, sorted by name, from one on.

    Raises:
        UserError: it cannot be read.
    """
    prompts = read_json(listed)
    if not isinstance(prompts, dict):
        raise UserError(f"{listed} must map file names to prompts")
    for name in sorted(prompts)[first:]:
        yield {"name": name, "image": name, "prompt": prompts[name]}


def dataset_rows(source: ImageDataset, first: int = 0) -> Iterator[dict[str, Any]]:
    """Rows of a data set from one on; no image is decoded.

    Raises:
        UserError: `datasets` cannot open it, or it lacks a column.
    """
    from datasets import Image, load_dataset, load_from_disk
    from datasets.exceptions import DatasetsError

    path, kind = str(source.path), TABLES.get(source.path.suffix)
    if not source.path.is_dir() and not (kind and source.path.is_file()):
        raise UserError(
            f"{path} is neither a folder nor a table ({', '.join(TABLES)}): correct"
            " 'candidates.datasets' in params"
        )
    try:
        if source.path.is_file():
            found = load_dataset(kind, data_files=path, split="train", streaming=True)
        elif (source.path / "state.json").is_file():
            found = load_from_disk(path)
        else:
            found = load_dataset(path, split=source.split, streaming=True)
    except (DatasetsError, OSError, ValueError) as error:
        raise UserError(
            f"{source.path}: `datasets` cannot open the split {source.split!r}: {error}"
        ) from None
    for name, feature in (found.features or {}).items():
        if isinstance(feature, Image):
            found = found.cast_column(name, Image(decode=False))
    for index, row in enumerate(found.skip(first), start=first):
        for name in (source.image, source.prompt.partition(".")[0]):
            if name not in row:
                raise UserError(
                    f"{source.path}: row {index} has the columns {sorted(row)}, not {name!r}:"
                    " correct 'candidates.datasets' in params"
                )
        prompt: Any = row
        for key in source.prompt.split("."):
            prompt = prompt.get(key) if isinstance(prompt, Mapping) else None
        yield {
            "name": f"row {index}",
            "image": row[source.image],
            "prompt": prompt,
            "archive": row.get("__url__"),
        }


def _of_row(source: Source, row: Mapping[str, Any]) -> tuple[bytes | Outside, str]:
    """Image and prompt of a row.

    Raises:
        UserError: one of them cannot be used.
    """
    value = row["image"]
    content, name = (value["bytes"], value["path"]) if isinstance(value, Mapping) else (None, value)
    if isinstance(value, bytes):
        content, name = value, None
    if content is None:
        return _image_file(source, name, row["prompt"])
    prompt = checked_prompt(row["prompt"], f"{source.path}, {row['name']}")
    if len(content) > MAX_BYTES:
        raise ImageTooLarge(f"{source.path}, {row['name']} has more than {MAX_BYTES:,} bytes")
    decode(content, f"{source.path}, {row['name']}")
    archive = row.get("archive")
    if source.in_place and archive is not None:
        return Outside(content, _from_root(Path(archive)), _members(archive)[name]), prompt
    return content, prompt


def _image_file(source: Source, name: object, prompt: object) -> tuple[bytes | Outside, str]:
    """Content or place of an image file, and its prompt.

    Raises:
        UserError: the file or the prompt cannot be used.
    """
    inside = isinstance(source, ImageDataset) or Path(str(name)).name == name
    if not isinstance(name, str) or not inside or Path(name).suffix.lower() not in SUFFIXES:
        raise UserError(f"{name!r} is not an image of that folder ({', '.join(SUFFIXES)})")
    path = (source.path.parent if source.path.is_file() else source.path) / name
    text = checked_prompt(prompt, writable(str(path)))
    content = read_image(path)[0]
    return (Outside(content, _from_root(path)) if source.in_place else content), text


def _from_root(path: Path) -> Path:
    """The path relative to the project if it is inside."""
    root = Path.cwd()
    return path.relative_to(root) if path.is_relative_to(root) else path


def checked_prompt(prompt: object, name: str) -> str:
    """Return a prompt unchanged if it is valid.

    Raises:
        UserError: it is not a string, or empty.
    """
    if not isinstance(prompt, str) or not normalise_prompt(prompt) or not is_unicode(prompt):
        raise UserError(
            f"the prompt of {name} must be a non-empty string of Unicode text, not"
            f" {json.dumps(prompt, default=str)}"
        )
    return prompt


@lru_cache(maxsize=1)
def _members(archive: str) -> dict[str, int]:
    """Name to offset of the files in a tar archive.

    Raises:
        UserError: it is compressed.
    """
    try:
        with tarfile.open(archive, "r:") as opened:
            return {one.name: one.offset_data for one in opened if one.isfile()}
    except tarfile.ReadError:
        raise UserError(
            f"{archive} is not a plain tar archive, so its images cannot stay in it: unpack it, or"
            " set in_place: false"
        ) from None

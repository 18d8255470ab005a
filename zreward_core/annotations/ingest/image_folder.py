"""Image references of exports to image ids."""

import os
import re
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zreward_core.annotations.ingest.image_index import FileIndex, ImageFile
from zreward_core.annotations.ingest.references import Claims, Reading, embedded, readings
from zreward_core.config import UserError
from zreward_core.images import MAX_BYTES, ImageTooLarge, decode, image_id
from zreward_core.schemas import digest, how_to_make

MAX_REFERENCE = 4096
"""Longer references are embedded images; they are cached by their hash."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
Resolved = tuple[str | None, str | None]
"""Image id (None: the image is absent) and quarantine reason (None: no fault)."""


class ImageFolder:
    """Images that a source may refer to: image shards and plain files below one folder.

    A reference is an image by itself (a data URI), or is resolved by image id if its file name
    contains one (``images/<sha256>.png``), else as a file below the folder (``FileIndex``). Of
    several references that lead to one file and exclude each other (``Claims``), only the one that
    matches it in full is used.
    """

    def __init__(self, folder: Path | None) -> None:
        """Index the folder.

        Raises:
            UserError: the folder does not exist, or one of its shards cannot be read.
        """
        self.files: dict[str, Path] = {}
        """Image id to file, of the images resolved so far that are in no shard."""
        self.why: dict[str, str] = {}
        """Reference to the reason why it has no image, if it is not simply absent."""
        self._known: set[str] = set()
        self._resolved: dict[str, Resolved] = {}
        self._read_files: dict[Path, tuple[Resolved, str]] = {}
        self._claims = Claims()
        self._index: FileIndex | None = None
        self._scratch: tempfile.TemporaryDirectory | None = None
        if folder is None:
            return
        if not os.path.isdir(folder):  # False for names that no folder can have, too
            remedy = how_to_make(folder, "the source's `images` must name a folder")
            raise UserError(f"{folder} not found: {remedy}")
        for shard in sorted(folder.glob("*.parquet")):
            self._known.update(_shard_ids(shard))
        self._index = FileIndex(folder)

    def resolve(self, reference: str) -> Resolved:
        """Image id of a reference (None: the image is absent) and a quarantine reason or None."""
        key = short_reference(reference)
        if key not in self._resolved:
            self._resolved[key] = self._resolve(reference, key)
        return self._resolved[key]

    def settle(self) -> bool:
        """Whether references resolved to one file exclude each other and all must be read again."""
        changed = self._claims.settle()
        self._resolved.clear()
        if changed:
            self.why.clear()
            self.files.clear()
        return changed

    def _resolve(self, reference: str, key: str) -> Resolved:
        if identifier := self._known_id(reference.rsplit("/", 1)[-1]):
            return identifier, None
        try:
            content = embedded(reference)
        except ValueError as error:
            self.why[key] = str(error)
            return None, "unreadable_image"
        if content is not None:
            return self._embedded(content, key)
        found = readings(reference)
        for reading in found:
            if identifier := self._known_id(reading.parts[-1]):
                return identifier, None
        if self._index is None:
            return None, None
        if any("\0" in part for one in found for part in one.parts):
            return None, "path_outside_drop"
        for reading in found:
            files, whole = self._index.match(reading)
            if files and (whole or not reading.literal):
                return self._given(key, reading, files, whole)
        return None, "path_outside_drop" if any(one.num_up for one in found) else None

    def _known_id(self, name: str) -> str | None:
        """The image id in a file name, if it is in a shard."""
        if not self._known or "?" in name or "#" in name:
            return None
        return next((one for one in _SHA256.findall(name) if one in self._known), None)

    def _given(self, key: str, reading: Reading, files: list[ImageFile], whole: bool) -> Resolved:
        if len(files) > 1:
            names = " and ".join("/".join(one.parts) for one in files[:2])
            self.why[key] = f"{len(files)} files match its path, such as {names}"
            return None, None
        target = "/".join(files[0].parts)
        self._claims.add(target, Reading(files[0].parts) if whole else reading)
        if not whole and target in self._claims.contested:
            self.why[key] = f"several references could be {target}"
            return None, None
        if files[0].outside:
            self.why[key] = f"{target} is a link to a file outside the folder"
            return None, "path_outside_drop"
        resolved, why = self._read(files[0].path)
        if why:
            self.why[key] = why
        if resolved[0] is not None:
            self.files[resolved[0]] = files[0].path
        return resolved

    def _read(self, file: Path) -> tuple[Resolved, str]:
        if file not in self._read_files:
            try:
                if file.stat().st_size > MAX_BYTES:
                    self._read_files[file] = (None, "image_too_large"), f"more than {MAX_BYTES} B"
                else:
                    self._read_files[file] = _checked(file.read_bytes(), file.name)
            except OSError as error:
                self._read_files[file] = (None, "unreadable_image"), str(error.strerror)
        return self._read_files[file]

    def _embedded(self, content: bytes, key: str) -> Resolved:
        """An image without a file of its own; it is kept on disk until the run has written it."""
        resolved, why = _checked(content, "the embedded image")
        if why:
            self.why[key] = why
        if resolved[0] is not None:
            if self._scratch is None:
                self._scratch = tempfile.TemporaryDirectory(prefix="zreward_images_")
            self.files[resolved[0]] = Path(self._scratch.name) / resolved[0]
            self.files[resolved[0]].write_bytes(content)
        return resolved


def stored_bytes(file: Path, identifier: str) -> bytes:
    """The content of an image file that was identified before.

    Raises:
        UserError: the file has disappeared, or its content has changed.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(
            f"{file}: an image that was read before cannot be read any more ({error.strerror}); "
            "run the stage again when nothing writes to the folder"
        ) from None
    if image_id(content) != identifier:
        raise UserError(
            f"{file}: the image has changed while the annotations were read; run the stage again "
            "when nothing writes to the folder"
        )
    return content


def short_reference(reference: str) -> str:
    """A reference, or the hash of one that is an embedded image."""
    if len(reference) <= MAX_REFERENCE:
        return reference
    return f"{reference[:64]}... ({digest(reference)})"


def _checked(content: bytes, name: str) -> tuple[Resolved, str]:
    """Image id of an encoded image, and the reason if it has none."""
    try:
        decode(content, name)
    except ImageTooLarge as error:
        return (None, "image_too_large"), str(error)
    except UserError as error:
        return (None, "unreadable_image"), str(error)
    return (image_id(content), None), ""


def _shard_ids(path: Path) -> list[str]:
    """Image ids of a shard; none if the file is another table."""
    try:
        if "image_id" not in pq.read_schema(path).names:
            return []
        return pq.read_table(path, columns=["image_id"])["image_id"].to_pylist()
    except pa.ArrowException as error:
        raise UserError(f"{path} is not a readable shard ({error}); write it again") from None

"""Image references of exports to image ids."""

import io
import re
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import pyarrow.parquet as pq
from PIL import Image, UnidentifiedImageError

from zreward_core.config import UserError
from zreward_core.images import MAX_PIXELS, decode, image_id

_SHA256 = re.compile(r"[0-9a-f]{64}")
_QUERY_OR_QUOTED = re.compile(r"[?#%;\0]")


class ImageFolder:
    """Images that a source may refer to: image shards or plain files below one folder.

    A reference is resolved by image id if its file name contains one (``images/<sha256>.png``),
    else as a file below the folder. Prefixes of labelling tools are ignored: a host,
    ``/data/upload/3/``, ``/data/local-files/?d=``.
    """

    def __init__(self, folder: Path | None) -> None:
        """Index the folder.

        Raises:
            UserError: the folder does not exist.
        """
        self._known: set[str] = set()
        self._folder: Path | None = None
        self._resolved: dict[str, tuple[str | None, str | None]] = {}
        self.files: dict[str, Path] = {}
        """Image id to file, of the images resolved so far that are in no shard."""
        if folder is None:
            return
        if not folder.is_dir():
            raise UserError(f"{folder} not found: the source's `images` must name a folder")
        shards = sorted(folder.glob("*.parquet"))
        for shard in shards:
            self._known.update(pq.read_table(shard, columns=["image_id"])["image_id"].to_pylist())
        if not shards:
            self._folder = folder.resolve()

    def resolve(self, reference: str) -> tuple[str | None, str | None]:
        """Image id of a reference (None: the image is absent) and a quarantine reason or None."""
        if reference not in self._resolved:
            self._resolved[reference] = self._resolve(reference)
        return self._resolved[reference]

    def _resolve(self, reference: str) -> tuple[str | None, str | None]:
        if not _QUERY_OR_QUOTED.search(reference):  # the common case, without URL parsing
            for name in _SHA256.findall(reference.rsplit("/", 1)[-1]):
                if name in self._known:
                    return name, None
            if self._folder is None:
                return None, None
        path = _path_of(reference)
        for name in _SHA256.findall(Path(path).name):
            if name in self._known:
                return name, None
        if self._folder is None:
            return None, None
        if "\0" in path:
            return None, "path_outside_drop"
        inside = (self._folder / path.lstrip("/")).resolve()
        if not inside.is_relative_to(self._folder):
            return None, "path_outside_drop"
        for file in (inside, self._folder / Path(path).name):
            if file.is_file():
                return self._read(file)
        return None, None

    def _read(self, file: Path) -> tuple[str | None, str | None]:
        if self._folder is None or not file.resolve().is_relative_to(self._folder):
            return None, "path_outside_drop"
        content = file.read_bytes()
        try:
            with Image.open(io.BytesIO(content)) as image:
                if image.width * image.height > MAX_PIXELS:
                    return None, "image_too_large"
            decode(content, str(file))
        except Image.DecompressionBombError:
            return None, "image_too_large"
        except (UserError, UnidentifiedImageError, OSError, SyntaxError):
            return None, "unreadable_image"
        identifier = image_id(content)
        self.files[identifier] = file
        return identifier, None


def _path_of(reference: str) -> str:
    """The file path within a reference: without scheme, host and the tool's query."""
    try:
        parts = urlsplit(reference)
    except ValueError:
        return reference
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path)

"""The image files below a folder, found by the end of their path."""

import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zreward_core.annotations.ingest.references import Reading

_DVC_CACHE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]+$|/\.dvc/cache/[0-9a-f]{2}/[0-9a-f]{30}$")
"""A file in a cache of DVC 3, and in the default cache of DVC 2."""


@dataclass(frozen=True)
class ImageFile:
    """A file of the folder."""

    path: Path
    parts: tuple[str, ...]
    """Folders and name, starting at the folder that was indexed."""
    is_folder: bool
    """Whether it is a link to a folder outside the indexed one."""
    outside: bool
    """Whether it is a link to a place outside the folder that was not made by DVC."""


class FileIndex:
    """The files below a folder, listed once.

    A path matches a file if one of them is the end of the other: ``set/0.png`` is the file
    ``images/set/0.png``, and ``C:/study/set/0.png`` the file ``set/0.png``. ``a/0.png`` is never
    ``b/0.png``.
    """

    def __init__(self, folder: Path) -> None:
        self._above = folder.parts
        self._by_path: dict[str, list[ImageFile]] = {}
        self._by_name: dict[str, list[ImageFile]] = {}
        self._by_safe_name: dict[str, list[ImageFile]] = {}
        """By the name that Django, and therefore Label Studio, gives to an uploaded file."""
        self._links: dict[str, ImageFile] = {}
        """Linked folders outside; they are not entered."""
        root = folder.resolve()
        for file in _files(folder, (), root, enter_links=True):
            if file.is_folder:
                self._links[_folded(file.parts)] = file
                continue
            self._by_path.setdefault(_folded(file.parts), []).append(file)
            self._by_name.setdefault(_folded(file.parts[-1:]), []).append(file)
            safe = re.sub(r"[^-\w.]", "", file.parts[-1].strip().replace(" ", "_"))
            if safe != file.parts[-1]:
                self._by_safe_name.setdefault(_folded((safe,)), []).append(file)

    def match(self, reading: Reading) -> tuple[list[ImageFile], bool]:
        """The files that match the longest part of a path, and whether they match all of it.

        Case and Unicode form matter only if they distinguish files.
        """
        parts = reading.parts
        if reading.num_up:
            if reading.num_up > len(self._above):
                return [], False
            parts = (*self._above[: len(self._above) - reading.num_up], *parts)
            if parts[: len(self._above)] != self._above:
                return [], False
            parts = parts[len(self._above) :]
        if linked := self._linked(parts):
            return linked, True
        found = self._by_path.get(_folded(parts), [])
        if not found and parts:
            found = self._by_end(parts)
        if not found and reading.upload:
            found = self._by_safe_name.get(_folded(parts[-1:]), [])
        found = _narrowed(found, parts)
        whole = bool(found) and not reading.upload and not reading.extra
        if whole:
            file = (*self._above, *found[0].parts)
            whole = len(parts) >= len(found[0].parts) and _end(file, parts) == _nfc(parts)
        return found, whole

    def _linked(self, parts: tuple[str, ...]) -> list[ImageFile]:
        above = (_folded(parts[:number]) for number in range(1, len(parts))) if self._links else ()
        return [self._links[one] for one in above if one in self._links]

    def _by_end(self, parts: tuple[str, ...]) -> list[ImageFile]:
        wanted = "/" + _folded(parts)
        longest, found = 0, list[ImageFile]()
        for file in self._by_name.get(_folded(parts[-1:]), ()):
            if ("/" + _folded((*self._above, *file.parts))).endswith(wanted):
                length = len(parts)
            elif wanted.endswith("/" + _folded(file.parts)):
                length = len(file.parts)
            else:
                continue
            if length > longest:
                longest, found = length, []
            if length == longest:
                found.append(file)
        return found


def _narrowed(files: list[ImageFile], parts: tuple[str, ...]) -> list[ImageFile]:
    """The files whose names are also equal in case, and then in Unicode form."""
    if len(files) > 1:
        files = [one for one in files if _same_end(_nfc(one.parts), _nfc(parts))] or files
    if len(files) > 1:
        files = [one for one in files if _same_end(one.parts, parts)] or files
    return files


def _same_end(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    length = min(len(one), len(other))
    return one[len(one) - length :] == other[len(other) - length :]


def _end(file: tuple[str, ...], parts: tuple[str, ...]) -> tuple[str, ...]:
    return _nfc(file[max(0, len(file) - len(parts)) :])


def _nfc(parts: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(unicodedata.normalize("NFC", part) for part in parts)


def _folded(parts: tuple[str, ...]) -> str:
    return unicodedata.normalize("NFC", "/".join(parts)).casefold()


def _files(
    folder: Path, above: tuple[str, ...], root: Path, enter_links: bool
) -> Iterator[ImageFile]:
    """Regular files below a folder, in the order of their names.

    Linked folders inside the drop are entered once, so that loops of links end.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return  # its images are reported as references without an image
    for entry in entries:
        path, parts = Path(entry.path), (*above, entry.name)
        try:
            linked, is_folder, is_file = entry.is_symlink(), entry.is_dir(), entry.is_file()
        except OSError:  # a link to itself
            continue
        target = Path(os.path.realpath(path)) if linked else path
        inside = not linked or target.is_relative_to(root)
        if is_folder and inside and (enter_links or not linked):
            yield from _files(path, parts, root, enter_links and not linked)
        elif is_file or (is_folder and not inside):
            outside = not inside and not (is_file and _DVC_CACHE.search(target.as_posix()))
            yield ImageFile(path, parts, is_folder, outside)

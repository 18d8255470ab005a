"""Damaged files of DVC's cache. DVC checks out read-only cache files without hashing them."""

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from zreward_core.config import UserError, parse_json
from zreward_core.dvc import LOCK, has_keys, md5s, read_lock
from zreward_core.registry.dvc_hashes import DIR, file_md5
from zreward_core.schemas import replaced

CHECKED = Path(".zreward/cache_checked.json")
"""md5 of each intact cache file to its ctime and size when it was last hashed."""
DAMAGED = Path(".zreward/damaged")
"""Folder to which damaged cache files are moved."""
HEX = re.compile(r"[0-9a-f]{30}(\.dir)?")
READ_ONLY = 0o444
"""Mode of cache files."""


def cache_folder() -> Path:
    """Folder of the cache's files.

    Raises:
        UserError: DVC's config is not readable.
    """
    from dvc.config import Config, ConfigError

    try:
        chosen = Config(os.path.abspath(".dvc"))["cache"].get("dir")
    except ConfigError as error:
        raise UserError(f".dvc/config: {error}") from None
    return Path(chosen or ".dvc/cache") / "files" / "md5"


def damaged_files(again: bool = False) -> list[Path]:
    """Cache files with another content than their md5 says.

    Args:
        again: hash every file; else only those that changed since they were last hashed.
    """
    known = {} if again else _read(CHECKED)
    known = known if isinstance(known, dict) else {}
    intact, damaged = {}, []
    for path in sorted(cache_folder().glob("??/*")):
        if not (HEX.fullmatch(path.name) and path.is_file()):
            continue
        md5, stat = path.parent.name + path.name, path.stat()
        state = [stat.st_ctime_ns, stat.st_size]
        if known.get(md5) == state or file_md5(path) == md5.removesuffix(DIR):
            intact[md5] = state
        else:
            damaged.append(path)
    if intact != known:
        CHECKED.parent.mkdir(exist_ok=True)
        CHECKED.write_text(json.dumps(intact))
    return damaged


def repair_cache(say: Callable[[str], None]) -> None:
    """Move damaged cache files away, so that DVC does not use them, and restore what is possible.

    A file of which the workspace has an intact copy is restored from it. Otherwise DVC runs the
    stage again. Copies of the damaged file in the workspace are removed, because DVC would take
    them for intact ones.
    """
    damaged = {path.parent.name + path.name: path for path in damaged_files()}
    if not damaged:
        return
    copies = list(locked_files())  # before the lists of folders among them are moved
    for md5, path in damaged.items():
        wrong, aside = file_md5(path), DAMAGED / md5
        DAMAGED.mkdir(parents=True, exist_ok=True)
        shutil.move(path, aside)
        users = [copy for copy, expected in copies if expected == md5]
        found = {copy: file_md5(copy) for copy in users if copy.is_file()}
        intact = [copy for copy, actual in found.items() if actual == md5]
        for copy, actual in found.items():
            if actual == wrong:
                copy.unlink()
        if intact:
            with replaced(path) as partial:
                shutil.copyfile(intact[0], partial)
                partial.chmod(READ_ONLY)
        result = f"restored from {intact[0]}" if intact else "its stage runs again"
        names = ", ".join(sorted(map(str, users))) or "an earlier result"
        say(f"moved the damaged cache file {md5} of {names} to {aside}: {result}")


def locked_files() -> Iterator[tuple[Path, str]]:
    """Path and md5 of each out of the dvc.lock files, and of each file in a folder among them."""
    cache = cache_folder()
    for lock in lock_files():
        for entry in read_lock(lock.parent).values():
            for name, md5 in md5s(entry, "outs").items():
                path = lock.parent / name
                yield path, md5
                if md5.endswith(DIR):
                    listed = _read(cache / md5[:2] / md5[2:])
                    for one in listed if has_keys(listed, "relpath", "md5") else []:
                        yield path / one["relpath"], one["md5"]


def lock_files() -> list[Path]:
    """The project's dvc.lock, and those one folder below."""
    return [path for path in (LOCK, *sorted(Path(".").glob(f"*/{LOCK}"))) if path.is_file()]


def _read(path: Path) -> Any:
    """JSON of a file, or None if it is missing or damaged."""
    try:
        return parse_json(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None

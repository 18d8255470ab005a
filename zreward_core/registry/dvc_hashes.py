"""md5s of what lies in the workspace and in DVC's cache, by DVC's own hashing."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from zreward_core.registry.stage_fingerprint import Md5s

if TYPE_CHECKING:
    from dvc.repo import Repo

DIR = ".dir"
"""Ending of the md5 of a folder: that of the list of its files."""


def paths_md5(paths: Iterable[str]) -> Md5s:
    """md5 of each path that is there; unchanged files are not read again (DVC keeps a record)."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        return {path: _md5(repo, path) for path in paths if Path(path).exists()}


def matching(expected: Md5s) -> dict[str, bool]:
    """Whether each path's bytes are still there: in the workspace, or else in DVC's cache."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        cache = Path(repo.cache.local.path)
        return {
            path: (Path(path).exists() and _md5(repo, path) == md5) or in_cache(cache, md5)
            for path, md5 in expected.items()
        }


def in_cache(cache: Path, md5: str) -> bool:
    """Whether DVC's cache holds these bytes, unharmed; of a folder, every file of it."""
    path = cache / md5[:2] / md5[2:]
    if not md5 or not path.is_file() or file_md5(path) != md5.removesuffix(DIR):
        return False
    if not md5.endswith(DIR):
        return True
    return all(in_cache(cache, one["md5"]) for one in json.loads(path.read_text()))


def file_md5(path: Path) -> str:
    """md5 of a file's contents, as DVC has it."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _md5(repo: "Repo", path: str) -> str:
    from dvc_data.hashfile.build import build

    odb = repo.cache.local
    where = str(Path(path).resolve())
    _, _, found = build(odb, where, repo.fs, "md5", ignore=repo.dvcignore, dry_run=True)
    return str(found.hash_info.value)

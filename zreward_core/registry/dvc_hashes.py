"""md5s of files in the workspace and in DVC's cache, computed by DVC."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from zreward_core.dvc import GRAPH, Md5s

if TYPE_CHECKING:
    from dvc.repo import Repo

DIR = ".dir"
"""Suffix of a folder's md5, which is that of the list of its files."""


def stage_deps_md5(stage: str) -> Md5s:
    """md5 of each dep of a stage, equal to what dvc.lock will contain."""
    from dvc.dependency import ParamsDependency
    from dvc.repo import Repo

    with Repo(".") as repo:
        deps = repo.stage.load_one(path=str(GRAPH), name=stage).deps
        files = [dep for dep in deps if not isinstance(dep, ParamsDependency) and dep.exists]
        return {str(dep.def_path): str(dep.get_hash().value) for dep in files}


def paths_md5(paths: Iterable[str]) -> Md5s:
    """md5 of each existing path; DVC caches the hashes of unchanged files."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        return {path: _md5(repo, path) for path in paths if Path(path).exists()}


def available(expected: Md5s) -> dict[str, bool]:
    """Whether the expected content of each path exists, in the workspace or in DVC's cache."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        cache = Path(repo.cache.local.path)
        return {
            path: (Path(path).exists() and _md5(repo, path) == md5) or in_cache(cache, md5)
            for path, md5 in expected.items()
        }


def in_cache(cache: Path, md5: str) -> bool:
    """Whether DVC's cache has this content, uncorrupted; for a folder, all of its files."""
    path = cache / md5[:2] / md5[2:]
    if not md5 or not path.is_file() or file_md5(path) != md5.removesuffix(DIR):
        return False
    if not md5.endswith(DIR):
        return True
    return all(in_cache(cache, one["md5"]) for one in json.loads(path.read_text()))


def file_md5(path: Path) -> str:
    """md5 of a file's contents, as DVC computes it."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _md5(repo: "Repo", path: str) -> str:
    from dvc_data.hashfile.build import build

    odb = repo.cache.local
    absolute = str(Path(path).resolve())
    _, _, found = build(odb, absolute, repo.fs, "md5", ignore=repo.dvcignore, dry_run=True)
    return str(found.hash_info.value)

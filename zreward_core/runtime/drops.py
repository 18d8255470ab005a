"""The files of data/drops in a workspace: a mirror of the project's, and the workspace's own.

The project's files are brought up to date, and removed when they are gone from the project. Files
that only the workspace has (what `zreward annotate pull` wrote there) are kept.
"""

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from zreward_core.config import UserError
from zreward_core.schemas import read_json, write_json

logger = logging.getLogger(__name__)
DROPS = Path("data/drops")
MIRRORED = Path(".zreward/mirrored_drops.json")
"""In a workspace: names of the project's files in it, which are removed with the project's."""
LINKED = (
    *(".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".avif", ".tif", ".tiff"),
    *(".tar", ".parquet", ".arrow"),
)
"""Suffixes of images and their shards, which people replace and do not edit: hard links where a
file system has no reflinks. Texts and tables are copied then, as an edit in place during a run
would change the file of both folders."""


def mirror_drops(workspace: Path) -> None:
    """Mirror data/drops of the current project into a workspace.

    Nothing outside the workspace's data/drops is changed; what is unchanged (size and time) is left
    alone.

    Raises:
        UserError: the project has no data/drops, a file in it cannot be read, or a folder of the
            workspace's data/drops is a symbolic link.
    """
    if not DROPS.is_dir():
        raise UserError(f"{DROPS} not found: restore it, workspaces mirror it")
    target, record = workspace / DROPS, workspace / MIRRORED
    folders, files = _listed(DROPS)
    for name in folders:
        _require_own(target / name, workspace)
    known = set(read_json(record)) if record.is_file() else None
    for name in sorted((known or set()) - files):
        _remove(target, name, workspace)
    write_json(sorted(files), record)  # before they are written: a killed run removes them, too
    for name in sorted(folders):
        (target / name).mkdir(parents=True, exist_ok=True)
    for name in sorted(files):
        if not _unchanged(DROPS / name, target / name):
            _place(DROPS / name, target / name)
    if known is None and (own := _listed(target)[1] - files):
        logger.warning(
            "%s: files that are not in the project's %s are used and kept, %d in all, such as %s:"
            " remove those that were withdrawn",
            target,
            DROPS,
            len(own),
            min(own),
        )


def _listed(root: Path) -> tuple[set[str], set[str]]:
    """Folders (root included) and files below a folder, relative to it; links are followed."""
    folders: set[str] = set()
    files: set[str] = set()
    for folder, _, names in os.walk(root, followlinks=True):
        inside = Path(folder).relative_to(root)
        folders.add(inside.as_posix())
        files.update((inside / name).as_posix() for name in names)
    return folders, files


def _require_own(folder: Path, workspace: Path) -> None:
    """Check that a folder of the workspace's data/drops leads nowhere else.

    Raises:
        UserError: it is, or is inside of, a symbolic link.
    """
    drops = (workspace / DROPS.parent).resolve() / DROPS.name
    if folder.resolve() != drops / folder.relative_to(workspace / DROPS):
        raise UserError(
            f"{folder} leads to {folder.resolve()} by a symbolic link, where files would be"
            f" replaced and removed: remove the link, workspaces mirror {DROPS}"
        )


def _remove(target: Path, name: str, workspace: Path) -> None:
    """Remove a file that is gone from the project, and its folders that are then empty and gone."""
    file = target / name
    _require_own(file.parent, workspace)
    file.unlink(missing_ok=True)
    for folder in _between(target, file):
        if folder.is_dir() and not any(folder.iterdir()):
            if (DROPS / folder.relative_to(target)).is_dir():
                return
            folder.rmdir()


def _between(root: Path, file: Path) -> Iterator[Path]:
    """Folders of a file below a root, innermost first."""
    yield from list(file.parents)[: len(file.relative_to(root).parents) - 1]


def _unchanged(source: Path, target: Path) -> bool:
    """Whether the target is the source or has its size and time.

    Raises:
        UserError: the source is not a file.
    """
    if not source.is_file():
        raise UserError(f"{source} is not a file that can be read: remove it, or mend the link")
    if target.is_symlink() or not target.is_file():
        return False
    one, other = source.stat(), target.stat()
    same = one.st_size == other.st_size and one.st_mtime_ns == other.st_mtime_ns
    return os.path.samestat(one, other) or same


def _place(source: Path, target: Path) -> None:
    """Replace the target by the source, without a second copy of its content where that works."""
    from dvc_objects.fs.system import hardlink, reflink  # slow to import

    partial = target.with_name(target.name + ".partial")
    partial.unlink(missing_ok=True)
    try:
        reflink(str(source), str(partial))
        shutil.copystat(source, partial)
    except OSError:
        try:
            if source.suffix.lower() not in LINKED:
                raise
            hardlink(str(source), str(partial))
        except OSError:  # another file system, or a file that people edit
            shutil.copy2(source, partial)
    os.replace(partial, target)

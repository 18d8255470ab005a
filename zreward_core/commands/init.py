"""`zreward init`: a project in a folder of its own, from files that the package carries.

A project links to the installed package as ``zreward_core``, because dvc.yaml names the source
files of each stage among its dependencies: after an upgrade DVC runs the stages whose code changed.
"""

import shutil
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import zreward_core
from zreward_core.config import UserError, read_yaml
from zreward_core.schemas import replaced

PACKAGE = Path(zreward_core.__file__).resolve().parent
CARRIED = "project"
"""Folder of the package with the files of a project."""
GITIGNORE = """\
__pycache__/
.venv/
.zreward/
reports/
/dvc_plots/
/zreward_core
/data/*
!/data/rubric.yaml
!/data/champion.yaml
!/data/drops/
!/data/bases/
"""
DVC_CONFIG = Path(".dvc/config")
DROPS = Path("data/drops")


class Written(NamedTuple):
    """What ``init_project`` did."""

    new: int
    """Number of files written."""
    kept: list[str]
    """Files that were there and differ from those of the package."""


def init_project(folder: Path) -> Written:
    """Write a project into a folder; what is missing is added, no file is replaced.

    Args:
        folder: a new or existing folder; one below a git repository uses that repository.

    Raises:
        UserError: the folder is a checkout of this package, or not a folder.
    """
    link = folder / PACKAGE.name
    if link.is_dir() and not link.is_symlink():
        raise UserError(
            f"{folder} contains the package itself ({PACKAGE.name}): give another folder; a"
            " checkout is a project already"
        )
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is not a folder: give the folder of the project")
    contents = {name: path.read_bytes() for name, path in carried_files()}
    contents[".gitignore"] = GITIGNORE.encode()
    if not _in_git(folder.resolve()):
        contents[str(DVC_CONFIG)] += b"    no_scm = true\n"
    new, kept = 0, []
    for name, content in sorted(contents.items()):
        target = folder / name
        if not target.exists():
            with replaced(target) as partial:
                partial.write_bytes(content)
            new += 1
        elif target.read_bytes() != content:
            kept.append(name)
    for stage in read_yaml(folder / "dvc.yaml")["stages"].values():
        for dep in stage.get("deps", []):
            if Path(dep).is_relative_to(DROPS):  # DVC requires it to exist
                (folder / dep).mkdir(parents=True, exist_ok=True)
                if not any((folder / dep).iterdir()):  # git drops it, and DVC warns of it
                    (folder / dep / ".gitkeep").touch()
    with replaced(link) as partial:
        partial.unlink(missing_ok=True)
        partial.symlink_to(PACKAGE)
    return Written(new, kept)


def described(folder: Path, written: Written) -> Iterator[str]:
    """Lines about a project, with the next command."""
    yield f"{folder}: {written.new} files written"
    if written.kept:
        yield f"kept as they are: {', '.join(written.kept)}"
    if shutil.which("dvc", path=str(Path(sys.executable).parent)) is None:
        yield "to run the pipeline: pip install 'zreward[pipeline]'"
    yield f"next: cd {folder} && zreward run smoke, or follow tutorial.ipynb"


def carried_files() -> Iterator[tuple[str, Path]]:
    """Name in a project and path of each file; a checkout has most of them in its root."""
    carried = PACKAGE / CARRIED
    yield from _files(carried, Path())
    if not (carried / "dvc.yaml").is_file():
        root = PACKAGE.parent
        build = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
        for source, target in build["targets"]["wheel"]["force-include"].items():
            name = Path(target).relative_to(PACKAGE.name, CARRIED)
            yield from _files(root / source, name)


def _files(source: Path, name: Path) -> Iterator[tuple[str, Path]]:
    """A file, or the files of a folder, under a name."""
    for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
        if path.is_file() and path.parent.name != "__pycache__":
            yield str(name / path.relative_to(source)), path


def _in_git(folder: Path) -> bool:
    return any((one / ".git").exists() for one in (folder, *folder.parents))

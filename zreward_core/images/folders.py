"""Folders of image files, and the tables that list them."""

import os
from collections.abc import Collection, Iterable
from pathlib import Path

from zreward_core.config import writable

NUM_SHOWN = 5
"""Images that a message names."""


def image_names(folder: Path, suffixes: Collection[str]) -> list[str]:
    """Names of the image files below a folder, relative to it, sorted.

    Names that begin with a dot are left out, as those of files that systems and editors make.
    """
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    names = (path.relative_to(folder) for path in found if not os.path.isdir(path))
    return sorted(str(name) for name in names if not any(p.startswith(".") for p in name.parts))


def note_of_unlisted(
    folder: Path, table: Path, listed: Iterable[str], suffixes: Collection[str]
) -> str | None:
    """A message about the images below a folder that its table does not list; None: all are listed.

    Args:
        folder: of the images.
        table: for the message.
        listed: names of images, relative to the folder.
        suffixes: of image files, in small letters.
    """
    known = {os.path.normpath(name) for name in listed}
    left_out = [name for name in image_names(folder, suffixes) if name not in known]
    if not left_out:
        return None
    shown = ", ".join(writable(name) for name in left_out[:NUM_SHOWN])
    more = ", .." if len(left_out) > NUM_SHOWN else ""
    return (
        f"{len(left_out)} images below {writable(str(folder))} are not in "
        f"{writable(str(table))} and are left out ({shown}{more}); add them with their prompts"
    )

"""Named public sets: the source settings that read their files as published, one YAML file each.

Dimensions are those of the default rubric; for another rubric, params.yaml overrides ``dimension``
or the entries of ``columns.wide``. A set whose raters were asked only which image they prefer names
no dimension: params.yaml must give one.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from zreward_core.config import read_yaml

FOLDER = Path(__file__).resolve().parents[1] / "public_sets"


@dataclass(frozen=True)
class PublicSet:
    """A public set."""

    title: str
    """Name and contents."""
    origin: str
    """Description of its files, or the source of their layout."""
    format: str
    """Format of its files."""
    settings: dict[str, Any]
    """Source settings; those of params.yaml override them."""


def public_set_names() -> list[str]:
    """Names of all public sets, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


@cache
def load_public_set(name: str) -> PublicSet:
    """Read one of ``public_set_names``."""
    settings = read_yaml(FOLDER / f"{name}.yaml")
    title, origin, format_ = (settings.pop(key) for key in ("title", "origin", "format"))
    return PublicSet(title, origin, format_, settings)

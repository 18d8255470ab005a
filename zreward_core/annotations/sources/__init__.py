"""Formats of annotations: one file each, a word of params to its reader."""

from collections.abc import Callable
from pathlib import Path

from zreward_core.annotations.sources.accounting import SourceRows
from zreward_core.annotations.sources.label_studio import read_label_studio
from zreward_core.annotations.sources.pictures import Pictures
from zreward_core.rubric import Rubric

Reader = Callable[[Path, str, Rubric, Pictures], SourceRows]

FORMATS: dict[str, Reader] = {"label_studio": read_label_studio}
"""Format to the function that reads one file of it."""
SUFFIXES: dict[str, str] = {"label_studio": ".json"}
"""Format to the ending of its files, for sources that are folders."""

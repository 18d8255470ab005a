"""Settings of a source in params.yaml: its files and how they are read.

A named public set is a set of such settings (``public_sets``); those of params.yaml override them.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from zreward_core.annotations.formats import FORMATS
from zreward_core.annotations.formats.records import FORMAT_SETTINGS
from zreward_core.annotations.ingest.column_settings import (
    Cell,
    Columns,
    Dimension,
    Scale,
    as_word,
    check_pattern,
)
from zreward_core.annotations.ingest.public_sets import load_public_set, public_set_names
from zreward_core.config import Settings, merge

DROPS = Path("data/drops")
ANNOTATE = Path("data/annotate")
CANDIDATE_IMAGES = Path("data/candidates/images")
INPUTS = (DROPS, ANNOTATE, CANDIDATE_IMAGES)
"""Dependencies of the stage in dvc.yaml; sources must be in them."""


class RowFilter(Settings):
    """Selects rows; the others are ignored as skipped."""

    column: Cell
    """Column to test."""
    words: list[str]
    """Values of the rows to keep; null: rows with an empty cell."""

    @field_validator("words", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        return [as_word(word) for word in value] if isinstance(value, list) else value


class Prompts(Settings):
    """A second file with the prompts."""

    path: str
    """CSV or TSV; next to the source's file, or below data/drops."""
    key: str
    """Its key column."""
    prompt: str
    """Its column with the prompt."""
    column: Cell
    """The source's key column."""

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        if Path(value).is_absolute() or ".." in Path(value).parts:
            raise ValueError(f"'{value}' must be next to the source's file or below {DROPS}")
        return value


class Answers(Settings):
    """Several answers in a record, each of which becomes a record with the column ``answer``."""

    path: str | None = None
    """Dotted path of the answers in a record, also in JSON inside a cell; ``*`` matches every
    element of a list or every value of an object. The key or index matched by the first ``*`` is in
    the column ``answer_1``, that of the second in ``answer_2``."""
    columns: str | None = None
    """Regular expression (Python) of the names of the columns with one answer each. Its first
    group is in the column ``answer_1``, the second in ``answer_2``."""
    optional: bool = False
    """An empty answer means that the question was not asked: ignored as empty_result."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.path is None) == (self.columns is None):
            raise ValueError("give either `path` or `columns`")
        if self.path is not None and ("*" not in self.root[1] or not self.root[0]):
            raise ValueError("`path` needs a `*` that selects the answers, such as `responses.*`")
        if self.columns is not None:
            check_pattern(self.columns)
        return self

    @property
    def root(self) -> tuple[str, list[str]]:
        """The column with the answers, and the keys below it."""
        keys = (self.path or "").split(".")
        end = keys.index("*") if "*" in keys else len(keys)
        return ".".join(keys[:end]), keys[end:]


class Source(Settings):
    """A source of annotations."""

    name: str
    """Name in tables and summaries."""
    format: str = "label_studio"
    """Format of the files, or the name of a public set."""
    path: Path
    """A file, a folder or a glob below data/drops (or data/annotate)."""
    files: str | None = None
    """Glob of the files to read in a folder."""
    columns: Columns = Columns()
    """The meaning of the columns; Label Studio exports need none."""
    dimension: Dimension | None = None
    """A dimension of the rubric, or the column that names it."""
    scale: Scale | None = None
    """The scale of the scores; votes and Label Studio exports of this project need none."""
    only: RowFilter | None = None
    """Selects rows by a column of the file."""
    records: str | None = None
    """Dotted path of the records in a JSON file, if not at its top."""
    images: Path | None = None
    """Folder of the images that the annotations refer to: image shards or plain files."""
    prompts: Prompts | None = None
    """A second file with the prompts."""
    encoding: str | None = None
    """Encoding of text files; detected if not given."""
    delimiter: str | None = None
    """Character between the cells of a CSV or TSV file; detected if not given."""
    decimal: Literal[".", ","] | None = None
    """Decimal mark of numbers in text; detected if not given, where a number is not ambiguous."""
    sheet: str | int | None = None
    """Name or number (from 1) of the sheet of a workbook; the first if not given."""
    header_row: int = Field(default=1, ge=1)
    """Line of a table or row of a sheet that has the names of the columns."""
    answers: Answers | None = None
    """Several answers in a record."""

    @model_validator(mode="before")
    @classmethod
    def _with_defaults(cls, value: Any) -> Any:
        word = value.get("format", "label_studio") if isinstance(value, dict) else None
        if not isinstance(word, str):
            return value
        if word in public_set_names():
            value = merge(load_public_set(word).settings, value)
        return merge(dict(FORMATS[word].settings), value) if word in FORMATS else value

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        known = {*FORMATS, *public_set_names()}
        if value not in known:
            raise ValueError(f"unknown format '{value}'; known: {', '.join(sorted(known))}")
        return value

    @field_validator("path", "images")
    @classmethod
    def _watched(cls, value: Path | None) -> Path | None:
        known = [folder for folder in INPUTS if value and value.is_relative_to(folder)]
        if value is not None and (not known or ".." in value.parts):
            raise ValueError(f"'{value}' must be below {' or '.join(map(str, INPUTS))}")
        return value

    @field_validator("delimiter")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        value = "\t" if value in ("\\t", "tab") else value
        if value is not None and (len(value) != 1 or not value.isascii() or value in '"\r\n'):
            raise ValueError('must be one character (a tab is "\\t")')
        return value

    @model_validator(mode="after")
    def _read_by_format(self) -> Self:
        reads = FORMATS[self.base_format].reads
        for name in FORMAT_SETTINGS:
            given = getattr(self, name) != type(self).model_fields[name].default
            if given and name not in reads:
                readers = ", ".join(word for word, one in FORMATS.items() if name in one.reads)
                raise ValueError(
                    f"`{name}` is not read by the format {self.base_format} (it is by {readers}); "
                    "remove it or correct `format`"
                )
        unfolded = self.answers is not None or self.columns.ranking is not None
        if unfolded and self.base_format == "label_studio":
            raise ValueError("`answers` and `ranking` are not read by the format label_studio")
        return self

    @model_validator(mode="after")
    def _complete(self) -> Self:
        columns = self.columns
        slots = list(columns.wide)
        if not (slots or columns.score or columns.scores or columns.vote or self._opinion):
            raise ValueError(
                "`columns` has no judgements: add `score`, `scores`, `wide`, `mean`, `histogram` "
                "or `vote`"
            )
        if self.dimension is None and not (slots and all(slot.dimension for slot in slots)):
            raise ValueError("`dimension` is missing: which dimension of the rubric is judged?")
        votes_alone = columns.vote is not None and columns.score is None
        own = all(slot.scale for slot in slots) if slots else votes_alone
        if self.scale is None and not own and self.base_format != "label_studio":
            raise ValueError("`scale` is missing: {min: .., max: .., higher_is_better: ..}")
        return self

    @property
    def _opinion(self) -> bool:
        return self.columns.mean is not None or self.columns.histogram is not None

    @field_validator("files")
    @classmethod
    def _below(cls, value: str | None) -> str | None:
        if value is not None and (Path(value).is_absolute() or ".." in Path(value).parts):
            raise ValueError(f"'{value}' must be a glob of files below the source's folder")
        return value

    @property
    def base_format(self) -> str:
        """The format of the files, also of a public set."""
        known = self.format in public_set_names()
        return load_public_set(self.format).format if known else self.format

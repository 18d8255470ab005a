"""Settings of a source in params.yaml: its files and the meaning of their columns.

A named public set is a set of such settings (``public_sets``); those of params.yaml override them.
"""

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from zreward_core.annotations.formats import FORMATS
from zreward_core.annotations.ingest.public_sets import load_public_set, public_set_names
from zreward_core.config import Settings, merge

DROPS = Path("data/drops")
ANNOTATE = Path("data/annotate")
CANDIDATE_IMAGES = Path("data/candidates/images")
INPUTS = (DROPS, ANNOTATE, CANDIDATE_IMAGES)
"""Dependencies of the stage in dvc.yaml; sources must be in them."""

Vote = Literal["a", "b", "tie", "both_bad"]


class Cell(Settings):
    """A column and, optionally, which part of its cells is used."""

    column: str
    """Name; keys of nested records are joined by dots, a number selects from a list."""
    pattern: str | None = None
    """Regular expression (RE2); every match is replaced."""
    to: str = ""
    """Replacement; \\1 is the first group."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value


class Scale(Settings):
    """The scale of the raters' answers."""

    min: float
    """Lowest possible score."""
    max: float
    """Highest possible score."""
    higher_is_better: bool
    """False for scales whose lowest value is the best, such as ranks."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min < self.max:
            raise ValueError("`min` must be lower than `max`")
        return self


class DimensionColumn(Settings):
    """The dimension is named in each row."""

    column: Cell
    """Column with the name of the dimension."""
    map: dict[str, str | None] = {}
    """The source's word to the rubric's; null: not a judgement, counted as an event."""
    scales: dict[str, Scale] = {}
    """The scales of words whose scale is not the source's, by the source's word."""


Dimension = str | DimensionColumn


class VoteColumn(Settings):
    """Which of two images is preferred."""

    column: Cell | None = None
    """Column with the answer."""
    map: dict[str, Vote | None] = {}
    """The source's word to a, b, tie or both_bad; null: the rater skipped."""
    value: Vote | None = None
    """The answer of every row, for sets that always name the preferred image first."""

    @field_validator("map", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        return {as_word(key): vote for key, vote in value.items()} if value else value

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.column is None) == (self.value is None):
            raise ValueError("give either `column` (with `map`) or `value`")
        return self


class Slot(Settings):
    """One of several judgements in a row: a rating or a mean opinion."""

    column: Cell | None = None
    """Column with the score."""
    mean: Cell | None = None
    """Column with a mean opinion."""
    std: Cell | None = None
    """Column with its standard deviation."""
    annotator_id: str | None = None
    """The rater, if the column belongs to one."""
    dimension: Dimension | None = None
    """Its dimension; else the source's `dimension`."""
    scale: Scale | None = None
    """Its scale; else the source's `scale`."""
    optional: bool = False
    """An empty cell means that the question was not asked: ignored as empty_result."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.column is None) == (self.mean is None):
            raise ValueError("give either `column` (a rating) or `mean` (an opinion)")
        return self


class Columns(Settings):
    """The meaning of the columns."""

    prompt: Cell | None = None
    """The prompt; optional."""
    image: Cell | None = None
    """File name of the image, or its image id."""
    generator: Cell | None = None
    """The model that generated the image."""
    item: Cell | None = None
    """The source's name of the rated item, if prompt, image and generator do not identify it."""
    annotator_id: Cell | None = None
    """The rater."""
    submitted_at: Cell | None = None
    """Time of submission, as text that sorts by time."""
    seconds: Cell | None = None
    """Time spent."""
    score: Cell | None = None
    """The score of one rater."""
    scores: Cell | None = None
    """A list of scores of anonymous raters."""
    wide: list[Slot] = []
    """One column per rater and dimension."""
    mean: Cell | None = None
    """A mean opinion."""
    std: Cell | None = None
    """Its standard deviation."""
    histogram: list[Cell] | Cell | None = None
    """Votes (or shares) per level, lowest first: one column each, or a list column."""
    num_ratings: Cell | int | None = None
    """Number of ratings behind an opinion: a column, or a constant."""
    vote: VoteColumn | None = None
    """A comparison of two images; beside `score`, the rows with two images are comparisons."""
    image_a: Cell | None = None
    image_b: Cell | None = None
    generator_a: Cell | None = None
    generator_b: Cell | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        opinion = self.mean is not None or self.histogram is not None
        kinds = [self.score or self.vote, self.scores, self.wide or None, opinion or None]
        if sum(kind is not None for kind in kinds) > 1:
            raise ValueError(
                "a row holds one of `score`, `scores`, `wide`, an opinion (`mean`, `histogram`) or "
                "a `vote`; for several judgements per row use entries of `wide`"
            )
        if self.vote and self.score and not (self.image_a and self.image_b):
            raise ValueError("`vote` beside `score` needs `image_a` and `image_b`")
        if self.vote and not all(
            getattr(self, f"image_{side}") or getattr(self, f"generator_{side}") for side in "ab"
        ):
            raise ValueError("a `vote` needs `image_a` and `image_b` (or `generator_a` and _b)")
        return self


class RowFilter(Settings):
    """Selects rows; the others are ignored as skipped."""

    column: Cell
    """Column to test."""
    words: list[str]
    """Values of the rows to keep."""

    @field_validator("words", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        return [as_word(word) for word in value] if isinstance(value, list) else value


class Prompts(Settings):
    """A second file with the prompts."""

    path: str
    """CSV or TSV; beside the source's file, or below data/drops."""
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
            raise ValueError(f"'{value}' must lie beside the source's file or below {DROPS}")
        return value


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
            raise ValueError(f"'{value}' must lie below {' or '.join(map(str, INPUTS))}")
        return value

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

    @property
    def base_format(self) -> str:
        """The format of the files, also of a public set."""
        known = self.format in public_set_names()
        return load_public_set(self.format).format if known else self.format


def as_word(value: object) -> str:
    """The form in which cells and keys of a map are compared: 1, 1.0 and "1.0" are equal."""
    text = str(value).strip()
    if isinstance(value, bool):
        return text.lower()
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", text):
        return f"{float(text):g}"
    return text

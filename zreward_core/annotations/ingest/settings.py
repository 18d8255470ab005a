"""What params.yaml says of a source: where it lies and which column holds what.

A named public set is the same settings, filled in (``presets``); what the user writes lies over it.
"""

import re
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import field_validator, model_validator

from zreward_core.annotations.formats.presets import PRESETS
from zreward_core.config import Settings, merge

DROPS = Path("data/drops")
ANNOTATE = Path("data/annotate")
CANDIDATE_IMAGES = Path("data/candidates/images")
INPUTS = (DROPS, ANNOTATE, CANDIDATE_IMAGES)
"""Folders that DVC watches for the stage; sources lie in them."""
BASE_FORMATS = ("label_studio", "csv", "tsv", "json", "jsonl", "parquet")

Vote = Literal["a", "b", "tie", "both_bad"]


class Cell(Settings):
    """A column and, where a cell holds more than what is wanted, how to cut it out."""

    column: str
    """Name; keys inside nested records are joined by dots, a number picks from a list."""
    pattern: str | None = None
    """Regular expression (RE2) replaced wherever it matches."""
    to: str = ""
    """What replaces it; \\1 is the first group."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"column": value} if isinstance(value, str) else value


class Scale(Settings):
    """The scale on which raters answered."""

    min: float
    """Lowest score there is."""
    max: float
    """Highest score there is."""
    higher_is_better: bool
    """False for scales on which 1 is the best, as ranks."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min < self.max:
            raise ValueError("`min` must be lower than `max`")
        return self


class DimensionColumn(Settings):
    """Each row says what it is about."""

    column: Cell
    """Column with the name of the dimension."""
    map: dict[str, str | None] = {}
    """The source's word to the rubric's; null: no judgement, counted as an event."""


Dimension = str | DimensionColumn


class VoteColumn(Settings):
    """Which of two images was preferred."""

    column: Cell | None = None
    """Column with the answer."""
    map: dict[str, Vote | None] = {}
    """The source's word to a, b, tie or both_bad; null: the rater skipped."""
    value: Vote | None = None
    """The answer of every row, where a set always names the preferred image first."""

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
    """One judgement among those of a row: a rating, or an opinion of many."""

    column: Cell | None = None
    """Column with the score."""
    mean: Cell | None = None
    """Column with a mean opinion."""
    std: Cell | None = None
    """Column with its standard deviation."""
    annotator_id: str | None = None
    """Who gave it, where a column belongs to a rater."""
    dimension: Dimension | None = None
    """What it is about; else the source's `dimension`."""
    scale: Scale | None = None
    """Its scale; else the source's `scale`."""
    optional: bool = False
    """An empty cell means that nobody was asked (ignored, empty_result): nothing is missing."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.column is None) == (self.mean is None):
            raise ValueError("give either `column` (a rating) or `mean` (an opinion)")
        return self


class Columns(Settings):
    """Which column holds what."""

    prompt: Cell | None = None
    """The prompt; a study may have none."""
    image: Cell | None = None
    """Name of the image's file, or its image id."""
    generator: Cell | None = None
    """What made the image."""
    item: Cell | None = None
    """The source's own name of what is rated, where prompt, image and generator don't give one."""
    annotator_id: Cell | None = None
    """Who judged."""
    submitted_at: Cell | None = None
    """When; text that sorts by time."""
    seconds: Cell | None = None
    """How long it took."""
    score: Cell | None = None
    """The score of one rater."""
    scores: Cell | None = None
    """A list of scores, one anonymous vote each."""
    wide: list[Slot] = []
    """A column per rater and dimension."""
    mean: Cell | None = None
    """A mean opinion."""
    std: Cell | None = None
    """Its standard deviation."""
    histogram: list[Cell] | Cell | None = None
    """Votes (or shares) by level, lowest value first: a column each, or one list column."""
    num_ratings: Cell | int | None = None
    """Ratings behind an opinion: a column, or a number that holds for all."""
    vote: VoteColumn | None = None
    """A comparison of two images."""
    image_a: Cell | None = None
    image_b: Cell | None = None
    generator_a: Cell | None = None
    generator_b: Cell | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        opinion = self.mean is not None or self.histogram is not None
        kinds = [self.score, self.scores, self.wide or None, opinion or None, self.vote]
        if sum(kind is not None for kind in kinds) > 1:
            raise ValueError(
                "a row holds one of `score`, `scores`, `wide`, an opinion (`mean`, `histogram`) or "
                "a `vote`; several of a row are entries of `wide`"
            )
        if self.vote and not all(
            getattr(self, f"image_{side}") or getattr(self, f"generator_{side}") for side in "ab"
        ):
            raise ValueError("a `vote` needs `image_a` and `image_b` (or `generator_a` and _b)")
        return self


class RowFilter(Settings):
    """Rows that count; the others are ignored as skipped."""

    column: Cell
    """Column that decides."""
    words: list[str]
    """What stands in it where a row counts."""

    @field_validator("words", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        return [as_word(word) for word in value] if isinstance(value, list) else value


class Prompts(Settings):
    """A second file with the prompts."""

    path: str
    """CSV or TSV; beside the source's file, or below data/drops."""
    key: str
    """Its column that tells prompts apart."""
    prompt: str
    """Its column with the text."""
    column: Cell
    """The source's column that holds the key."""

    @field_validator("path")
    @classmethod
    def _inside(cls, value: str) -> str:
        if Path(value).is_absolute() or ".." in Path(value).parts:
            raise ValueError(f"'{value}' must lie beside the source's file or below {DROPS}")
        return value


class Source(Settings):
    """Where annotations come from."""

    name: str
    """Name in tables and summaries."""
    format: str = "label_studio"
    """How the files are written, or the name of a public set."""
    path: Path
    """A file, a folder or a glob below data/drops (or annotate's drop)."""
    files: str | None = None
    """Which files of a folder are read (a glob)."""
    columns: Columns = Columns()
    """Which column holds what; Label Studio exports need none."""
    dimension: Dimension | None = None
    """What the judgements are about: a name of the rubric, or a column that says it."""
    scale: Scale | None = None
    """The scale of the scores; votes and Label Studio exports of this project need none."""
    only: RowFilter | None = None
    """Which rows count, where a set says so in a column."""
    records: str | None = None
    """Where the records lie in a JSON file, where not at its top (dotted)."""
    images: Path | None = None
    """Images that the annotations refer to: image shards or plain files."""
    prompts: Prompts | None = None
    """A second file with the prompts."""
    encoding: str | None = None
    """Of text files; found out where it is not given."""

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        known = value.get("format", "label_studio")
        if known == "label_studio":
            value = {"images": CANDIDATE_IMAGES, **value}
        preset = PRESETS.get(known) if isinstance(known, str) else None
        return merge(preset.settings, value) if preset else value

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        known = {*BASE_FORMATS, *PRESETS}
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
        if self.base_format == "label_studio":
            return self
        columns = self.columns
        slots = list(columns.wide)
        if not (slots or columns.score or columns.scores or columns.vote or self._opinion):
            raise ValueError(
                "`columns` must say where the judgements are: `score`, `scores`, `wide`, `mean`, "
                "`histogram` or `vote`"
            )
        own = all(slot.dimension for slot in slots) if slots else False
        if self.dimension is None and not own:
            raise ValueError("`dimension` is missing: which dimension of the rubric is judged?")
        own = all(slot.scale for slot in slots) if slots else columns.vote is not None
        if self.scale is None and not own:
            raise ValueError("`scale` is missing: {min: .., max: .., higher_is_better: ..}")
        return self

    @property
    def _opinion(self) -> bool:
        return self.columns.mean is not None or self.columns.histogram is not None

    @property
    def base_format(self) -> str:
        """The reader of the files: of a public set, the one that its preset names."""
        return PRESETS[self.format].reader if self.format in PRESETS else self.format


def as_word(value: object) -> str:
    """The form in which cells and keys of a map are compared: 1, 1.0 and "1.0" are one word."""
    text = str(value).strip()
    if isinstance(value, bool):
        return text.lower()
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", text):
        return f"{float(text):g}"
    return text

"""Column settings: the source of a value, and its notation.

A cell is the value of one record: from a column or the file name, or a constant. A pattern
and a map of words are applied to it.
"""

import re
from typing import Any, Literal, Self

import pyarrow as pa
import pyarrow.compute as pc
import regex
from pydantic import field_validator, model_validator

from zreward_core.annotations.formats.records import BLANK
from zreward_core.config import Settings

Vote = Literal["a", "b", "tie", "both_bad"]
VOTES = {"a": "a", "b": "b", "tie": "tie"}
ANSWER = "answer"
"""Column of the unfolded answers (``Answers``); its parts are ``answer.<key>``, the captured keys
``answer_1``, ``answer_2``."""
RANKED = "ranked"
"""Prefix of the columns into which a ranking is unfolded."""
MAX_DIGITS = 300
"""Longer cells are not numbers."""
ENTRANTS = ("image", "generator")
"""Columns that a ranking can order."""
JUDGED = (
    "score",
    "scores",
    "annotator_ids",
    "seconds",
    "wide",
    "mean",
    "std",
    "histogram",
    "num_ratings",
    "vote",
    "ranking",
)
"""Fields of ``Columns`` with judgements; the others describe what is judged, by whom and when."""


class Cell(Settings):
    """Source of a value, and how it is read."""

    column: str | None = None
    """Name of the column; keys of nested records (or of JSON inside a cell) are joined by dots, a
    number selects from a list."""
    file: str | None = None
    """Regular expression (Python) searched in the file's name, else in its path; its first group,
    else the whole match, is the value of each record of the file."""
    value: str | None = None
    """A constant."""
    pattern: str | None = None
    """Regular expression (RE2); every match is replaced."""
    to: str = ""
    """Replacement; \\1 is the first group."""
    words: dict[str, str | None] = {}
    """Text of a cell, after the pattern, to its value, such as {Good: 4}; null: an empty cell.
    Other cells are unchanged."""
    separator: str | None = None
    """Separates the values of a list cell; detected if not given."""

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"column": str(value)} if isinstance(value, str | int) else value

    @field_validator("column", "value", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return _plain(value)

    @field_validator("words", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        return words_of(value)

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if sum(one is not None for one in (self.column, self.file, self.value)) != 1:
            raise ValueError("give one of `column`, `file` or `value`")
        if self.separator == "":
            raise ValueError("`separator` is empty; leave it out to have it detected")
        if self.to and self.pattern is None:
            raise ValueError("`to` replaces the matches of a `pattern`; add `pattern`")
        if self.file is not None:
            check_pattern(self.file)
        if self.pattern is not None:
            try:
                pc.replace_substring_regex(pa.array([""]), self.pattern, self.to)
            except pa.ArrowInvalid as error:
                raise ValueError(f"`pattern` or `to` is not valid RE2: {error}") from None
        return self

    @property
    def key(self) -> str:
        """Name of the cell among the columns of a batch."""
        if self.column is not None:
            return self.column
        return f"\0file {self.file}" if self.file is not None else f"\0value {self.value}"


class Range(Settings):
    """Two ends of a scale."""

    min: float
    """Lowest possible value."""
    max: float
    """Highest possible value."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min < self.max:
            raise ValueError("`min` must be lower than `max`")
        return self


class Scale(Range):
    """The scale of the annotators' answers."""

    higher_is_better: bool
    """False for scales whose lowest value is the best, such as ranks."""


class DimensionColumn(Settings):
    """The dimension is named in each row."""

    column: Cell
    """Column with the name of the dimension."""
    map: dict[str, str | None] = {}
    """The source's value to a dimension; null: not a judgement, counted as an event."""
    scales: dict[str, Scale] = {}
    """Scales that differ from the source's scale, by the source's value."""

    @field_validator("map", "scales", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        return words_of(value)


Dimension = str | DimensionColumn


class VoteColumn(Settings):
    """Which of two images is preferred; an answer outside of the map may be its name."""

    column: Cell | None = None
    """Column with the answer."""
    map: dict[str, Vote | None] = {}
    """The source's answer to a, b, tie or both_bad; null: the annotator skipped."""
    value: Vote | None = None
    """The answer of every row, for sets that always name the preferred image first."""

    @field_validator("map", mode="before")
    @classmethod
    def _words(cls, value: Any) -> Any:
        return words_of(value)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.column is None) == (self.value is None):
            raise ValueError("give either `column` (with `map`) or `value`")
        return self


class Slot(Settings):
    """One of several judgements in a row: a rating, a list of ratings or a mean opinion."""

    column: Cell | None = None
    """Column with the score."""
    scores: Cell | None = None
    """Column with a list of scores, one per annotator."""
    annotator_ids: Cell | None = None
    """Column with the list of their annotators, in the same order."""
    mean: Cell | None = None
    """Column with a mean opinion."""
    std: Cell | None = None
    """Column with its standard deviation."""
    std_scale: Range | None = None
    """Scale of the standard deviation, if it is not that of the mean."""
    annotator_id: str | None = None
    """The annotator, if the column belongs to one."""
    dimension: Dimension | None = None
    """Its dimension; else the source's `dimension`."""
    scale: Scale | None = None
    """Its scale; else the source's `scale`."""
    optional: bool = False
    """An empty cell means that the question was not asked: ignored as empty_result."""

    @field_validator("annotator_id", mode="before")
    @classmethod
    def _text(cls, value: Any) -> Any:
        return _plain(value)

    @model_validator(mode="after")
    def _one(self) -> Self:
        kinds = [self.column, self.scores, self.mean]
        if sum(kind is not None for kind in kinds) != 1:
            raise ValueError("give one of `column` (a rating), `scores` or `mean` (an opinion)")
        check_read(self, "mean", ("std", "std_scale"))
        check_read(self, "std", ("std_scale",))
        check_read(self, "scores", ("annotator_ids",))
        if self.mean is not None and self.annotator_id is not None:
            raise ValueError("`annotator_id` is not read with `mean`; remove it")
        if self.annotator_ids is not None and self.annotator_id is not None:
            raise ValueError("give either `annotator_id` or `annotator_ids`")
        check_separators(self, ("scores", "annotator_ids"))
        return self

    @property
    def cell(self) -> Cell | None:
        """The column with the judgement."""
        return self.column or self.scores or self.mean


class Ranking(Settings):
    """A ranking of several images of a prompt; read as one comparison per pair of images."""

    images: Cell | list[Cell] | None = None
    """The images: a list cell, or one column each."""
    generators: Cell | list[Cell] | None = None
    """Their generators (`{value: ..}` for constants)."""
    ranks: Cell | list[Cell] | None = None
    """Their ranks; equal ranks are ties, an image without a rank is not compared. Without ranks the
    best comes first."""
    higher_is_better: bool = False
    """True if the best has the highest rank."""

    @model_validator(mode="after")
    def _some(self) -> Self:
        if self.images is None and self.generators is None:
            raise ValueError("a `ranking` needs `images` or `generators`")
        check_read(self, "ranks", ("higher_is_better",))
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
    """The source's id of the rated item, if prompt, image and generator do not identify it."""
    annotator_id: Cell | None = None
    """The annotator."""
    submitted_at: Cell | None = None
    """Time of submission, as text that sorts by time."""
    seconds: Cell | None = None
    """Time spent."""
    score: Cell | None = None
    """The score of one annotator."""
    scores: Cell | None = None
    """A list of scores, one per annotator."""
    annotator_ids: Cell | None = None
    """The list of the annotators of `scores`, in the same order; else they are anonymous."""
    wide: list[Slot] = []
    """One column per annotator and dimension."""
    mean: Cell | None = None
    """A mean opinion."""
    std: Cell | None = None
    """Its standard deviation."""
    std_scale: Range | None = None
    """Scale of the standard deviation, if it is not that of the mean."""
    histogram: list[Cell] | Cell | None = None
    """Votes (or shares) per level, lowest first: one column each, or a list column."""
    num_ratings: Cell | int | None = None
    """Number of ratings behind an opinion: a column, or a constant."""
    vote: VoteColumn | None = None
    """A comparison of two images; with `score`, the rows with two images are comparisons."""
    image_a: Cell | None = None
    image_b: Cell | None = None
    generator_a: Cell | None = None
    generator_b: Cell | None = None
    ranking: Ranking | None = None
    """A ranking of several images."""

    @model_validator(mode="before")
    @classmethod
    def _compared(cls, value: Any) -> Any:
        """A ranking is unfolded into comparisons."""
        if not isinstance(value, dict) or not value.get("ranking"):
            return value
        clash = sorted(key for key in value if key.startswith(("image", "generator", "vote")))
        if clash:
            raise ValueError(f"{', '.join(clash)} not read with a `ranking`; use its fields")
        sides = {f"{one}_{side}": f"{RANKED}.{one}_{side}" for one in ENTRANTS for side in "ab"}
        return {**value, **sides, "vote": {"column": f"{RANKED}.vote", "map": VOTES}}

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        opinion = self.mean is not None or self.histogram is not None
        kinds = [self.score or self.vote, self.scores, self.wide or None, opinion or None]
        if sum(kind is not None for kind in kinds) > 1:
            raise ValueError(
                "a row has one of `score`, `scores`, `wide`, an opinion (`mean`, `histogram`) or "
                "a `vote`; for several judgements per row use entries of `wide`"
            )
        if self.vote and self.score and not (self.image_a and self.image_b):
            raise ValueError("`vote` with `score` needs `image_a` and `image_b`")
        if self.vote and not all(
            getattr(self, f"image_{side}") or getattr(self, f"generator_{side}") for side in "ab"
        ):
            raise ValueError("a `vote` needs `image_a` and `image_b` (or `generator_a` and _b)")
        self._check_unread(opinion)
        return self

    def _check_unread(self, opinion: bool) -> None:
        """Reject columns that are not read for these judgements."""
        check_read(self, "mean", ("std",))
        check_read(self, "std", ("std_scale",))
        check_read(self, "scores", ("annotator_ids",))
        check_read(self, "vote", ("image_a", "image_b", "generator_a", "generator_b"))
        if self.annotator_id is not None and self.annotator_ids is not None:
            raise ValueError("give either `annotator_id` or `annotator_ids`")
        if self.num_ratings is not None and not (opinion or any(one.mean for one in self.wide)):
            raise ValueError("`num_ratings` is read only with `mean` or `histogram`; remove it")
        unread = []
        if opinion:
            unread = [self._given("annotator_id", "submitted_at", "seconds"), "an opinion"]
        elif self.vote is not None and self.score is None:
            unread = [self._given("image", "item", "seconds"), "a `vote`"]
        if unread and unread[0]:
            raise ValueError(f"{unread[0]} not read with {unread[1]}; remove it")
        check_separators(self, ("scores", "annotator_ids", "histogram"))

    def _given(self, *names: str) -> str:
        return ", ".join(f"`{name}`" for name in names if getattr(self, name) is not None)


def check_read(settings: Settings, needed: str, names: tuple[str, ...]) -> None:
    """Reject settings that are read only with another one.

    Raises:
        ValueError: one is given and the other is not.
    """
    for name in names:
        given = getattr(settings, name) != type(settings).model_fields[name].default
        if given and not getattr(settings, needed):
            raise ValueError(f"`{name}` is read only with `{needed}`; add that or remove it")


def check_separators(settings: Settings, lists: tuple[str, ...]) -> None:
    """Reject separators of cells that are not lists.

    Raises:
        ValueError: one has a separator.
    """
    for name in set(type(settings).model_fields) - set(lists):
        cell = getattr(settings, name)
        if isinstance(cell, Cell) and cell.separator is not None:
            raise ValueError(f"`separator` is not read for `{name}`, which is not a list")


def check_pattern(pattern: str) -> None:
    """Reject a regular expression that is not valid.

    Raises:
        ValueError: it is not valid.
    """
    try:
        regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"'{pattern}' is not a valid regular expression: {error}") from None


def as_word(value: object) -> str:
    """The form in which cells and keys of a map are compared.

    1, 1.0 and "1.0" are equal, and so are true and "True", and spaces and no-break spaces.
    """
    text = "null" if value is None else str(value).replace("\u00a0", " ").strip(BLANK)
    if len(text) > MAX_DIGITS:  # Python converts no integer of more than 4,300 digits
        return text
    if text.lower() in ("true", "false"):
        return text.lower()
    if re.fullmatch(r"[+-]?\d+(\.0*)?", text):
        return str(int(text.partition(".")[0]))
    if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", text):
        return repr(float(text))
    return text


def words_of(value: Any) -> Any:
    """A map of params.yaml with strings as keys, and numbers and booleans as text."""
    if not isinstance(value, dict):
        return value
    return {as_word(key): _plain(one) for key, one in value.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value

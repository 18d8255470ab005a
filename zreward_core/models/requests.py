"""Scoring requests of a server: limits of cost, and images decoded one by one.

Everything that a request costs is bounded before the first image is decoded: the number of rows,
the characters and tokens of prompts, and the pixels in the headers of the images.
"""

import base64
import binascii
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from zreward_core.config import UserError
from zreward_core.images import check_size, stored_size
from zreward_core.models.scorer import RewardModel
from zreward_core.models.scores import join_scores
from zreward_core.schemas import NotFinite

DATA_URI = re.compile(r"\Adata:[\w/+.=;-]*;base64,")
CHARACTERS_PER_TOKEN = 16
"""More characters than this times the limit of tokens are rejected without tokenizing them."""


@dataclass(frozen=True)
class Limits:
    """The most that one request may cost."""

    rows: int = 256
    """Images in a request."""
    pixels: int = 256 * 1024 * 1024
    """Pixels of all images of a request together."""
    image_pixels: int = 4096 * 4096
    """Pixels of one image."""
    prompt_tokens: int = 65_536
    """Tokens of all prompts of a request together."""
    batch_tokens: int = 131_072
    """Tokens of a batch, padding included; longer rows are scored in smaller batches."""


class RequestTooLarge(UserError):
    """A request exceeds a limit; HTTP 413."""


@dataclass(frozen=True)
class Row:
    """An image to score; its cost is known and within the limits."""

    index: int
    """Row of the request."""
    prompt: str
    image: bytes
    """Content of an image file; decoded when it is scored."""
    num_tokens: int
    """Tokens of prompt and image."""


@dataclass(frozen=True)
class RowScores:
    """Scores of a row."""

    overall: float
    """Mean over the dimensions by the rubric's weights."""
    dimensions: dict[str, dict[str, Any]]
    """Dimension to mean, std, mass and probs."""


class RequestScorer:
    """Scores the rows of requests, each request within the limits.

    ``admit`` and ``score_rows`` may run in different threads.
    """

    def __init__(self, model: RewardModel, limits: Limits | None = None) -> None:
        self.model = model
        self.limits = limits or Limits()
        self._lock = threading.Lock()

    def score(self, prompts: Sequence[object], images: Sequence[object]) -> list[dict[str, Any]]:
        """For each row, dimension to mean, std, mass and probs (``Scores.rows``).

        Args:
            prompts: a string for each row.
            images: an encoded image file in base64 for each row.

        Raises:
            RequestTooLarge: a limit is exceeded; names the limit and the row.
            UserError: a row is malformed; names the row and the reason.
        """
        rows = require_all(self.admit(prompts, images))
        with self._lock:
            return [scores.dimensions for scores in require_all(self.score_rows(rows))]

    def admit(self, prompts: Sequence[object], images: Sequence[object]) -> list[Row | UserError]:
        """The rows of a request, or the reason why one cannot be scored; decodes no image.

        Args:
            prompts: a string for each row.
            images: an encoded image file for each row, as bytes, in base64, or as a data URI.

        Raises:
            RequestTooLarge: a limit is exceeded; names the limit and the row.
            UserError: there is no row.
        """
        self.check_number(len(prompts))
        rows: list[Row | UserError] = []
        tokens = self._num_prompt_tokens(prompts)
        pixels = 0
        for index, (prompt, image, num_tokens) in enumerate(
            zip(prompts, images, tokens, strict=True)
        ):
            if isinstance(num_tokens, UserError):
                rows.append(num_tokens)
                continue
            try:
                content = _content(image, index)
                width, height = stored_size(content, _name(index))
                pixels += width * height
                self._check_pixels(index, width, height, pixels)
                check_size(width, height, _name(index))
            except RequestTooLarge:
                raise
            except UserError as error:
                rows.append(error)
                continue
            path = self.model.backbone.pixels
            num_tokens += path.num_tokens(*path.size(height, width))
            rows.append(Row(index, str(prompt), content, num_tokens))
        return rows

    def check_number(self, num_rows: int) -> None:
        """Check the number of a request's rows.

        Raises:
            RequestTooLarge, UserError: there are too many, or none.
        """
        if not num_rows:
            raise UserError("0 rows: send at least one")
        if num_rows > self.limits.rows:
            raise RequestTooLarge(f"{num_rows} rows: send at most {self.limits.rows} at a time")

    def padded_length(self, row: Row) -> int:
        """Rows for which this is equal are scored in one forward pass."""
        return self.model.padded_length(row.num_tokens)

    def score_rows(self, rows: Sequence[Row]) -> list[RowScores | UserError]:
        """Scores of rows, of one or of several requests, or the reason why one has none."""
        found: list[RowScores | UserError] = []
        for start, stop in self._batches([row.num_tokens for row in rows]):
            part = rows[start:stop]
            try:
                found += self._score_batch(part)
            except NotFinite as error:  # of one row, but the error does not say which
                found += [error] if len(part) == 1 else self._score_one_by_one(part)
        return found

    def _score_one_by_one(self, rows: Sequence[Row]) -> list[RowScores | UserError]:
        return [scores for row in rows for scores in self.score_rows([row])]

    def _score_batch(self, rows: Sequence[Row]) -> list[RowScores | UserError]:
        parts = self.model.score_stream(
            [row.prompt for row in rows],
            (row.image for row in rows),  # an image is decoded when it is taken
            window=len(rows),
            keep_errors=True,
        )
        scores = join_scores(list(parts))
        overall = scores.overall.tolist()
        return [
            UserError(_of_request(row, scores.errors[b]))
            if b in scores.errors
            else RowScores(overall[b], dimensions)
            for b, (row, dimensions) in enumerate(zip(rows, scores.rows(), strict=True))
        ]

    def _num_prompt_tokens(self, prompts: Sequence[object]) -> list[int | UserError]:
        """Tokens of each prompt, or the reason why it cannot be scored.

        Raises:
            RequestTooLarge: they exceed the limit together.
        """
        limit, chat = self.limits.prompt_tokens, self.model.backbone.chat
        advice = f"the prompts of a request may have {limit:,} tokens together: send fewer rows"
        count, characters = 0, 0
        num_tokens: list[int | UserError] = []
        for row, value in enumerate(prompts):
            try:
                prompt = _text(value, row, "prompt")
                characters += len(prompt)
                if characters > CHARACTERS_PER_TOKEN * limit:
                    raise RequestTooLarge(f"row {row}: {characters:,} characters so far; {advice}")
                length = len(chat.prompt_of_row(row, prompt))
            except RequestTooLarge:
                raise
            except UserError as error:
                num_tokens.append(error)
                continue
            num_tokens.append(len(chat.head) - 1 + length)  # without the image's placeholder
            count += length
            if count > limit:
                raise RequestTooLarge(f"row {row}: {count:,} tokens so far; {advice}")
        return num_tokens

    def _check_pixels(self, row: int, width: int, height: int, total: int) -> None:
        """Check the size of an image, and the pixels of a request up to it."""
        limits = self.limits
        if width * height > limits.image_pixels:
            raise RequestTooLarge(
                f"row {row}: image of {width} x {height} is too large: shrink it to at most"
                f" {limits.image_pixels:,} pixels"
            )
        if total > limits.pixels:
            raise RequestTooLarge(
                f"row {row}: {total:,} pixels so far; the images of a request may have"
                f" {limits.pixels:,} together: send fewer rows"
            )

    def _batches(self, num_tokens: list[int]) -> list[tuple[int, int]]:
        """Consecutive rows that are scored together: at most a batch, and ``batch_tokens``."""
        batches: list[tuple[int, int]] = []
        start, longest = 0, 0
        for row, length in enumerate(num_tokens):
            longest = max(longest, length)
            size = row + 1 - start
            if size > self.model.batch_size or (
                size > 1 and size * longest > self.limits.batch_tokens
            ):
                batches.append((start, row))
                start, longest = row, length
        return [*batches, (start, len(num_tokens))]


Found = TypeVar("Found", Row, RowScores)


def require_all(found: Sequence[Found | UserError]) -> list[Found]:
    """All of them.

    Raises:
        UserError: the first error.
    """
    for one in found:
        if isinstance(one, UserError):
            raise one
    return list(found)  # type: ignore[arg-type]


def _of_request(row: Row, reason: str) -> str:
    """A reason that names the row of the request, not that of the batch."""
    return re.sub(r"\Arow \d+", f"row {row.index}", reason)


def _name(row: int) -> str:
    return f"row {row}: image"


def _content(image: object, row: int) -> bytes:
    if not image and isinstance(image, str | bytes):
        raise UserError(f"row {row}: image is empty; send an encoded image file in base64")
    if isinstance(image, bytes):
        return image
    text = _text(image, row, "image")
    text = DATA_URI.sub("", text, count=1)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError(f"row {row}: image is not valid base64 ({error})") from None


def _text(value: object, row: int, column: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"row {row}: {column} must be a string, not {type(value).__name__}")
    return value

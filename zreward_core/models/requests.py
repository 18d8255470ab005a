"""Scoring requests of a server: limits of cost, and images decoded one by one.

Everything that a request costs is bounded before the first image is decoded: the number of rows,
the characters and tokens of prompts, and the pixels in the headers of the images.
"""

import base64
import binascii
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zreward_core.config import UserError
from zreward_core.images import check_size, decode, stored_size
from zreward_core.models.scorer import RewardModel

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


class RequestScorer:
    """Scores requests one at a time, each within the limits."""

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
        limits = self.limits
        if not prompts:
            raise UserError("0 rows: send at least one")
        if len(prompts) > limits.rows:
            raise RequestTooLarge(f"{len(prompts)} rows: send at most {limits.rows} at a time")
        with self._lock:
            texts = [_text(value, row, "prompt") for row, value in enumerate(prompts)]
            num_tokens = self._num_prompt_tokens(texts)
            encoded = [_text(value, row, "image") for row, value in enumerate(images)]
            for row, num_image_tokens in enumerate(self._num_image_tokens(encoded)):
                num_tokens[row] += num_image_tokens
            found: list[dict[str, Any]] = []
            for start, stop in self._batches(num_tokens):
                part = _Decoded(encoded, start, stop)
                found += self.model.score(texts[start:stop], part).rows()
            return found

    def _num_prompt_tokens(self, prompts: list[str]) -> list[int]:
        """Tokens of each prompt.

        Raises:
            RequestTooLarge: they exceed the limit together.
            PromptRefused: a prompt is too long for the model, or not Unicode text.
        """
        limit, chat = self.limits.prompt_tokens, self.model.backbone.chat
        advice = f"the prompts of a request may have {limit:,} tokens together: send fewer rows"
        count, characters = 0, 0
        num_tokens = []
        for row, prompt in enumerate(prompts):
            characters += len(prompt)
            if characters > CHARACTERS_PER_TOKEN * limit:
                raise RequestTooLarge(f"row {row}: {characters:,} characters so far; {advice}")
            length = len(chat.prompt_of_row(row, prompt))
            num_tokens.append(len(chat.head) - 1 + length)  # without the image's placeholder
            count += length
            if count > limit:
                raise RequestTooLarge(f"row {row}: {count:,} tokens so far; {advice}")
        return num_tokens

    def _num_image_tokens(self, images: list[str]) -> list[int]:
        """Tokens of each image after resizing, from its header.

        Raises:
            RequestTooLarge: an image or all together have too many pixels.
            UserError: an image is unreadable or too narrow.
        """
        limits, path = self.limits, self.model.backbone.pixels
        total = 0
        num_tokens = []
        for row, text in enumerate(images):
            width, height = stored_size(_content(text, row), _name(row))
            total += width * height
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
            check_size(width, height, _name(row))
            num_tokens.append(path.num_tokens(*path.size(height, width)))
        return num_tokens

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


class _Decoded(Sequence[np.ndarray]):
    """Rows of a request as pixels, each decoded when it is taken."""

    def __init__(self, images: list[str], start: int, stop: int) -> None:
        self._images = images
        self._rows = range(start, stop)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        row = self._rows[index]
        return decode(_content(self._images[row], row), _name(row))


def _name(row: int) -> str:
    return f"row {row}: image"


def _content(text: str, row: int) -> bytes:
    if not text:
        raise UserError(f"row {row}: image is empty; send an encoded image file in base64")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise UserError(f"row {row}: image is not valid base64 ({error})") from None


def _text(value: object, row: int, column: str) -> str:
    if not isinstance(value, str):
        raise UserError(f"row {row}: {column} must be a string, not {type(value).__name__}")
    return value

"""The page of `zreward compare`, with a contact sheet of its best and worst prompts."""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from zreward_core.commands.scoring.rows import Columns, Source
from zreward_core.commands.scoring.score_file import OVERALL, ScoreFile
from zreward_core.commands.scoring.sources import open_source
from zreward_core.config import UserError
from zreward_core.images import decode, encode_png, read_image
from zreward_core.pages.render import render, write_page

if TYPE_CHECKING:
    from zreward_core.commands.scoring.compare import Figures, Side

EDGE = 256
"""Longer side of a displayed image, in pixels."""


class Case(NamedTuple):
    """A prompt that is shown."""

    kind: str
    """best or worst."""
    prompt: str
    gain: float
    """Overall score of the second side minus that of the first."""


class Shown(NamedTuple):
    """An image of a side."""

    content: bytes | None
    """None where it cannot be read."""
    caption: str


def write_comparison(
    figures: "Figures",
    sides: Sequence["Side"],
    cases: Mapping[tuple[str, str], Sequence[Case]],
    path: Path,
) -> None:
    """Write the page; images that cannot be read any more are named there.

    Args:
        cases: of two sides, the prompts to show.
    """
    prompts = {case.prompt for some in cases.values() for case in some}
    images = {side.name: _images(side, prompts) for side in sides}
    page = render(
        "compare",
        title="Comparison of " + ", ".join(side.name for side in sides),
        figures=figures,
        overall=OVERALL,
        cases=cases,
        images=images,
        model=sides[0].scores.metadata["model_sha256"],
        rubric=sides[0].scores.metadata["rubric_sha256"],
    )
    write_page(page, path)


def _images(side: "Side", prompts: set[str]) -> dict[str, Shown]:
    """Of each prompt the first image that has a score."""
    rows = side.rows[side.rows["prompt"].isin(prompts) & side.rows[OVERALL].notna()]
    counts = rows["prompt"].value_counts()
    source = _source(side.scores)
    found: dict[str, Shown] = {}
    for row in rows.drop_duplicates("prompt").sort_values("row").to_dict("records"):
        number = counts[row["prompt"]]
        more = f", first of {number} images" if number > 1 else ""
        caption = f"{row[OVERALL]:.2f}{more}"
        content = None if source is None else _content(source, int(row["row"]), row["prompt"])
        found[row["prompt"]] = Shown(content, caption)
    return found


def _source(scores: ScoreFile) -> Source | None:
    """What the scores were computed from; None if it is no longer there."""
    given: dict[str, Any] = scores.metadata["source"]
    columns = Columns(given["image"], given["prompt"], given["text"])
    images = None if given["images"] is None else Path(given["images"])
    try:
        return open_source([Path(path) for path in given["paths"]], columns, images)
    except UserError:
        return None


def _content(source: Source, number: int, prompt: str) -> bytes | None:
    """A small image of a row; None if it cannot be read, or the row has another prompt now."""
    row = next(source.rows(number), None)
    if row is None or row.image is None or row.prompt != prompt:
        return None
    try:
        pixels = read_image(row.image)[1] if isinstance(row.image, Path) else decode(row.image)
    except UserError:
        return None
    return thumbnail(pixels)


def thumbnail(pixels: np.ndarray) -> bytes:
    """An encoded image of at most ``EDGE`` pixels: PNG if it is that small, else JPEG."""
    if max(pixels.shape[:2]) <= EDGE:
        return encode_png(pixels)
    image = Image.fromarray(pixels)
    image.thumbnail((EDGE, EDGE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()

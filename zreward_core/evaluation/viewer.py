"""The viewer: a page of test and pool items, and the same in one file with fewer items.

The page holds what its list and its filters need. Images, distributions, traces and judgements are
in chunks of a few items, scripts that the page loads when an item is shown; so it opens from a
folder, without a server. The single file has its chunks inside and opens where a page cannot load
others, as among the artifacts of an MLflow run.

Shapes: N items, D dimensions, S score levels.
"""

import base64
import hashlib
import io
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from zreward_core import pages
from zreward_core.evaluation.plots import MODEL_COLOURS
from zreward_core.evaluation.viewer_items import Given, ShownItems, read_shown_items
from zreward_core.images import ImageStore
from zreward_core.pages.render import render, write_page

FOLDER = Path("reports/viewer")
PAGE, SINGLE = FOLDER / "index.html", FOLDER / "viewer.html"
"""The page and the single file."""
SCRIPTS = ("viewer.js", "viewer_item.js")
"""Files of the page's script, in their order."""
CHUNK_ITEMS = 16
EDGE = 256
"""Longer edge of an image of the page, in pixels."""
EXACT_EDGE = 64
"""Images up to this size keep their exact pixels, which are shown enlarged."""
SINGLE_BYTES = 16_000_000
"""Bound on the chunks in the single file."""
ESCAPED = {ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&"}
"""So that no text ends a script or begins a comment."""


def write_viewer(images: ImageStore, track: Callable[..., Iterable[int]]) -> Path:
    """Write the viewer of the last evaluation into ``FOLDER``.

    Args:
        images: those of the test items and of the pool.
        track: iterates over its first argument with progress (``runtime.progress.track``).

    Returns:
        The page.

    Raises:
        UserError: `evaluate` has not run, or an image is missing.
    """
    shown = read_shown_items()
    num_items = len(shown.items)
    scratch = FOLDER.with_name(f".{FOLDER.name}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    (scratch / "items").mkdir(parents=True)
    inside: list[str] = []
    room = SINGLE_BYTES
    starts = range(0, num_items, CHUNK_ITEMS)
    for number, start in enumerate(track(starts, "viewer", len(starts))):
        places = range(start, min(start + CHUNK_ITEMS, num_items))
        content = as_json([details(shown, place, images) for place in places])
        (scratch / f"items/{number:05d}.js").write_text(f"chunk({number}, {content})")
        room -= len(content)
        if room >= 0:
            inside.append(content)
    num_inside = min(num_items, len(inside) * CHUNK_ITEMS)
    write_page(page(shown, num_items, []), scratch / PAGE.name)
    write_page(page(shown, num_inside, inside), scratch / SINGLE.name)
    shutil.rmtree(FOLDER, ignore_errors=True)
    scratch.rename(FOLDER)
    return PAGE


def page(shown: ShownItems, num_items: int, chunks: list[str]) -> str:
    """HTML of the first items, with the chunks that are inside the page."""
    folder = Path(pages.__file__).parent
    script = "".join((folder / name).read_text(encoding="utf-8") for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}' 'strict-dynamic'; img-src data:;"
        " style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    )
    return render(
        "viewer",
        title="Items: annotators, teacher, student",
        policy=policy,
        script=script,
        colours={name: MODEL_COLOURS[name] for name in ("teacher", "student")},
        num_dimensions=len(shown.rubric.names),
        index=as_json(index(shown, num_items)),
        chunks=chunks,
    )


def index(shown: ShownItems, num_items: int) -> dict[str, Any]:
    """Data of the page's list and filters, for the first items.

    The lists by dimension have one entry for each item, in the order of its dimensions.
    """
    items = shown.items.iloc[:num_items]
    levels = np.asarray(shown.rubric.levels)
    prompts = list(dict.fromkeys(items["prompt"]))
    generators = sorted(set(items["generator"]))
    names = shown.rubric.names
    rated = [
        [_rated(shown.given.get((one, name), [])) for name in names] for one in items["item_id"]
    ]
    is_test = items["is_test"].tolist()
    return {
        "chunk_items": CHUNK_ITEMS,
        "dimensions": [[one.name, one.title] for one in shown.rubric.dimensions],
        "levels": shown.rubric.levels,
        "prompts": prompts,
        "generators": generators,
        "counts": {
            "test": [sum(is_test), shown.num_test],
            "pool": [len(items) - sum(is_test), shown.num_pool],
        },
        "id": items["item_id"].tolist(),
        "is_test": [int(one) for one in is_test],
        "prompt": items["prompt"].map({one: n for n, one in enumerate(prompts)}).tolist(),
        "generator": items["generator"].map({one: n for n, one in enumerate(generators)}).tolist(),
        "score": _numbers(shown.score_ND[:num_items]),
        "teacher": _numbers(shown.teacher_NDS[:num_items] @ levels),
        "student": _numbers(shown.student_NDS[:num_items] @ levels),
        "lowest": [[min(scores, default=None) for scores in row] for row in rated],
        "highest": [[max(scores, default=None) for scores in row] for row in rated],
    }


def details(shown: ShownItems, place: int, images: ImageStore) -> dict[str, Any]:
    """Data of the page of one item; lists by dimension.

    Distributions are in thousandths; ratings are annotator, score, row_ref, 1 if excluded; votes
    have the verdict on the item in place of the score, and the other item.
    """
    item = shown.items.iloc[place]
    pixels = images.pixels(item["image_id"])
    return {
        "image": base64.b64encode(thumbnail(pixels)).decode(),
        "size": [pixels.shape[1], pixels.shape[0]],
        "histogram": _thousandths(shown.histogram_NDS[place]),
        "teacher": _thousandths(shown.teacher_NDS[place]),
        "student": _thousandths(shown.student_NDS[place]),
        "traces": shown.reasoning(item["item_id"]),
        "ratings": [
            [[one.by, one.score, one.row_ref, int(one.excluded)] for one in given]
            for given in shown.judgements(item["item_id"])
        ],
        "votes": [
            [[one.by, one.verdict, one.row_ref, int(one.excluded), one.other] for one in votes]
            for votes in shown.comparisons(item["item_id"])
        ],
    }


def thumbnail(pixels: np.ndarray) -> bytes:
    """A WebP of pixels [H, W, 3] whose longer edge is at most ``EDGE``."""
    image, buffer = Image.fromarray(pixels), io.BytesIO()
    exact = max(image.size) <= EXACT_EDGE
    image.thumbnail((EDGE, EDGE), Image.Resampling.LANCZOS)
    image.save(buffer, "WEBP", lossless=exact, quality=80)
    return buffer.getvalue()


def as_json(content: Any) -> str:
    """JSON that is safe inside a script element."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).translate(ESCAPED)


def _rated(given: list[Given]) -> list[float]:
    """Scores of the annotators that are included."""
    return [round(one.score, 3) for one in given if not one.excluded]


def _numbers(values_ND: np.ndarray) -> list[list[float | None]]:
    rounded = values_ND.round(3).tolist()
    return [[None if value != value else value for value in row] for row in rounded]


def _thousandths(probs_DS: np.ndarray) -> list[list[int] | None]:
    """Distributions in thousandths; None for a row that is unknown."""
    return [
        None if np.isnan(row).any() else (1000 * row).round().astype(int).tolist()
        for row in probs_DS
    ]

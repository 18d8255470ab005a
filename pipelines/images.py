"""Images on an asset's page: files that Dagster's webserver of `make ui` serves, or data URIs.

Dagster shows only short Markdown in place, so an image must be a link to be seen without a click.
"""

import base64
import hashlib
import io
import os
from pathlib import Path

from PIL import Image

from pipelines.commands import DAGSTER_UI

MAX_BYTES = 90_000
"""Size of an image in a data URI; more than 100 kB slows the page down."""
MAX_SERVED_BYTES = 1_000_000
"""Size of an image that the webserver serves, as base64, too."""
INLINE_WIDTH = 420
"""Width of the values beside the longest key, on a page 1440 pixels wide; a wider image is made
smaller and a link to itself."""
ROUTE = "/zreward-images"


def image_folder() -> Path:
    """Folder of the served images, in Dagster's home."""
    return Path(os.environ["DAGSTER_HOME"]) / "images"


def shown(image: Image.Image, name: str) -> str:
    """An image as Markdown, scaled down to ``MAX_BYTES`` or ``MAX_SERVED_BYTES``.

    It is stored by its content, so that the page of an earlier materialization shows the image of
    that time.
    """
    if DAGSTER_UI not in os.environ:
        content, form = packed(image, MAX_BYTES)
        text = base64.b64encode(content).decode()
        return f"![{name}](data:image/{form};base64,{text})"
    full = _stored(*packed(image, MAX_SERVED_BYTES))
    if image.width <= INLINE_WIDTH:
        return f"![{name}]({full})"
    small = image.convert("RGB")
    small.thumbnail((INLINE_WIDTH, 10 * INLINE_WIDTH))
    return f"[![{name}]({_stored(*packed(small, MAX_SERVED_BYTES))})]({full})"


def _stored(content: bytes, form: str) -> str:
    """Address of an image."""
    file = f"{hashlib.sha256(content).hexdigest()[:24]}.{form}"
    image_folder().mkdir(parents=True, exist_ok=True)
    (image_folder() / file).write_bytes(content)
    return f"{ROUTE}/{file}"


def packed(image: Image.Image, limit: int) -> tuple[bytes, str]:
    """Bytes and format of an image whose base64 has at most ``limit`` bytes."""
    image = image.convert("RGB")
    image.thumbnail((1400, 1400))
    while True:
        for form, options in (("png", {"optimize": True}), ("jpeg", {"quality": 85})):
            buffer = io.BytesIO()
            image.save(buffer, form, **options)
            if 4 * len(buffer.getvalue()) / 3 <= limit:
                return buffer.getvalue(), form
        image = image.resize((image.width * 3 // 4, image.height * 3 // 4))

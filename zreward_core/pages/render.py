"""Self-contained HTML pages from the Jinja2 templates of this folder; all values are escaped."""

import base64
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from zreward_core.schemas import replaced

MARKS = {b"\xff\xd8": "jpeg", b"RI": "webp", b"<s": "svg+xml", b"<?": "svg+xml"}
"""First bytes of an image to its media type; PNG otherwise."""


def render(template: str, **context: Any) -> str:
    """Render a template, named without ``.html.j2``."""
    return _environment().get_template(f"{template}.html.j2").render(**context)


def write_page(content: str, path: Path) -> None:
    """Write a page atomically."""
    with replaced(path) as partial:
        partial.write_text(content, encoding="utf-8")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, data_uri=_data_uri)
    return environment


def _number(value: float | None, pattern: str = "{:.2f}") -> str:
    """The number, a dash for None; a number that rounds to zero has no sign."""
    if value is None:
        return "–"
    text = pattern.format(value)
    return text if text.strip("+-0.%") else text.lstrip("+-")


def _data_uri(content: bytes) -> str:
    """An image as the source of an ``img`` element."""
    kind = MARKS.get(content[:2], "png")
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"

"""Filters of the templates; the pages are tested where they are made."""

import pytest
from jinja2 import UndefinedError

from zreward_core.pages.render import _environment, render


def rendered(source: str, **context: object) -> str:
    return _environment().from_string(source).render(**context)


@pytest.mark.parametrize(
    ("value", "pattern", "text"),
    [
        (None, "{:.2f}", "–"),
        (1.234, "{:+.2f}", "+1.23"),
        (-0.001, "{:+.2f}", "0.00"),
        (-0.004, "{:.0%}", "0%"),
        (-0.3, "{:+.1f}", "-0.3"),
    ],
)
def test_numbers(value: float | None, pattern: str, text: str) -> None:
    assert rendered("{{ value | number(pattern) }}", value=value, pattern=pattern) == text


@pytest.mark.parametrize(
    ("content", "kind"),
    [(b"\x89PNG", "png"), (b"\xff\xd8x", "jpeg"), (b"RIFF", "webp"), (b"<?xml", "svg+xml")],
)
def test_images_are_inlined_by_their_kind(content: bytes, kind: str) -> None:
    assert rendered("{{ one | data_uri }}", one=content).startswith(f"data:image/{kind};base64,")


def test_bars_are_relative_to_the_largest_and_labels_are_escaped() -> None:
    source = '{% from "macros.html.j2" import bars %}{{ bars([1, 4, 0], ["<a>", "b", "c"]) }}'
    page = rendered(source)
    assert [part.split("%")[0] for part in page.split("height:")[1:]] == ["25", "100", "0"]
    assert 'title="&lt;a&gt;: 1"' in page
    assert rendered(source.replace("[1, 4, 0]", "[0, 0, 0]")).count("height:0%") == 3


def test_a_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="rubric"):
        render("rubric", title="x")

"""Blocks of image sheets: enlarged pixels, text within its width."""

import numpy as np
import pytest
from PIL import Image

from zreward_core.sheets import beside, captioned, font, stacked, text_block, tile, wrapped


def test_small_images_are_enlarged_by_an_integer_factor() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (30, 20, 3)).astype(np.uint8)
    grown = np.asarray(tile(pixels, 100))
    assert grown.shape == (90, 60, 3)
    assert (grown[1::3, 1::3] == pixels).all()
    assert tile(np.zeros((400, 200, 3), np.uint8), 100).size == (50, 100)
    assert tile(np.zeros((1, 4000, 3), np.uint8), 100).size == (100, 1)


@pytest.mark.parametrize("text", ["a red ball " * 30, "x" * 400, "wide " + "W" * 90 + " narrow"])
@pytest.mark.parametrize("max_lines", [3, 1000])
def test_lines_fit_their_width(text: str, max_lines: int) -> None:
    lines = wrapped(text, 140, max_lines, size=13)
    assert all(font(13).getlength(line) <= 140 for line in lines)
    assert len(lines) <= max_lines
    if max_lines == 1000:
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    else:
        assert lines[-1].endswith("words")


def test_words_that_are_cut_are_counted() -> None:
    lines = wrapped("word " * 50, 140, 2)
    *_, count, words = lines[-1].split()
    shown = " ".join(lines).split().count("word")
    assert words == "words" and int(count) == 50 - shown


def test_text_below_an_image_is_as_wide_as_its_cell() -> None:
    images = [np.zeros((8, 8, 3), np.uint8)] * 3
    sheet = captioned(images, ["a ball " * 50, "", "short"], "Samples", columns=2)
    assert sheet.width <= 900
    first = text_block("a ball", 100)
    assert (first.width, beside([first, first], gap=5).width) == (100, 205)
    assert stacked([first, Image.new("RGB", (300, 10))], gap=7).size == (300, first.height + 17)

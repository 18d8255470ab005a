"""Image bytes: pixels, or a UserError that names the image."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.effort import tries
from tests.fuzz.images import damaged, files
from zreward_core.config import UserError
from zreward_core.images import MAX_ASPECT, MAX_PIXELS, decode, shown_size

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow's, about the damage


def check(content: bytes) -> None:
    try:
        pixels = decode(content, "row 7")
    except UserError as error:
        assert str(error).startswith("row 7") and "<_io" not in str(error)
        return
    height, width, channels = pixels.shape
    assert pixels.dtype == np.uint8 and channels == 3
    assert 1 <= width * height <= MAX_PIXELS
    assert max(width, height) <= MAX_ASPECT * min(width, height)
    assert shown_size(content) == (width, height)


@tries(120)
@given(files())
def test_whole_files(content: bytes) -> None:
    check(content)


@tries(250)
@given(damaged)
def test_damaged_files(content: bytes) -> None:
    check(content)


@tries(100)
@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    check(content)


@tries(30)
@given(st.integers(1, 9000), st.integers(1, 9000))
def test_headers_that_claim_any_size(width: int, height: int) -> None:
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, format="BMP")
    content = bytearray(buffer.getvalue())
    content[18:26] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    check(bytes(content))

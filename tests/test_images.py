"""Image shards, and the decoder, which equals that of a browser."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, PngImagePlugin
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from zreward_core.config import UserError
from zreward_core.images import (
    ImageStore,
    decode,
    decoding,
    encode_png,
    image_id,
    shards,
    write_images,
)


def solid(value: int) -> np.ndarray:
    return np.full((4, 6, 3), value, dtype=np.uint8)


def test_shards_store_a_image_once_and_keep_the_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_ROWS", 2)
    contents = [encode_png(solid(value)) for value in (1, 2, 1, 3)]
    ids = write_images(contents, tmp_path)
    assert ids == [image_id(content) for content in contents]
    store = ImageStore(tmp_path)
    assert len(store) == 3 and len(list(tmp_path.iterdir())) == 2
    assert (store.pixels(ids[3]) == solid(3)).all()


def test_no_image_makes_an_empty_shard(tmp_path: Path) -> None:
    assert write_images([], tmp_path) == []
    assert len(ImageStore(tmp_path)) == 0


def test_transparency_is_laid_on_white() -> None:
    buffer = io.BytesIO()
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(buffer, format="PNG")
    assert (decode(buffer.getvalue()) == 255).all()


def test_unreadable_and_too_large_images(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"a\.png is not a readable image"):
        decode(b"no image", "a.png")
    with pytest.raises(UserError, match="not a readable image"):
        decode(encode_png(solid(1))[:40])
    monkeypatch.setattr(decoding, "MAX_PIXELS", 10)
    with pytest.raises(UserError, match="too large"):
        decode(encode_png(solid(1)))


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no image shards"):
        ImageStore(tmp_path)


COLORS = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3) * 3


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def png(width: int, height: int, bits: int, kind: int, rows: bytes, *chunks: bytes) -> bytes:
    """A PNG file after the specification, for bit depths that Pillow does not write."""
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    body = [chunk(b"IHDR", header), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


UPRIGHT = {  # the EXIF specification: where the first row and the first column are
    1: lambda x: x,
    2: lambda x: x[:, ::-1],
    3: lambda x: x[::-1, ::-1],
    4: lambda x: x[::-1],
    5: lambda x: x.swapaxes(0, 1),
    6: lambda x: np.rot90(x, -1),
    7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
    8: lambda x: np.rot90(x, 1),
}


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_exif_orientation(orientation: int, form: str, options: dict) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = encoded(Image.fromarray(COLORS), form, exif=exif, **options)
    shown = UPRIGHT[orientation](COLORS)
    assert (decode(content) == shown).all()
    with Image.open(io.BytesIO(content)) as opened:
        assert (decoding.shown(opened) == shown).all()
    assert decoding.shown_size(content) == (shown.shape[1], shown.shape[0])


def test_damaged_exif_and_orientation_in_xmp_are_ignored_as_in_browsers() -> None:
    image = Image.fromarray(COLORS)
    assert (decode(encoded(image, exif=b"Exif\0\0MM\0*nonsense")) == COLORS).all()
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", '<x tiff:Orientation="6"/>')
    assert (decode(encoded(image, pnginfo=text)) == COLORS).all()


def test_sixteen_bit_values_are_reduced_to_their_high_byte() -> None:
    values = np.array([[0, 255, 256, 32768, 65535]], dtype=np.uint16)
    expected = [0, 0, 1, 128, 255]
    for form in ("PNG", "TIFF"):
        assert decode(encoded(Image.fromarray(values), form))[0, :, 0].tolist() == expected
    big = b"\0" + values.astype(">u2").tobytes()
    wide = b"\0" + np.repeat(values.astype(">u2"), 3).tobytes()
    assert decode(png(5, 1, 16, 0, big))[0, :, 1].tolist() == expected
    assert decode(png(5, 1, 16, 2, wide))[0, :, 2].tolist() == expected
    # The transparent grey is compared with all 16 bits: 255 is, 0 is not.
    shown = decode(png(5, 1, 16, 0, big, chunk(b"tRNS", struct.pack(">H", 255))))
    assert shown[0, :, 0].tolist() == [0, 255, 1, 128, 255]


def test_transparent_grey_of_few_bits() -> None:
    content = png(2, 1, 4, 0, b"\0\x5f", chunk(b"tRNS", struct.pack(">H", 5)))
    assert decode(content)[0, :, 0].tolist() == [255, 255]  # grey 5 of 15 is transparent
    assert decode(png(2, 1, 4, 0, b"\0\x5f"))[0, :, 0].tolist() == [85, 255]


def test_alpha_palettes_and_cmyk() -> None:
    half = np.array([[[200, 100, 0, 128]]], dtype=np.uint8)
    expected = [round((c * 128 + 255 * 127) / 255) for c in (200, 100, 0)]
    assert decode(encoded(Image.fromarray(half)))[0, 0].tolist() == expected
    grey = Image.fromarray(np.array([[[0, 0]]], dtype=np.uint8), "LA")
    assert decode(encoded(grey))[0, 0].tolist() == [255, 255, 255]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.putpixel((1, 0), 1)
    shown = decode(encoded(palette, transparency=1))
    assert shown[0].tolist() == [[10, 20, 30], [255, 255, 255]]
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    assert decode(encoded(cyan, "JPEG", quality=100))[0, 0].tolist() == [0, 255, 255]


def test_color_profiles_are_applied() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    image = Image.new("RGB", (1, 1), (10, 20, 30))
    for ignored in (b"no profile", profile.tobytes()):  # damaged, of other channels
        assert decode(encoded(image, icc_profile=ignored))[0, 0].tolist() == [10, 20, 30]
    srgb = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    assert decode(encoded(image, icc_profile=bytes(srgb)))[0, 0].tolist() == [10, 20, 30]
    swapped = bytes(srgb).replace(b"rXYZ", b"tmp_").replace(b"gXYZ", b"rXYZ")
    swapped = swapped.replace(b"tmp_", b"gXYZ").replace(b"s\0R\0G\0B", b"x\0y\0z\0w")
    assert decode(encoded(image, icc_profile=swapped))[0, 0].tolist() == [20, 10, 30]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (encoded(Image.new("F", (2, 2)), "TIFF"), "floats, whose white is not defined"),
        (encoded(Image.new("I", (2, 2)), "TIFF"), "32-bit integers"),
        (encoded(Image.new("LAB", (2, 2)), "TIFF"), "CIELAB"),
        (
            encoded(
                Image.new("L", (2, 2)),
                "GIF",
                append_images=[Image.new("L", (2, 2), 255)],
                save_all=True,
            ),
            "has several frames",
        ),
        (png(1, 1, 16, 2, b"\0" * 7, chunk(b"tRNS", b"\0" * 6)), "a transparent colour"),
        (png(1, 1, 8, 0, b"\0\0", chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(10**8)))), "large"),
        (png(201, 1, 8, 0, b"\0" * 202), "201 x 1 is too narrow"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n", "formats PNG, JPEG"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "formats PNG, JPEG"),
    ],
)
def test_what_cannot_be_shown_faithfully_is_refused(content: bytes, reason: str) -> None:
    with pytest.raises(UserError, match=reason):
        decode(content, "x.png")


def test_the_narrowest_image_is_one_that_the_processor_accepts() -> None:
    smart_resize(200, 1, 28)
    assert decode(png(200, 1, 8, 0, b"\0" * 201)).shape == (1, 200, 3)
    with pytest.raises(ValueError, match="aspect ratio"):
        smart_resize(201, 1, 28)


@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_raise_nothing_but_user_errors() -> None:
    rng = np.random.default_rng(3)
    image = Image.fromarray(COLORS)
    seeds = [encoded(image, form) for form in decoding.FORMATS]
    refused = 0
    for number in range(700):
        content = bytearray(seeds[number % len(seeds)])
        for place in rng.integers(len(content), size=1 + number % 5):
            content[place] = rng.integers(256)
        try:
            decode(bytes(content))
        except UserError:
            refused += 1
    assert refused > 100

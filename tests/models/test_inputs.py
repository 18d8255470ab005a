"""Images in the forms in which programs hold them: one score, or a message."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zreward_core.config import UserError
from zreward_core.images import encode_png
from zreward_core.models.backbone import Backbone
from zreward_core.models.inputs import in_pairs, prepare

PIXELS = np.random.default_rng(3).integers(0, 256, (40, 50, 3), dtype=np.uint8)


def test_every_form_of_an_image_has_the_same_pixels(backbone: Backbone, tmp_path: Path) -> None:
    content = encode_png(PIXELS)
    path = tmp_path / "image.png"
    path.write_bytes(content)
    tensor = torch.from_numpy(PIXELS).permute(2, 0, 1)
    opaque = np.dstack([PIXELS, np.full((40, 50), 255, np.uint8)])
    forms: list[Any] = [
        Image.fromarray(PIXELS),
        Image.open(path),
        Image.fromarray(PIXELS).convert("RGBA"),
        opaque,
        path,
        str(path),
        content,
        bytearray(content),
        memoryview(content),
        tensor,
        tensor.float() / 255,
        (tensor.float() / 255).requires_grad_(True),
        PIXELS.astype(np.float32) / 255,
        (PIXELS.astype(np.float32) / 255).astype(">f4"),
    ]
    expected = backbone.pixels.prepare(PIXELS)
    for form in forms:
        assert torch.equal(prepare(backbone.pixels, form), expected), type(form)


def test_orientation_transparency_and_grey_are_shown_as_in_a_browser(backbone: Backbone) -> None:
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(turned, format="PNG", exif=exif)
    upright = backbone.pixels.prepare(np.rot90(PIXELS, -1))
    assert torch.equal(prepare(backbone.pixels, turned.getvalue()), upright)
    assert torch.equal(prepare(backbone.pixels, Image.open(turned)), upright)
    white = backbone.pixels.prepare(np.full_like(PIXELS, 255))
    clear = np.dstack([PIXELS, np.zeros((40, 50), np.uint8)])
    assert torch.equal(prepare(backbone.pixels, clear), white)
    grey = backbone.pixels.prepare(np.repeat(PIXELS[:, :, :1], 3, axis=2))
    for form in (PIXELS[:, :, 0], PIXELS[:, :, :1], Image.fromarray(PIXELS[:, :, 0])):
        assert torch.equal(prepare(backbone.pixels, form), grey)


WRONG: dict[str, tuple[Any, str]] = {
    "a tensor that is channels last": (torch.zeros(40, 50, 3), r"float32 tensor \[40, 50, 3\]"),
    "an array that is channels first": (np.zeros((3, 40, 50), np.uint8), r"uint8 array \[3, 40"),
    "integers": (np.zeros((40, 50, 3), np.int64), "int64 array"),
    "a tensor of integers": (torch.zeros(3, 40, 50, dtype=torch.int64), "int64 tensor"),
    "-1..1": (np.full((40, 50, 3), -1.0), "-1 to -1, but 0 to 1 are expected"),
    "0..255": (torch.full((3, 40, 50), 200.0), "200 to 200, but 0 to 1"),
    "NaN": (torch.full((3, 40, 50), torch.nan), "a value is nan"),
    "a number": (5, "of type int: pass a Pillow image"),
    "None": (None, "of type NoneType"),
    "a URL": ("https://example.org/cat.png", "row 3: image is a URL, 'https://example"),
    "a data URI": ("data:image/png;base64,iVBO", "download it and pass its bytes"),
    "no file": ("/nowhere.png", "/nowhere.png is not found"),
    "too narrow": (torch.zeros(3, 1, 400), "too narrow"),
}


@pytest.mark.parametrize("case", WRONG)
def test_other_things_are_refused(backbone: Backbone, case: str) -> None:
    image, reason = WRONG[case]
    with pytest.raises(UserError, match=reason):
        prepare(backbone.pixels, image, "row 3: image")


def test_a_damaged_file_of_pillow_is_refused(backbone: Backbone, tmp_path: Path) -> None:
    path = tmp_path / "half.png"
    path.write_bytes(encode_png(PIXELS)[:2000])
    with pytest.raises(UserError, match="row 3: image is not a readable image"):
        prepare(backbone.pixels, Image.open(path), "row 3: image")


def test_prompts_and_images_are_paired() -> None:
    assert list(in_pairs("a", iter([PIXELS, PIXELS])))[1] == ("a", PIXELS)
    assert list(in_pairs(["a"], PIXELS)) == [("a", PIXELS)]
    assert list(in_pairs("a", "image.png")) == [("a", "image.png")]
    assert len(list(in_pairs("a", np.stack([PIXELS] * 4)))) == 4
    assert len(list(in_pairs(["a"], memoryview(b"image")))) == 1
    named = {"one.png": "a", "two.png": "b"}
    assert list(in_pairs(named.values(), named.keys())) == [("a", "one.png"), ("b", "two.png")]
    for prompts, images, reason in [
        (["a", "b"], [PIXELS], "2 prompts for 1 images"),
        (iter(["a", "b"]), [PIXELS], "there are 1 images, but more prompts"),
        (["a"], iter([PIXELS] * 2), "there are 1 prompts, but more images"),
        (5, [PIXELS], "the prompts are of type int"),
        (["a"], 5, "the images are of type int"),
        (b"a", [PIXELS], "the prompts are of type bytes"),
        ({"a", "b"}, [PIXELS] * 2, "the prompts are of type set"),
        ("a", io.BytesIO(b"image"), "the images are of type BytesIO"),
    ]:
        with pytest.raises(UserError, match=reason):
            list(in_pairs(prompts, images))  # type: ignore[arg-type]

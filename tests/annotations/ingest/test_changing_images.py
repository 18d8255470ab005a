"""Image files that change or disappear while a stage runs."""

from pathlib import Path

import numpy as np
import pytest

from zreward_core.annotations.ingest.image_folder import ImageFolder, stored_bytes
from zreward_core.config import UserError
from zreward_core.images import encode_png


def test_the_stored_image_is_the_one_that_was_identified(tmp_path: Path) -> None:
    file = tmp_path / "1.png"
    file.write_bytes(encode_png(np.zeros((2, 2, 3), np.uint8)))
    images = ImageFolder(tmp_path)
    identifier, _ = images.resolve("1.png")
    assert identifier is not None
    assert stored_bytes(images.files[identifier], identifier) == file.read_bytes()

    file.write_bytes(encode_png(np.ones((2, 2, 3), np.uint8)))
    with pytest.raises(UserError, match=r"1\.png: the image has changed"):
        stored_bytes(images.files[identifier], identifier)

    file.unlink()
    with pytest.raises(UserError, match=r"1\.png: an image that was read before cannot be read"):
        stored_bytes(images.files[identifier], identifier)

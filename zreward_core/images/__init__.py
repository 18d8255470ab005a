"""Images: decoded to the pixels that a browser shows, and stored in Parquet shards."""

from zreward_core.images.decoding import (
    FORMATS,
    MAX_ASPECT,
    MAX_BYTES,
    MAX_PIXELS,
    ImageTooLarge,
    check_size,
    decode,
    encode_png,
    image_id,
    read_image,
    shown,
    shown_size,
    stored_size,
)
from zreward_core.images.shards import ImageStore, Outside, read_outside, write_images

__all__ = [
    "FORMATS",
    "MAX_ASPECT",
    "MAX_BYTES",
    "MAX_PIXELS",
    "ImageStore",
    "ImageTooLarge",
    "Outside",
    "check_size",
    "decode",
    "encode_png",
    "image_id",
    "read_image",
    "read_outside",
    "shown",
    "shown_size",
    "stored_size",
    "write_images",
]

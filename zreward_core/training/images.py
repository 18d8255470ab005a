"""Images resized for a model: prepared when a step takes them, or ahead of it by threads."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, overload

import torch

from zreward_core.images import ImageStore
from zreward_core.models.pixels import PixelPath

KEPT_BYTES = 2**29
"""Size of the prepared images that stay in memory; small sets fit and are prepared once."""
AHEAD_BYTES = 2**28
"""Size of the images that are prepared before they are taken."""
NUM_THREADS = 2


class PreparedImages:
    """The images of a store as a model takes them ([3, h, w] in [0, 1]), by image id."""

    def __init__(self, pixels: PixelPath, store: ImageStore) -> None:
        self._pixels = pixels
        self._store = store
        self._kept: OrderedDict[str, torch.Tensor] = OrderedDict()
        self._kept_bytes = 0
        self._ahead: OrderedDict[str, Future[torch.Tensor]] = OrderedDict()
        self._threads = ThreadPoolExecutor(NUM_THREADS, "images")
        largest = 3 * 4 * int(pixels.processor.size["longest_edge"])
        self._num_ahead = max(1, AHEAD_BYTES // largest)

    def __getitem__(self, identifier: str) -> torch.Tensor:
        if identifier in self._kept:
            self._kept.move_to_end(identifier)
            return self._kept[identifier]
        future = self._ahead.pop(identifier, None)
        image = self._prepare(identifier) if future is None else future.result()
        self._kept[identifier] = image
        self._kept_bytes += image.nbytes
        while self._kept_bytes > KEPT_BYTES and len(self._kept) > 1:
            self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return image

    def several(self, identifiers: Iterable[str]) -> "LazyImages":
        """Some of the images as a sequence."""
        return LazyImages(self, list(identifiers))

    def prefetch(self, identifiers: Iterable[str]) -> None:
        """Start preparing images that will be taken next; those past the limit are ignored."""
        wanted = [one for one in dict.fromkeys(identifiers) if one not in self._kept]
        for identifier in wanted[: self._num_ahead]:
            if identifier in self._ahead:
                self._ahead.move_to_end(identifier)
                continue
            self._ahead[identifier] = self._threads.submit(self._prepare, identifier)
            if len(self._ahead) > self._num_ahead:  # started earlier, and never taken
                self._ahead.popitem(last=False)[1].cancel()

    def _prepare(self, identifier: str) -> torch.Tensor:
        return self._pixels.prepare(self._store.pixels(identifier))


class LazyImages(Sequence[torch.Tensor]):
    """A sequence of images that are prepared when they are taken."""

    def __init__(self, images: PreparedImages, identifiers: list[str]) -> None:
        self._images = images
        self._identifiers = identifiers

    def __len__(self) -> int:
        return len(self._identifiers)

    @overload
    def __getitem__(self, index: int) -> torch.Tensor: ...
    @overload
    def __getitem__(self, index: slice) -> list[torch.Tensor]: ...
    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self._images[one] for one in self._identifiers[index]]
        return self._images[self._identifiers[index]]

    def prefetch(self, indices: Iterable[int]) -> None:
        """Start preparing the images of some indices."""
        self._images.prefetch(self._identifiers[i] for i in indices)

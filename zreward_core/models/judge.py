"""Scoring of images: the interface that student and teacher share.

Shapes: B images, D dimensions, S levels.
"""

import math
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch

from zreward_core.arguments import whole_number
from zreward_core.config import UserError
from zreward_core.models.backbone import Backbone
from zreward_core.models.card import Role, require_role
from zreward_core.models.hub import upload
from zreward_core.models.inputs import ImageLike, in_pairs, prepare
from zreward_core.models.model_card import describe_model
from zreward_core.models.opening import find_device, find_dtype
from zreward_core.models.score_decoder import require_finite_scores
from zreward_core.models.scores import Scores, join_scores
from zreward_core.models.torch_state import on_cpu_by_default, without_autocast

WINDOW_PIXELS = 32 * 1024**2
"""Resized pixels in memory at a time (403 MB): 32 images of 1024 x 1024."""
Row = tuple[str, torch.Tensor] | UserError
"""Prompt and resized image, or why they cannot be scored."""


class Judge(ABC):
    """A model that scores images for their prompts."""

    role: ClassVar[Role]

    def __init__(self, backbone: Backbone, batch_size: int) -> None:
        self.backbone = backbone
        self.batch_size = whole_number("batch_size", batch_size)
        self.dimensions = backbone.rubric.names
        for parameter in backbone.network.parameters():
            parameter.requires_grad_(False)
        backbone.network.eval()

    @classmethod
    def require_role(cls, folder: Path) -> None:
        """Check that a folder's model was not trained for the other role.

        Raises:
            UserError: it was, or the folder is not a model of this project.
        """
        require_role(folder, cls.role)

    def to(
        self, device: str | torch.device = "auto", dtype: str | torch.dtype | None = None
    ) -> Self:
        """Move the weights to a device and, if a dtype is given, convert them; returns self.

        Raises:
            UserError: there is no such device or dtype here.
        """
        name = None if dtype is None else find_dtype(dtype)
        if name == "auto":
            raise UserError("dtype 'auto' is for from_pretrained: name a dtype")
        kind = None if name is None else getattr(torch, name)
        self.backbone.network.to(find_device(device), kind)
        return self

    def score(
        self,
        prompts: str | Iterable[str],
        images: ImageLike | Iterable[ImageLike],
        dimensions: Sequence[str] | None = None,
    ) -> Scores:
        """Score images for their prompts.

        Args:
            prompts: B prompts, or one prompt for all images.
            images: B images, or one image; see ``ImageLike``. Of those of an iterator, a batch is
                in memory at a time.
            dimensions: names of the dimensions to return; all if None.

        Raises:
            UserError: the numbers of prompts and images differ, a prompt is empty, too long or not
                Unicode text, an image cannot be scored, or a dimension is unknown; names the row.
            NotFinite: a score is not finite.
        """
        empty = self._scores([], self._chosen(dimensions))
        return join_scores([empty, *self.score_stream(prompts, images, dimensions)])

    def score_stream(
        self,
        prompts: str | Iterable[str],
        images: ImageLike | Iterable[ImageLike],
        dimensions: Sequence[str] | None = None,
        window: int | None = None,
        keep_errors: bool = False,
    ) -> Iterator[Scores]:
        """Scores of consecutive images, a window at a time, while prompts and images are read.

        Args:
            prompts, images, dimensions: as for ``score``.
            window: images in memory at a time; if None, ``batch_size``, or fewer that have
                ``WINDOW_PIXELS`` together. Rows of a window that have the same length are scored
                together, so a larger one is faster where prompts differ in length.
            keep_errors: go on where a prompt or an image cannot be scored: its numbers are NaN, and
                ``Scores.errors`` has the reason.

        Raises:
            UserError, NotFinite: as for ``score``.
        """
        if window is not None:
            window = whole_number("window", window)
        chosen, pairs = self._chosen(dimensions), in_pairs(prompts, images)
        limits = (self.batch_size, WINDOW_PIXELS) if window is None else (window, math.inf)

        def windows() -> Iterator[Scores]:
            start = 0
            while part := _taken(self._rows(pairs, start, keep_errors), *limits):
                start += len(part)
                yield self._scores(part, chosen)
                del part  # before the next window is prepared

        return windows()

    def push_to_hub(
        self,
        hub_id: str,
        *,
        metrics: Mapping[str, Any] | None = None,
        license_id: str | None = None,
        private: bool | None = None,
        revision: str | None = None,
    ) -> str:
        """Publish the model's files with a model card; the repository is created if need be.

        The files are those that the model was loaded from, whatever ``to`` has changed since.

        Args:
            hub_id: NAMESPACE/NAME.
            metrics: content of `evaluate`'s metrics.json for this model, for the card's figures.
            license_id: the hub's name of the model's license, such as apache-2.0.
            private: of a new repository; None for the default of the account.
            revision: branch, which must exist; None for main.

        Returns:
            The commit, which ``from_pretrained(hub_id, revision=...)`` opens.

        Raises:
            UserError: the files are no longer there, or the model is only a reference to another
                checkpoint, or the hub cannot be reached or refuses the upload.
        """
        with tempfile.TemporaryDirectory() as scratch:
            folder = self.backbone.folder
            if folder is None:
                folder = Path(scratch) / "model"
                self.backbone.save(folder, {})
            text = describe_model(folder, hub_id, self.role, metrics, license_id)
            return upload(folder, hub_id, text, private=private, revision=revision)

    def _chosen(self, dimensions: Sequence[str] | None) -> list[int]:
        """Indices of the dimensions to return."""
        if dimensions is None:
            return list(range(len(self.dimensions)))
        names = [dimensions] if isinstance(dimensions, str) else dimensions
        if not isinstance(names, Iterable) or not (names := list(names)):
            raise UserError(f"dimensions is {dimensions!r}: pass names from {self.dimensions}")
        unknown = [name for name in names if name not in self.dimensions]
        if unknown:
            raise UserError(f"unknown dimensions {unknown}: choose from {self.dimensions}")
        return [self.dimensions.index(name) for name in names]

    def _rows(
        self, pairs: Iterator[tuple[str, ImageLike]], start: int, keep_errors: bool
    ) -> Iterator[Row]:
        """Prompts and prepared images, or the error of a row."""
        for row, (prompt, image) in enumerate(pairs, start):
            try:
                self.backbone.chat.prompt_of_row(row, prompt)
                pixels = prepare(self.backbone.pixels, image, f"row {row}: image")
                yield prompt, pixels.to(self.backbone.device)
            except UserError as error:
                if not keep_errors:
                    raise
                yield error

    @torch.no_grad()
    @without_autocast()
    @on_cpu_by_default()
    def _scores(self, rows: Sequence[Row], chosen: list[int]) -> Scores:
        shape = len(rows), len(chosen)
        mass = torch.full(shape, torch.nan, dtype=torch.float32)
        probs = mass.new_full((*shape, len(self.backbone.levels)), torch.nan)
        good = {b: row for b, row in enumerate(rows) if not isinstance(row, UserError)}
        if good:
            prompts, images = (list(one) for one in zip(*good.values(), strict=True))
            found = self._distributions(prompts, images, chosen)
            names = [f"the image for {prompt[:80]!r}" for prompt in prompts]
            require_finite_scores(self.backbone.source, names, *found)
            probs[list(good)], mass[list(good)] = found
        scores = self._wrapped(probs, mass, chosen)
        scores.errors |= {b: str(row) for b, row in enumerate(rows) if isinstance(row, UserError)}
        return scores

    def _wrapped(self, probs: torch.Tensor, mass: torch.Tensor, chosen: list[int]) -> Scores:
        """Distributions [B, D, S] and mass [B, D] of the chosen dimensions."""
        rubric = self.backbone.rubric
        weights = torch.tensor([rubric.dimensions[d].weight for d in chosen], dtype=torch.float32)
        names = [self.dimensions[d] for d in chosen]
        return Scores(names, probs, mass, self.backbone.levels, weights)

    @abstractmethod
    def _distributions(
        self, prompts: list[str], images: list[torch.Tensor], chosen: list[int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Distributions [B, D, S] and mass [B, D], on the CPU, of at least one resized image.

        Args:
            chosen: indices of the D dimensions.
        """


def _taken(rows: Iterator[Row], number: int, num_pixels: float) -> list[Row]:
    """The next ``number`` rows, or fewer if their images reach ``num_pixels`` together."""
    taken: list[Row] = []
    for row in rows:
        taken.append(row)
        if not isinstance(row, UserError):
            num_pixels -= row[1][0].numel()
        if len(taken) == number or num_pixels <= 0:
            break
    return taken

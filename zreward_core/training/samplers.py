"""Training data as tensors: annotated pairs, and images with score distributions.

Shapes: P pairs, 2 sides (winner, loser), N images, D dimensions, S levels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from zreward_core.config import UserError
from zreward_core.images import ImageStore
from zreward_core.models.backbone import Backbone
from zreward_core.models.prompt_limit import without_long_prompts
from zreward_core.runtime.distributed import own_part
from zreward_core.schemas import pairs_between
from zreward_core.training.images import LazyImages, PreparedImages


@dataclass
class PairBatch:
    """P same-prompt pairs; lists of 2P entries are ordered winner, loser, winner, loser."""

    prompts: list[str]
    """2P prompts."""
    images: Sequence[torch.Tensor]
    """2P resized images."""
    dimensions: list[int]
    """2P indices of dimensions."""
    scores_P2: torch.Tensor
    """Annotated scores; NaN in a pair by votes."""
    target_P2S: torch.Tensor
    """Histograms of the annotated scores; zero in a pair by votes."""
    ties_P: torch.Tensor
    """Pairs tied by their votes; False for a pair with scores."""

    @property
    def inputs(self) -> tuple[list[str], Sequence[torch.Tensor], list[int]]:
        """Prompts, images and dimensions."""
        return self.prompts, self.images, self.dimensions

    @property
    def scored_P(self) -> torch.Tensor:
        """Pairs with scores; the others are by votes."""
        return ~self.scores_P2.isnan().any(dim=1)


class PairSampler:
    """Draws pairs (``schemas.VOTED_PAIRS``) with replacement, each dimension equally often."""

    def __init__(
        self, backbone: Backbone, items: pd.DataFrame, pairs: pd.DataFrame, store: ImageStore
    ) -> None:
        paired = items[items["item_id"].isin({*pairs["winner"], *pairs["loser"]})]
        paired = without_long_prompts(backbone.chat, paired, "training pairs")
        pairs = pairs_between(pairs, paired["item_id"])
        if pairs.empty:
            raise UserError("training pairs: each has a prompt that is too long: shorten them")
        self.items = items.set_index(["item_id", "dimension"])
        names = backbone.rubric.names
        groups = {name: group for name, group in pairs.groupby("dimension") if len(group)}
        self.groups = [(names.index(name), groups[name]) for name in names if name in groups]
        self.no_target = torch.zeros(len(backbone.levels))
        self.images = PreparedImages(backbone.pixels, store)

    def draw(self, num_pairs: int, rng: np.random.Generator) -> PairBatch:
        """Draw a batch; the dimensions take turns, from a random one on."""
        prompts, images, dimensions, scores, targets, ties = [], [], [], [], [], []
        first = rng.integers(len(self.groups))
        for index in range(num_pairs):
            dimension, group = self.groups[(first + index) % len(self.groups)]
            pair = group.iloc[int(rng.integers(len(group)))]
            for item in (pair["winner"], pair["loser"]):
                row = self.items.loc[(item, pair["dimension"])]
                prompts.append(row["prompt"])
                images.append(row["image_id"])
                dimensions.append(dimension)
                scored = pd.notna(pair["score_w"])
                target = torch.tensor(np.asarray(row["histogram"])) if scored else self.no_target
                targets.append(target.float())
            scores.append([pair["score_w"], pair["score_l"]])
            ties.append(pair["vote_share"] == 0.5)
        target = torch.stack(targets).unflatten(0, (num_pairs, 2))
        scores_P2, ties_P = torch.tensor(scores).float(), torch.tensor(ties)
        lazy = self.images.several(images)
        return PairBatch(prompts, lazy, dimensions, scores_P2, target, ties_P)

    def prefetch(self, num_pairs: int, rng: np.random.Generator) -> None:
        """Start preparing this process's images of the batch that ``draw`` would return."""
        images = self.draw(num_pairs, rng).images
        assert isinstance(images, LazyImages)
        images.prefetch(own_part(len(images)))


@dataclass
class Labelled:
    """N images with distributions over levels in some dimensions."""

    prompts: list[str]
    """N prompts."""
    images: Sequence[torch.Tensor]
    """N resized images."""
    probs_NDS: torch.Tensor
    """Target distributions: the teacher's, or histograms of annotated scores."""
    mask_ND: torch.Tensor
    """Which dimensions have a target."""

    def prefetch(self, indices: list[int]) -> None:
        """Start preparing the images of some items."""
        if isinstance(self.images, LazyImages):
            self.images.prefetch(indices)


def load_labelled(
    backbone: Backbone, rows: pd.DataFrame, column: str, store: ImageStore
) -> Labelled:
    """Images and their distributions, dimensions in the order of the rubric.

    Args:
        rows: a row per item and dimension, with item_id, prompt, image_id and dimension.
        column: name of the column with the distributions.
    """
    rows = without_long_prompts(backbone.chat, rows, "training items")
    names = backbone.rubric.names
    first = rows.drop_duplicates("item_id").set_index("item_id")
    position = {item: n for n, item in enumerate(first.index)}
    probs = torch.zeros(len(first), len(names), len(backbone.levels))
    mask = torch.zeros(len(first), len(names), dtype=torch.bool)
    at = torch.tensor([position[item] for item in rows["item_id"]])
    columns = torch.tensor([names.index(name) for name in rows["dimension"]])
    probs[at, columns] = torch.tensor(np.stack(rows[column].tolist())).float()
    mask[at, columns] = True
    images = PreparedImages(backbone.pixels, store).several(first["image_id"])
    return Labelled(list(first["prompt"]), images, probs, mask)

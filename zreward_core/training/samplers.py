"""Training data as tensors: annotated pairs, and images with score distributions.

Shapes: P pairs, 2 sides (winner, loser), N images, D dimensions, S levels.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from zreward_core.config import UserError
from zreward_core.images import ImageStore
from zreward_core.models.backbone import Backbone
from zreward_core.models.prompt_limit import without_long_prompts
from zreward_core.schemas import pairs_between


@dataclass
class PairBatch:
    """P same-prompt pairs; lists of 2P entries are ordered winner, loser, winner, loser."""

    prompts: list[str]
    """2P prompts."""
    images: list[torch.Tensor]
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
    def inputs(self) -> tuple[list[str], list[torch.Tensor], list[int]]:
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
        used = items.loc[items["item_id"].isin({*pairs["winner"], *pairs["loser"]}), "image_id"]
        self.no_target = torch.zeros(len(backbone.levels))
        self.images = {i: backbone.pixels.prepare(store.pixels(i)) for i in used.unique()}

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
                images.append(self.images[row["image_id"]])
                dimensions.append(dimension)
                scored = pd.notna(pair["score_w"])
                target = torch.tensor(np.asarray(row["histogram"])) if scored else self.no_target
                targets.append(target.float())
            scores.append([pair["score_w"], pair["score_l"]])
            ties.append(pair["vote_share"] == 0.5)
        target = torch.stack(targets).unflatten(0, (num_pairs, 2))
        scores_P2, ties_P = torch.tensor(scores).float(), torch.tensor(ties)
        return PairBatch(prompts, images, dimensions, scores_P2, target, ties_P)


@dataclass
class Labelled:
    """N images with distributions over levels in some dimensions."""

    prompts: list[str]
    """N prompts."""
    images: list[torch.Tensor]
    """N resized images."""
    probs_NDS: torch.Tensor
    """Target distributions: the teacher's, or histograms of annotated scores."""
    mask_ND: torch.Tensor
    """Which dimensions have a target."""


def load_labelled(
    backbone: Backbone, rows: pd.DataFrame, column: str, store: ImageStore
) -> Labelled:
    """Prepare images and their distributions, dimensions in the order of the rubric.

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
    images = [backbone.pixels.prepare(store.pixels(i)) for i in first["image_id"]]
    return Labelled(list(first["prompt"]), images, probs, mask)

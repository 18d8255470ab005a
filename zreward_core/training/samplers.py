"""Training data as tensors: annotated pairs, and images with score distributions.

Shapes: P pairs, 2 sides (winner, loser), N images, D dimensions, S levels.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from zreward_core.images import ImageStore
from zreward_core.models.backbone import Backbone


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
    """Annotated scores."""
    target_P2S: torch.Tensor
    """Histograms of the annotated scores."""

    @property
    def inputs(self) -> tuple[list[str], list[torch.Tensor], list[int]]:
        """Prompts, images and dimensions."""
        return self.prompts, self.images, self.dimensions


class PairSampler:
    """Draws pairs with replacement; every dimension is drawn equally often."""

    def __init__(
        self, backbone: Backbone, items: pd.DataFrame, pairs: pd.DataFrame, store: ImageStore
    ) -> None:
        self.items = items.set_index(["item_id", "dimension"])
        names = backbone.rubric.names
        groups = {name: group for name, group in pairs.groupby("dimension") if len(group)}
        self.groups = [(names.index(name), groups[name]) for name in names if name in groups]
        used = items.loc[items["item_id"].isin({*pairs["winner"], *pairs["loser"]}), "image_id"]
        self.images = {i: backbone.pixels.prepare(store.pixels(i)) for i in used.unique()}

    def draw(self, num_pairs: int, rng: np.random.Generator) -> PairBatch:
        """Draw a batch; the dimensions take turns, from a random one on."""
        prompts, images, dimensions, scores, targets = [], [], [], [], []
        first = rng.integers(len(self.groups))
        for index in range(num_pairs):
            dimension, group = self.groups[(first + index) % len(self.groups)]
            pair = group.iloc[int(rng.integers(len(group)))]
            for item in (pair["winner"], pair["loser"]):
                row = self.items.loc[(item, pair["dimension"])]
                prompts.append(row["prompt"])
                images.append(self.images[row["image_id"]])
                dimensions.append(dimension)
                targets.append(torch.tensor(np.asarray(row["histogram"])))
            scores.append([pair["score_w"], pair["score_l"]])
        target = torch.stack(targets).float().unflatten(0, (num_pairs, 2))
        return PairBatch(prompts, images, dimensions, torch.tensor(scores).float(), target)


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

"""Ratings as integer codes, so that statistics work on arrays."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

ANONYMOUS = -1


@dataclass(frozen=True)
class EncodedRatings:
    """N ratings of I items, D dimensions and P people; all arrays are [N]."""

    items_N: np.ndarray
    dimensions_N: np.ndarray
    """-1 for unknown dimensions."""
    annotators_N: np.ndarray
    """-1 for anonymous votes."""
    scores_N: np.ndarray
    items: pd.Index
    dimensions: list[str]
    annotators: pd.Index
    """Sorted."""

    @property
    def units_N(self) -> np.ndarray:
        """[N] code of item and dimension together."""
        return self.items_N.astype(np.int64) * len(self.dimensions) + self.dimensions_N

    def select(self, mask_N: np.ndarray) -> "EncodedRatings":
        """Some of the ratings, with the same codes."""
        if mask_N.dtype == bool and mask_N.all():
            return self
        return replace(
            self,
            items_N=self.items_N[mask_N],
            dimensions_N=self.dimensions_N[mask_N],
            annotators_N=self.annotators_N[mask_N],
            scores_N=self.scores_N[mask_N],
        )


def encode(
    ratings: pd.DataFrame | EncodedRatings, dimensions: list[str] | None = None
) -> EncodedRatings:
    """Encode the items, dimensions and annotators of ratings.

    Args:
        ratings: item_id, dimension, annotator_id (null: anonymous), score; returned unchanged if
            encoded already.
        dimensions: names in the order of their codes; by default those of the ratings, sorted.
    """
    if isinstance(ratings, EncodedRatings):
        return ratings
    found, names = pd.factorize(ratings["dimension"])
    wanted = sorted(names) if dimensions is None else dimensions
    places = {name: place for place, name in enumerate(wanted)}
    renumbered = np.array([*(places.get(name, -1) for name in names), -1], dtype=np.int16)
    items_N, items = pd.factorize(ratings["item_id"])
    annotators_N, annotators = pd.factorize(ratings["annotator_id"], sort=True)
    return EncodedRatings(
        items_N=items_N.astype(np.int32),
        dimensions_N=renumbered[found],
        annotators_N=annotators_N.astype(np.int32),
        scores_N=ratings["score"].to_numpy(dtype=float),
        items=pd.Index(items),
        dimensions=list(wanted),
        annotators=pd.Index(annotators),
    )

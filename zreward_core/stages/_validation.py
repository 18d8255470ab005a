"""Metrics on items of the validation split while a model is trained. Not a stage."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
import pandas as pd
import torch
from pydantic import model_validator

from zreward_core.config import Count, CountOrZero, Settings, UserError
from zreward_core.evaluation.preference import hpa, nll, plcc
from zreward_core.images import ImageStore
from zreward_core.models.backbone import Backbone
from zreward_core.models.prompt_limit import without_long_prompts
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.distributed import precision
from zreward_core.runtime.sharding import full_tensors, gathered, shard_like
from zreward_core.schemas import ITEMS, read_pairs, read_table, with_scores
from zreward_core.stages._judging import Judging, score_items, score_items_reasoning
from zreward_core.training.rollouts import renew_engine
from zreward_core.training.updates import Step

ITEMS_FILE, PAIRS_FILE = Path("data/validate/items.parquet"), Path("data/validate/pairs.parquet")
IMAGES = Path("data/candidates/images"), Path("data/ingest/images")


class Validated(Settings):
    """Settings of validation during training."""

    validate_every: CountOrZero = 0
    """Steps between two measurements of HPA, PLCC and NLL on the validation split; 0 for none."""
    validation_items: Count = 256
    """Items of the split that are measured: the first, in the order of their prompts."""
    validation_batch_size: Count = 16
    """Images that are scored together; those of a reasoning model are sampled in all dimensions."""
    keep: Literal["last", "best"] = "last"
    """Exported weights: those of the last step, or those with the lowest validation NLL."""

    if TYPE_CHECKING:
        steps: int
        """Of the stage, which declares it."""

    @model_validator(mode="after")
    def _is_measured(self) -> Self:
        """Without a measurement, the best weights would be the last ones."""
        if self.keep == "best" and self.steps and not 0 < self.validate_every <= self.steps:
            raise ValueError(
                f"keep is best, so validate_every must be from 1 to {self.steps}, the number of"
                f" steps, not {self.validate_every}; or set keep to last"
            )
        return self


class Validation:
    """Measures a model on held-out items; remembers its best weights in the checkpoint."""

    def __init__(
        self,
        backbone: Backbone,
        stage: str,
        config: Validated,
        seed: int,
        checkpoint: Checkpoint,
        reasoning: bool,
    ) -> None:
        """Read the held-out items.

        Args:
            backbone: the model in training.
            stage: name of the stage, for messages.
            seed: of the traces.
            checkpoint: that of the stage.
            reasoning: whether the model reasons before it scores; one trace is sampled then.

        Raises:
            UserError: validation is on, and the split has no item with an image and scores.
        """
        self.backbone, self.config, self.checkpoint = backbone, config, checkpoint
        self.judging = Judging(seed=seed, num_traces=1, batch_size=config.validation_batch_size)
        self.score = score_items_reasoning if reasoning else score_items
        best = checkpoint.load("best") if config.keep == "best" else None
        self.lowest = best["nll"] if best else float("inf")
        if not config.validate_every:
            return
        items = read_table(ITEMS_FILE, ITEMS)
        items = items[(items["split"] == "validation") & items["image_id"].notna()]
        items = with_scores(items, ITEMS_FILE).sort_values("prompt_id", kind="stable")
        if items.empty:
            raise UserError(
                f"{ITEMS_FILE} has no validation item with an image and scores: set"
                f" '{stage}.validate_every' to 0 in params.yaml, or annotate more"
            )
        items = without_long_prompts(backbone.chat, items, ITEMS_FILE)
        chosen = items["item_id"].unique()[: config.validation_items]
        self.items = items[items["item_id"].isin(chosen)]
        pairs = with_scores(read_pairs(PAIRS_FILE), PAIRS_FILE)
        self.pairs = pairs[pairs["winner"].isin(chosen) & pairs["loser"].isin(chosen)]
        self.images = ImageStore(*IMAGES)

    def after(self, step: Step) -> None:
        """Measure after some of the steps, and add the metrics to those of the step.

        Every process must call it.
        """
        every = self.config.validate_every
        if not every or (step.index + 1) % every:
            return
        step.metrics |= {f"validation/{name}": value for name, value in self.measure().items()}
        if self.config.keep == "last":
            return
        nll = step.metrics["validation/nll"]
        if nll < self.lowest:
            self.lowest, weights = nll, full_tensors(self.backbone.snapshot())
            self.checkpoint.save("best", {"step": step.index, "nll": nll, "weights": weights})

    def finish(self) -> None:
        """Restore the best weights if those are to be exported; every process must call it."""
        if self.config.keep == "last":
            return
        best = self.checkpoint.load("best")
        assert best is not None, "Validated refuses settings without a measurement"
        for parameter, value in zip(self.backbone.trainable(), best["weights"], strict=True):
            parameter.data.copy_(shard_like(value, parameter))

    def measure(self) -> dict[str, float]:
        """HPA (equation 17), PLCC and NLL over all dimensions; undefined ones are left out."""
        network = self.backbone.network
        renew_engine(self.backbone)
        network.eval()
        with torch.no_grad(), gathered(network), precision():
            found = self.score(self.judging, self.backbone, self.items, self.images)
        network.train()
        metrics = measured(found, self.items, self.pairs)
        return {name: value for name, value in metrics.items() if not np.isnan(value)}


def measured(found: pd.DataFrame, items: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, float]:
    """Metrics of predictions on all dimensions together.

    Args:
        found: item_id, dimension, probs and mean.
        items: rows of ``schemas.ITEMS`` with scores.
        pairs: rows of ``schemas.PAIRS`` between these items.
    """
    key = ["item_id", "dimension"]
    both = items.merge(found, on=key).set_index(key)
    winners, losers = (
        both["mean"].reindex(pd.MultiIndex.from_frame(pairs[[side, "dimension"]])).to_numpy()
        for side in ("winner", "loser")
    )
    probs, histograms = (np.stack(both[name].tolist()) for name in ("probs", "histogram"))
    return {
        "hpa": hpa(winners, losers, pairs["score_w"].to_numpy(), pairs["score_l"].to_numpy()),
        "plcc": plcc(both["mean"].to_numpy(), both["score"].to_numpy()),
        "nll": nll(probs, histograms),
    }

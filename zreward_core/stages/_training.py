"""Shared by the training stages: settings of the loops, inputs, and output. Not a stage.

A module of this package whose name starts with an underscore does not become a command.
"""

from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd
from pydantic import model_validator

from zreward_core.config import (
    Count,
    CountOrZero,
    Positive,
    Rate,
    StageConfig,
    Temperature,
    UserError,
    Weight,
)
from zreward_core.models.backbone import Backbone, TrainedWeights
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import write_history
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import ITEMS, read_pairs, read_table, tree_hash, with_scores
from zreward_core.training.updates import History

BASES = Path("data/base_vlm")
ITEMS_FILE, PAIRS_FILE = Path("data/validate/items.parquet"), Path("data/validate/pairs.parquet")
IMAGES = Path("data/candidates/images"), Path("data/ingest/images")
"""Image folders of annotated items."""


class SupervisedConfig(StageConfig, TrainedWeights):
    """Settings of a stage that trains with the supervised loop."""

    steps: CountOrZero = 1000
    """Optimizer steps; 0 leaves the base unchanged."""
    batch_size: Count = 64
    """Items per step."""
    micro_batch_size: Count = 64
    """Items per forward pass; gradients accumulate to those of the whole batch."""
    learning_rate: Rate = 1e-3
    """Peak learning rate of a one-cycle schedule."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """Muon converges in fewer steps on tiny models; it needs whole weight matrices."""
    weight_decay: Weight = 0.01
    """Weight decay of AdamW; Muon has none."""
    max_grad_norm: Positive = 1.0
    """Gradients are clipped to this norm."""
    checkpoint_every: Count = 200
    """Steps between checkpoints."""

    @model_validator(mode="after")
    def _whole_matrices(self) -> Self:
        if self.optimizer == "muon" and self.lora is not None:
            raise ValueError("optimizer muon needs whole weight matrices: use adamw with lora")
        return self

    @property
    def loop(self) -> dict[str, Any]:
        """Keyword arguments of ``supervised_steps``."""
        return loop_arguments(self, SupervisedConfig)


class OnPolicyConfig(StageConfig, TrainedWeights):
    """Settings of a stage that trains with the on-policy loop."""

    steps: CountOrZero = 200
    """Sampled batches in all (N x M of algorithm 1); 0 leaves the base unchanged."""
    iterations: Count = 1
    """Outer iterations N; at the start of each, the reference policy becomes the policy."""
    learning_rate: Rate = 1e-4
    """AdamW learning rate, constant after warm-up."""
    warmup_steps: CountOrZero = 5
    """Steps of linear warm-up."""
    max_grad_norm: Positive = 1.0
    """Gradients are clipped to this norm."""
    checkpoint_every: Count = 25
    """Steps between checkpoints."""
    updates_per_batch: Count = 1
    """K_gdso; beyond 1 the later updates are off-policy and are not corrected."""
    temperature: Temperature = 1.0
    """Sampling temperature of the traces; log-probabilities are taken at the same temperature."""
    rollout_batch_size: Count | None = None
    """Inputs (an image and a dimension) whose outputs a process samples together; by default all
    of its part of a batch. It changes memory and time, not the outputs."""

    @property
    def loop(self) -> dict[str, Any]:
        """Keyword arguments of ``on_policy_steps``."""
        other = "updates_per_batch", "temperature", "rollout_batch_size"
        return loop_arguments(self, OnPolicyConfig, *other)


class PairPolicyConfig(OnPolicyConfig):
    """Settings of policy optimization on annotated pairs."""

    base: Literal["teacher", "student"] = "teacher"
    """Which base is trained."""
    pairs_per_step: Count = 8
    """Same-prompt pairs per batch."""
    group_size: Count = 6
    """G, rollouts of each side of a pair."""
    micro_batch_pairs: Count = 8
    """Pairs per forward pass; gradients accumulate to those of the whole batch."""
    beta: Weight = 0.01
    """Weight of the KL divergence to the reference policy (equation 4)."""
    reward_from: Literal["distribution", "text"] = "distribution"
    """Whether rewards use the mean of the score distribution or the sampled score token."""
    count_score_token: bool = False
    """Include the sampled score token in equation 4; rewards from the text always include it."""
    thorough: dict[str, Count] = {}
    """Dimension to the number of tokens from which its traces count as thorough inspections; the
    history then records the share of thorough traces."""

    @property
    def from_text(self) -> bool:
        """Whether rewards use the sampled score token."""
        return self.reward_from == "text"


def loop_arguments(config: StageConfig, base: type[StageConfig], *other: str) -> dict[str, Any]:
    """Fields of a base config without those of ``TrainedWeights`` and the named ones."""
    names = set(base.model_fields) - set(TrainedWeights.model_fields) - set(other)
    return {name: getattr(config, name) for name in names}


def training_items(by_votes: bool = False) -> pd.DataFrame:
    """Items of the train split that have an image and, unless ``by_votes``, scores.

    Raises:
        UserError: there is none, or the file is missing.
    """
    items = read_table(ITEMS_FILE, ITEMS)
    items = items[(items["split"] == "train") & items["image_id"].notna()]
    items = items if by_votes else with_scores(items, ITEMS_FILE)
    if items.empty:
        raise UserError(
            f"{ITEMS_FILE} has no training item with an image and a score: annotate more"
        )
    return items


def training_pairs(by_votes: bool = False) -> pd.DataFrame:
    """Pairs of the train split (``schemas.VOTED_PAIRS``), with scores unless ``by_votes``.

    Raises:
        UserError: there is none, or the file is missing.
    """
    pairs = read_pairs(PAIRS_FILE)
    pairs = pairs[pairs["split"] == "train"]
    used = pairs if by_votes else with_scores(pairs, PAIRS_FILE)
    if pairs.empty:
        raise UserError(f"{PAIRS_FILE} has no training pair: annotate several images per prompt")
    if used.empty:
        raise UserError(
            f"{PAIRS_FILE}: none of the {len(pairs)} training pairs has scores, all are by votes: "
            "rate the images, or train on votes by `train_gdso` with `train_gdso.votes: margin`"
        )
    return used


def save_trained(
    path: Path,
    config: StageConfig,
    backbone: Backbone,
    history: History,
    checkpoint: Checkpoint,
    sources: dict[str, Path],
    **tables: pd.DataFrame,
) -> None:
    """Write the output of a training stage and delete its checkpoint; every process must call it.

    Args:
        path: folder of the model, in a folder named like the stage, which is the whole output.
        sources: inputs by name; the model's card records their content hashes.
        tables: further tables by name; each becomes a Parquet file.
    """
    if is_main():
        with whole_output(path.parent, config) as folder:
            lineage = {name: tree_hash(source) for name, source in sources.items()}
            backbone.save(folder / path.name, {"stage": path.parent.name} | lineage)
            for name, table in tables.items():
                table.to_parquet(folder / f"{name}.parquet", index=False)
            write_history(history, folder / "history.jsonl")
    checkpoint.clear()

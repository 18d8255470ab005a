"""The promotion gate: candidate against champion on the same test pairs (non-inferiority).

Shapes: P pairs, N prompts, R resamples.
"""

import os
from collections.abc import Sequence
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from zreward_core.config import Count, DtypeName, Settings, StageConfig, UserError, Weight
from zreward_core.images import ImageStore
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import (
    ITEMS,
    PAIRS,
    NotFinite,
    digest,
    pairs_between,
    read_table,
    replaced,
    tree_hash,
    with_scores,
)

SCORES = Path(".zreward/gate")
SHARD_IMAGES = 256
SIGNALS = 128
"""Exit codes above it are of processes that a signal ended."""
SCORE_ROWS = pa.schema(
    [("item_id", pa.string()), ("dimension", pa.string()), ("value", pa.float64())]
)
ITEMS_FILE, PAIRS_FILE = Path("data/validate/items.parquet"), Path("data/validate/pairs.parquet")
IMAGES = Path("data/candidates/images"), Path("data/ingest/images")


class Config(StageConfig):
    """The section ``promote`` of params.yaml."""

    margin: Weight = 0.02
    """Non-inferiority margin in HPA (share of test pairs), at 97.5 % confidence."""
    num_resamples: Count = 2000
    """Bootstrap resamples of prompts."""
    dtype: DtypeName = "float32"
    """Torch dtype of the weights of both students."""


class Scored(Settings):
    """What the scores of a model depend on."""

    model: str
    """Its hash."""
    test: str
    """Hash of the test items and pairs."""
    dtype: str
    """Torch dtype of the weights."""


class Verdict(NamedTuple):
    """Difference in HPA, candidate minus champion, with its 95 % bootstrap interval."""

    passed: bool
    reason: str
    difference: float | None = None
    low: float | None = None
    high: float | None = None


class FrozenTest(NamedTuple):
    """Test pairs and items that both models are evaluated on."""

    pairs: pd.DataFrame
    items: pd.DataFrame
    key: str
    """Hash of the items and pairs."""


def read_test_set() -> FrozenTest:
    """Test pairs of two items with images and scores, and the items; pairs by votes are excluded.

    Raises:
        UserError: there is no such pair, or validate has not run.
    """
    items, pairs = read_table(ITEMS_FILE, ITEMS), read_table(PAIRS_FILE, PAIRS)
    shown = items[(items["split"] == "test") & items["image_id"].notna()]
    shown, pairs = with_scores(shown, ITEMS_FILE), with_scores(pairs, PAIRS_FILE)
    pairs = pairs_between(pairs[pairs["split"] == "test"], shown["item_id"])
    if pairs.empty:
        raise UserError(
            f"{PAIRS_FILE} has no test pair with images and scores: annotate more prompts"
        )
    return FrozenTest(pairs, shown, digest(tree_hash(ITEMS_FILE), tree_hash(PAIRS_FILE)))


def score_items(
    folder: Path, sha256: str, test: FrozenTest, dtype: str = "float32", known: Sequence[str] = ()
) -> pd.Series:
    """Expected score of each test item by (item_id, dimension), cached by the model's hash.

    Items whose prompt is too long for the model are left out.

    Args:
        folder: of the model.
        sha256: its hash.
        test: items to score.
        dtype: name of the torch dtype of the weights.
        known: names of the stages, if launch.yaml may divide the work (``gate``).

    Raises:
        NotFinite: a score is NaN or infinite; such a model is refused, whatever the margin.
        UserError, OSError, ValueError, RuntimeError: the model cannot be loaded or run.
    """
    cached = _scores_file(sha256, test, dtype)
    if not cached.is_file():
        _launch_scoring(folder, sha256, test, dtype, tuple(known))
    scores = pd.read_parquet(cached).set_index(["item_id", "dimension"])["value"]
    wrong = scores[~np.isfinite(scores)]
    if len(wrong):
        raise NotFinite(
            f"{folder}: {len(wrong)} of {len(scores)} scores of the test items are not finite, the"
            f" first for {wrong.index[0]}; train the model again with a lower learning rate"
        )
    return scores


def compute_scores(folder: Path, sha256: str, test: FrozenTest, dtype: str) -> None:
    """Write the cached scores of ``score_items``; processes divide the work by shards."""
    from zreward_core.models.loading import load_chat
    from zreward_core.models.prompt_limit import without_long_prompts
    from zreward_core.models.scorer import RewardModel
    from zreward_core.runtime.checkpoint import Checkpoint
    from zreward_core.runtime.device import pick_device
    from zreward_core.runtime.shards import compute_shards

    images = ImageStore(*IMAGES)
    shown = test.items.drop_duplicates("item_id")
    shown = without_long_prompts(load_chat(folder), shown, f"{ITEMS_FILE}, for {folder}")
    checkpoint = Checkpoint("gate", Scored(model=sha256, test=test.key, dtype=dtype), [])

    @cache
    def model() -> RewardModel:
        return RewardModel.from_pretrained(folder, pick_device(), dtype)

    def compute(part: slice) -> pd.DataFrame:
        rows = shown.iloc[part]
        scores = model().score(list(rows["prompt"]), images.all_pixels(rows["image_id"]))
        means = scores.mean.double().numpy()
        table = pd.DataFrame(means, columns=model().dimensions, index=rows["item_id"])
        return table.rename_axis("item_id").reset_index().melt("item_id", var_name="dimension")

    count, size, label = len(shown), SHARD_IMAGES, "scored test images"
    shards = compute_shards(checkpoint, "scores", count, size, SCORE_ROWS, compute, label)
    if is_main():
        with replaced(_scores_file(sha256, test, dtype)) as partial_file:
            pd.concat(map(pd.read_parquet, shards)).to_parquet(partial_file, index=False)
    checkpoint.clear()


def _launch_scoring(
    folder: Path, sha256: str, test: FrozenTest, dtype: str, known: tuple[str, ...]
) -> None:
    """Compute the scores in this process, or by the launcher of ``gate`` in launch.yaml."""
    from zreward_core.runtime.launch import launch

    run = partial(compute_scores, folder, sha256, test, dtype)
    if not known:
        run()
        return
    try:
        launch("gate", [f"--dtype={dtype}", os.path.relpath(folder), sha256], known, run)
    except SystemExit as ended:
        if int(ended.code or 0) > SIGNALS:
            raise
        raise RuntimeError(f"its workers ended with exit code {ended.code}") from None


def _scores_file(sha256: str, test: FrozenTest, dtype: str) -> Path:
    return SCORES / f"{sha256}-{test.key}-{dtype}.parquet"


def judge(
    config: Config,
    test: FrozenTest,
    candidate: pd.Series,
    champion: pd.Series,
    opponent: str = "champion",
) -> Verdict:
    """Pass if the lower bound of the difference is at least ``-margin``.

    Args:
        config: margin and bootstrap.
        test: the pairs.
        candidate: scores of its items by the candidate.
        champion: scores by the other student.
        opponent: name of the other student, for the reason.

    Pairs with an item that one of the two did not score (``score_items``) are left out and counted.

    Raises:
        UserError: no pair has different scores, or a model lacks a dimension of the pairs.
        NotFinite: an item of a pair has no finite score.
    """
    # imported here: a promotion with nothing new does not need scipy
    from zreward_core.evaluation.bootstrap import ratio_interval, resample
    from zreward_core.evaluation.preference import counted_pairs

    items = [set(scores.index.get_level_values("item_id")) for scores in (candidate, champion)]
    pairs = pairs_between(test.pairs, items[0] & items[1])
    num_left_out = len(test.pairs) - len(pairs)
    pairs = pairs[counted_pairs(pairs["score_w"].to_numpy(), pairs["score_l"].to_numpy())]
    right = _right(candidate, pairs, "candidate") - _right(champion, pairs, "champion")
    codes, prompts = pd.factorize(pairs["prompt_id"], sort=True)
    counts = resample(len(prompts), config.seed, config.num_resamples)
    interval = ratio_interval(
        np.bincount(codes, weights=right, minlength=len(prompts)),
        np.bincount(codes, minlength=len(prompts)).astype(float),
        counts,
    )
    if np.isnan(interval.low):
        raise UserError(f"{PAIRS_FILE} has no test pair with different scores")
    passed = bool(interval.low >= -config.margin)
    reason = (
        f"HPA of candidate minus {opponent} on {len(pairs)} test pairs: {interval.value:+.4f}"
        f" [{interval.low:+.4f}, {interval.high:+.4f}]; "
    )
    if config.margin >= 1:  # the lowest possible difference is -1
        reason += (
            f"with promote.margin {config.margin:g} every difference passes: set it to 0.02, for"
            " example, where the gate is to block"
        )
    else:
        bound = "at least" if passed else "below"
        reason += f"the lower bound is {bound} -{config.margin:g} (promote.margin)"
    if num_left_out:
        reason += f"; {num_left_out} test pairs were left out, their prompts are too long"
    return Verdict(passed, reason, interval.value, interval.low, interval.high)


def _right(scores: pd.Series, pairs: pd.DataFrame, who: str) -> np.ndarray:
    from zreward_core.evaluation.preference import agreements

    missing = set(pairs["dimension"]) - set(scores.index.get_level_values("dimension"))
    if missing:
        raise UserError(
            f"the {who} does not score {sorted(missing)}: it was trained for another rubric"
        )
    winner, loser = (
        scores.reindex(pd.MultiIndex.from_frame(pairs[[side, "dimension"]])).to_numpy()
        for side in ("winner", "loser")
    )
    found = agreements(winner, loser, pairs["score_w"].to_numpy(), pairs["score_l"].to_numpy())
    return found.astype(float)

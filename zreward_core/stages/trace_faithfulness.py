"""trace_faithfulness: a reasoning model, test pairs -> how much its scores depend on its traces.

Each image of a pair is scored under its own trace, the other image's trace, the first half of its
own, and its own with one verdict inverted. Shapes: P pairs, 2 sides (winner, loser).
"""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch

from zreward_core.config import Count, DtypeName, SamplingTemperature, StageConfig, UserError
from zreward_core.evaluation.coupling import flip_verdict, measure_coupling
from zreward_core.images import ImageStore
from zreward_core.models.backbone import Backbone
from zreward_core.models.loading import load_backbone
from zreward_core.models.prompt_limit import without_long_prompts
from zreward_core.models.rollouts import sample_rollouts
from zreward_core.models.score_decoder import expected_score, require_finite_scores
from zreward_core.models.teacher import query_seed
from zreward_core.models.traces import trace_log_probs
from zreward_core.runtime.device import pick_device
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import track
from zreward_core.schemas import ITEMS, PAIRS, pairs_between, read_table, write_json
from zreward_core.stages._engine import rollout_engine

OUTPUT = Path("data/trace_faithfulness")
ITEMS_FILE, PAIRS_FILE = Path("data/validate/items.parquet"), Path("data/validate/pairs.parquet")
IMAGES = Path("data/candidates/images"), Path("data/ingest/images")
READINGS = ("own", "exchanged", "truncated", "flipped")
"""The traces under which an image is scored."""


class Config(StageConfig):
    """Scores under perturbed traces."""

    model: Path = Path("data/train_gdso/teacher")
    """Model folder."""
    split: Literal["test", "validation"] = "test"
    """Split of the pairs."""
    num_pairs: Count = 400
    """Number of pairs drawn, over all dimensions."""
    temperature: SamplingTemperature = 1.0
    """Sampling temperature of the traces."""
    worse: dict[str, str] = {}
    """Positive phrases of a trace, each with the negative phrase that replaces it."""
    better: dict[str, str] = {}
    """Negative phrases of a trace, each with the positive phrase that replaces it."""
    batch_pairs: Count = 16
    """Pairs per batch."""
    dtype: DtypeName = "float32"
    """Torch dtype of the weights."""


def run(config: Config) -> None:
    """Write scores.parquet and coupling.json.

    Raises:
        UserError: the split has no pair with images, or an input is missing.
    """
    items, pairs = read_table(ITEMS_FILE, ITEMS), read_table(PAIRS_FILE, PAIRS)
    backbone = load_backbone(config.model, config.dtype)
    items = items[items["image_id"].notna()].drop_duplicates("item_id")
    items = without_long_prompts(backbone.chat, items, ITEMS_FILE).set_index("item_id")
    pairs = pairs_between(pairs[pairs["split"] == config.split], items.index)
    if pairs.empty:
        raise UserError(f"{PAIRS_FILE}: no {config.split} pairs with images: annotate more")
    pairs = pairs.sample(min(config.num_pairs, len(pairs)), random_state=config.seed)
    backbone.network.to(pick_device())
    images = ImageStore(*IMAGES)
    starts = range(0, len(pairs), config.batch_pairs)
    with rollout_engine("trace_faithfulness", backbone):
        parts = [
            score_pairs(backbone, config, pairs.iloc[at : at + config.batch_pairs], items, images)
            for at in track(starts, "trace_faithfulness")
        ]
    scores = pd.concat(parts, ignore_index=True)
    with whole_output(OUTPUT, config) as folder:
        scores.to_parquet(folder / "scores.parquet", index=False)
        write_json(summarise(scores), folder / "coupling.json")


def summarise(scores: pd.DataFrame) -> dict[str, dict]:
    """Coupling by dimension, and "overall"; see ``measure_coupling``."""
    groups = [("overall", scores), *scores.groupby("dimension")]
    return {
        str(name): measure_coupling(
            *(rows[column].to_numpy().reshape(-1, 2) for column in (*READINGS, "direction"))
        )
        for name, rows in groups
    }


@torch.no_grad()
def score_pairs(
    backbone: Backbone,
    config: Config,
    pairs: pd.DataFrame,
    items: pd.DataFrame,
    images: ImageStore,
) -> pd.DataFrame:
    """Scores of both images of some pairs; the winner's row precedes the loser's."""
    names = [name for name in pairs["dimension"] for _ in range(2)]
    sides = [item for pair in pairs.itertuples() for item in (pair.winner, pair.loser)]
    rows = items.loc[sides]
    prompts = list(rows["prompt"])
    pixels = [backbone.pixels.prepare(images.pixels(image)) for image in rows["image_id"]]
    dimensions = [backbone.rubric.names.index(name) for name in names]
    seeds = [query_seed(config.seed, *key) for key in zip(sides, names, strict=True)]
    limit = backbone.prompt.max_trace_tokens
    own = sample_rollouts(
        backbone, prompts, pixels, list(enumerate(dimensions)), 1, limit, seeds, config.temperature
    ).tokens
    traces: list[list[int]] = []
    directions = []
    for side, trace in enumerate(own):
        text, direction = flip_verdict(
            backbone.chat.text(trace),
            config.worse,
            config.better,
            np.random.default_rng(seeds[side]),
        )
        flipped = backbone.chat.trace(text) if direction else trace
        words = [token for token in trace if token != backbone.chat.close_id]
        traces += [trace, own[side ^ 1], words[: len(words) // 2], flipped]
        directions.append(direction)
    found = trace_log_probs(backbone, prompts, pixels, dimensions, traces)
    items_N = [f"item {item}" for item in sides for _ in READINGS]
    require_finite_scores(backbone.source, items_N, found.scores_NS.exp(), found.mass_N)
    means = expected_score(found.scores_NS.exp(), backbone.levels).unflatten(0, (-1, len(READINGS)))
    table = pd.DataFrame(means.double().cpu().numpy(), columns=list(READINGS))
    table.insert(0, "item_id", sides)
    table.insert(1, "dimension", names)
    table["direction"] = directions
    return table

"""evaluate: student, teacher, base models, test items -> metrics, plots, the viewer.

Metrics of Z-Reward (arXiv:2606.09076): HPA (equation 17), PLCC, SRCC; and calibration.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from pydantic import Field

from zreward_core.config import CountOrZero, UserError
from zreward_core.evaluation.image_sheets import DimensionExample, Example, plot_examples
from zreward_core.evaluation.plots import plot_curves, plot_hpa, plot_reliability
from zreward_core.evaluation.report import evaluate_predictions
from zreward_core.evaluation.viewer import write_viewer
from zreward_core.evaluation.viewer_items import LABELS_FILE, POOL_PREDICTIONS, pool_sample
from zreward_core.evaluation.votes import vote_accuracy
from zreward_core.images import ImageStore
from zreward_core.models.prompt_limit import short_for_all
from zreward_core.rubric import load_rubric
from zreward_core.runtime.checkpoint import Checkpoint
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.progress import read_history, track
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import (
    ITEMS,
    pairs_between,
    read_pairs,
    read_table,
    with_scores,
    write_json,
)
from zreward_core.stages._judging import Judging, read_predictions
from zreward_core.stages.predict import predict_at_once, predict_reasoning
from zreward_core.world.oracle import judge
from zreward_core.world.scenes import ASPECTS

logger = logging.getLogger(__name__)
OUTPUT = Path("data/evaluate")
VALIDATE = Path("data/validate")
ITEMS_FILE, PAIRS_FILE = VALIDATE / "items.parquet", VALIDATE / "pairs.parquet"
IMAGES = Path("data/candidates/images"), Path("data/ingest/images")
BASES = Path("data/base_vlm")
TEACHER, STUDENT = Path("data/train_gdso/teacher"), Path("data/train_risd/student")
POOL_ITEMS = 1000
"""Items of the labelled pool that the student scores, for the viewer."""


class Config(Judging):
    """Evaluation on the held-out test items."""

    oracle: bool = False
    """Report the oracle of the miniature, which sees pixels without noise, as the ceiling."""
    aspects: dict[str, str] = Field(default_factory=dict)
    """Dimension to the oracle's aspect, for dimensions with a different name."""
    num_examples: CountOrZero = 4
    """Number of example images plotted with their distributions and traces."""


def run(config: Config) -> None:
    """Write metrics.json, predictions of the test items and of some pool items, plots, the viewer.

    Raises:
        UserError: no test item has an image, or an input is missing.
    """
    items, pairs = read_table(ITEMS_FILE, ITEMS), read_pairs(PAIRS_FILE)
    items = items[(items["split"] == "test") & items["image_id"].notna()]
    pairs = pairs[pairs["split"] == "test"]
    models = (BASES / "teacher", BASES / "student", TEACHER, STUDENT)
    items = short_for_all(models, items, ITEMS_FILE)
    pairs = pairs_between(pairs, items["item_id"])
    if items.empty or pairs.empty:
        raise UserError(f"{VALIDATE}: no test items with images and pairs; annotate more prompts")
    scored, by_votes = with_scores(items, ITEMS_FILE), pairs[pairs["score_w"].isna()]
    ratings = pd.read_parquet(VALIDATE / "test_ratings.parquet")
    pool = short_for_all([STUDENT], pool_sample(POOL_ITEMS), LABELS_FILE)
    images = ImageStore(*IMAGES)
    inputs = [*models, ITEMS_FILE] if pool.empty else [*models, ITEMS_FILE, LABELS_FILE]
    checkpoint = Checkpoint("evaluate", config, inputs)
    how = {
        "zero_shot": (predict_at_once, BASES / "student"),
        "zero_shot_reasoning": (predict_reasoning, BASES / "teacher"),
        "teacher": (predict_reasoning, TEACHER),
        "student": (predict_at_once, STUDENT),
    }
    shards = {
        name: predict(config, checkpoint, name, folder, items, images)
        for name, (predict, folder) in how.items()
    }
    if len(pool):
        of_pool = predict_at_once(config, checkpoint, "pool", STUDENT, pool, images)
    if not is_main():
        return
    predictions = {name: read_predictions(paths, items) for name, paths in shards.items()}
    oracle = oracle_scores(scored, images, config.aspects) if config.oracle else None
    metrics = evaluate_predictions(
        predictions,
        scored,
        pairs.drop(by_votes.index),
        ratings=ratings,
        oracle=oracle,
        seed=config.seed,
    )
    if len(by_votes):
        metrics["votes"] = vote_accuracy(predictions, by_votes, config.seed)
    with whole_output(OUTPUT, config) as folder:
        write_json(metrics, folder / "metrics.json")
        overall = {model: parts["overall"] for model, parts in metrics["models"].items()}
        kept = ("hpa", "plcc", "srcc", "ece")
        summary = {model: {key: row[key] for key in kept} for model, row in overall.items()}
        write_json(summary, folder / "summary.json")  # a few numbers, for `dvc metrics`
        table = pd.concat(
            [frame.assign(model=name) for name, frame in predictions.items()], ignore_index=True
        )
        table.to_parquet(folder / "predictions.parquet", index=False)
        if len(pool):
            scored_pool = read_predictions(of_pool, pool)[["item_id", "dimension", "probs", "mean"]]
            scored_pool.to_parquet(folder / POOL_PREDICTIONS.name, index=False)
        plot(config, folder, metrics, scored, predictions, images)
    write_viewer(images, track)
    checkpoint.clear()


def oracle_scores(items: pd.DataFrame, images: ImageStore, aspects: dict[str, str]) -> pd.DataFrame:
    """The pixel oracle's score of each item, from pixels and prompt alone.

    Scores remain on the world's scale, since the ceiling is reported as order and correlation.

    Args:
        items: rows of ``schemas.ITEMS``.
        images: their images.
        aspects: dimension to the oracle's aspect, if the names differ.

    Raises:
        UserError: a dimension has no corresponding aspect of the oracle.
    """
    aspect_of = {name: aspects.get(name, name) for name in items["dimension"].unique()}
    for name, aspect in aspect_of.items():
        if aspect not in ASPECTS:
            raise UserError(
                f"params.yaml: 'evaluate.aspects' has no oracle aspect for the dimension '{name}' "
                f"of the rubric; name one of {sorted(ASPECTS)}, or set 'evaluate.oracle: false'"
            )
    shown = items.drop_duplicates("item_id")
    judged = {
        row.item_id: judge(images.pixels(row.image_id), row.prompt).scores
        for row in track(shown.itertuples(), "evaluate oracle", len(shown))
    }
    scores = [judged[row.item_id][aspect_of[row.dimension]] for row in items.itertuples()]
    return items[["item_id", "dimension"]].assign(score=scores)


def plot(
    config: Config,
    folder: Path,
    metrics: dict,
    items: pd.DataFrame,
    predictions: dict[str, pd.DataFrame],
    images: ImageStore,
) -> None:
    """Plot reliability, training curves, trace length, HPA by dimension, and examples.

    Without items that have scores, only the training curves are plotted.
    """
    rubric = load_rubric()
    aligned = {
        name: items.merge(frame, on=["item_id", "dimension"])["mean"].to_numpy()
        for name, frame in predictions.items()
    }
    if len(items):
        scores = items["score"].to_numpy()
        plot_reliability(aligned, scores, rubric.levels, folder / "reliability.png")
        rated = [name for name in rubric.names if name in set(items["dimension"])]
        plot_hpa(metrics, rated, folder / "hpa.png")
    gdso = read_history(TEACHER.parent / "history.jsonl")
    risd = read_history(STUDENT.parent / "history.jsonl")
    if gdso:
        shown = {
            "reward/mean": "reward (eq. 13), at most 1",
            "loss/pointwise": "pointwise loss (eq. 8), nats",
            "loss/pairwise": "pairwise loss (eq. 11),\nshare of the scale",
            "policy/drift": "drift of a trace's\nlog-probability, nats",
        }
        shown |= validation_curves(gdso)
        plot_curves(gdso, shown, "GDSO: training of the teacher", folder / "train_gdso.png")
        length = {"trace/length": "tokens per trace (mean)"}
        plot_curves(gdso, length, "GDSO: length of the traces", folder / "trace_length.png")
    if risd:
        shown = {
            "loss/total": "Kullback-Leibler divergence\nfrom the teacher (eq. 15), nats",
            "score/error": "difference from the teacher's\nscore, points",
        }
        shown |= validation_curves(risd)
        plot_curves(risd, shown, "RISD: training of the student", folder / "train_risd.png")
    if config.num_examples and len(items):
        examples = pick_examples(config, items, predictions, images, rubric.names)
        plot_examples(examples, rubric.levels, folder / "examples.png")


def validation_curves(history: list[dict[str, float]]) -> dict[str, str]:
    """The metrics of validation that a stage has logged, with the names of their axes."""
    names = {
        "validation/hpa": "HPA on the validation split\n(share of pairs)",
        "validation/nll": "negative log-likelihood on\nthe validation split, nats",
    }
    return {key: name for key, name in names.items() if any(key in row for row in history)}


def pick_examples(
    config: Config,
    items: pd.DataFrame,
    predictions: dict[str, pd.DataFrame],
    images: ImageStore,
    dimensions: list[str],
) -> list[Example]:
    """Sample test images with annotated and predicted distributions."""
    shown = items.drop_duplicates("item_id")
    count = min(config.num_examples, len(shown))
    chosen = shown.iloc[np.random.default_rng(config.seed).permutation(len(shown))[:count]]
    tables = {
        name: predictions[name].set_index(["item_id", "dimension"])
        for name in ("teacher", "student")
    }
    annotated = items.set_index(["item_id", "dimension"])
    examples = []
    for row in chosen.itertuples():
        parts = {}
        for name in dimensions:
            key = (row.item_id, name)
            if key in annotated.index:
                probs = {m: np.asarray(t.loc[key, "probs"]) for m, t in tables.items()}
                histogram = np.asarray(annotated.loc[key, "histogram"])
                trace = str(tables["teacher"].loc[key, "trace"])
                parts[name] = DimensionExample(histogram, probs, trace)
        examples.append(Example(row.prompt, images.pixels(row.image_id), parts))
    return examples

"""A root with tiny bases, annotated pairs, an unlabelled pool and its labels, to train in."""

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from tests.tiny_models import PROMPT, SIZES
from zreward_core.config import StageConfig
from zreward_core.images import ImageStore, encode_png, write_images
from zreward_core.models.backbone import Backbone
from zreward_core.models.tiny import TinySizes, build_backbone
from zreward_core.rubric import Dimension, Rubric
from zreward_core.runtime.checkpoint import tree_hash
from zreward_core.schemas import CANDIDATES, ITEMS, LABELS, PAIRS, write_table
from zreward_core.stages import _training as shared
from zreward_core.training import updates
from zreward_core.training.samplers import PairBatch, PairSampler

NAMES = ("alignment", "realism")
WORDS = ("red circle", "blue star", "top left", "circle")
SPLITS = ("train", "train", "train", "test")
RUBRIC = Rubric(
    name="r",
    levels=[1, 2, 3],
    labels=["1", "2", "3"],
    dimensions=[Dimension(name=name, title=name, question=name, levels={}) for name in NAMES],
)
ON_POLICY = {"steps": 4, "pairs_per_step": 2, "group_size": 3, "checkpoint_every": 2}
SUPERVISED = {"steps": 5, "batch_size": 4, "micro_batch_size": 2, "checkpoint_every": 2}


def tiny(seed: int = 5, sizes: TinySizes = SIZES, max_pixels: int | None = None) -> Backbone:
    return build_backbone(sizes, list(WORDS), RUBRIC, PROMPT, seed, max_pixels)


@pytest.fixture(scope="session")
def trainable_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four prompts with two images each, scored; the pool is the same images."""
    root = tmp_path_factory.mktemp("training")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(8)]
    write_root(root, map(encode_png, images))
    return root


def write_root(
    root: Path,
    contents: Iterable[bytes],
    sizes: TinySizes = SIZES,
    max_pixels: int | None = None,
) -> None:
    """Two images of each prompt, scored; the pool is the same images.

    Args:
        sizes, max_pixels: of the models.
    """
    folder, rng = root / "data", np.random.default_rng(1)
    images = write_images(contents, folder / "candidates/images")
    write_images([], folder / "ingest/images")
    rows = [
        {
            "item_id": f"item{n}",
            "prompt_id": f"prompt{n // 2}",
            "prompt": WORDS[n // 2 % 4],
            "image_id": image,
            "generator": "",
            "dimension": name,
            "score": [3.0, 1.0, 2.5, 1.5][(n + d) % 4],
            "num_ratings": 1,
            "split": SPLITS[n // 2 % 4],
            "probs": rng.dirichlet(np.ones(3)),
            "spread": 0.0,
            "mass": 1.0,
            "trace": "",
        }
        for n, image in enumerate(images)
        for d, name in enumerate(NAMES)
    ]
    items = pd.DataFrame(rows)
    items["histogram"] = [RUBRIC.histogram([score]) for score in items["score"]]
    pairs = []
    for (prompt, name), two in items.groupby(["prompt_id", "dimension"]):
        loser, winner = two.sort_values("score").itertuples()
        pairs.append(
            (prompt, name, winner.item_id, loser.item_id, winner.score, loser.score, winner.split)
        )
    write_table(items, folder / "validate/items.parquet", ITEMS)
    write_table(pd.DataFrame(pairs, columns=PAIRS.names), folder / "validate/pairs.parquet", PAIRS)
    write_table(items, folder / "label/labels.parquet", LABELS)
    pool = items.drop_duplicates("item_id")
    write_table(pool, folder / "candidates/pool.parquet", CANDIDATES)
    for seed, role in enumerate(("teacher", "student")):
        tiny(seed, sizes, max_pixels).save(folder / "base_vlm" / role, {})


@pytest.fixture
def training_root(trainable_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trainable_root)
    return trainable_root


def drawn_pairs(backbone: Backbone, num_pairs: int, seed: int = 0) -> PairBatch:
    """Pairs of the root's train split."""
    store = ImageStore(*shared.IMAGES)
    sampler = PairSampler(backbone, shared.training_items(), shared.training_pairs(), store)
    return sampler.draw(num_pairs, np.random.default_rng(seed))


def run_whole_and_killed(
    stage: ModuleType, config: StageConfig, monkeypatch: pytest.MonkeyPatch, step: int = 3
) -> None:
    """Compare a resumed run to an uninterrupted one, bit for bit.

    The run is interrupted before a step's update; with a checkpoint every two steps, the third step
    is then repeated.
    """
    stage.run(config)
    expected = tree_hash(stage.OUTPUT)
    for file in stage.OUTPUT.rglob("*.safetensors"):
        assert all(torch.isfinite(value).all() for value in load_file(file).values())
    update, calls = updates.update, iter(range(100))

    def killed(*arguments):
        if next(calls) == step:
            raise KeyboardInterrupt
        return update(*arguments)

    monkeypatch.setattr(updates, "update", killed)
    with pytest.raises(KeyboardInterrupt):
        stage.run(config)
    folder = Path(".zreward/checkpoints") / stage.OUTPUT.name
    assert list(folder.rglob("state.pt"))
    made = iter(range(100))

    def counted(*arguments):
        next(made)
        return update(*arguments)

    monkeypatch.setattr(updates, "update", counted)
    stage.run(config)
    assert next(made) == config.steps - 2  # type: ignore[attr-defined]
    assert tree_hash(stage.OUTPUT) == expected
    assert not folder.exists()

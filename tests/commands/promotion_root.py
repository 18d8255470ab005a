"""A small project root with two students, and test pairs ordered by the base's scores."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.registry.stores import place_store
from tests.tiny_models import PROMPT, SIZES
from zreward_core import RewardModel
from zreward_core.commands.promote import promote
from zreward_core.images import encode_png, write_images
from zreward_core.models.tiny import build_backbone
from zreward_core.rubric import load_rubric
from zreward_core.schemas import ITEMS, PAIRS, item_id, prompt_id, tree_hash, write_table

REPOSITORY = Path(__file__).parents[2]
PARAMS = "seed: 5\npromote: {margin: 0.02, num_resamples: 200}\nchampion: {}\n"
NORM = "model.language_model.norm.weight"
BASE, TRAINED = Path("data/base_vlm/student"), Path("data/train_risd/student")


def make_student(folder: Path, seed: int) -> None:
    """Write a student with random weights, scaled so that its scores differ."""
    shutil.rmtree(folder, ignore_errors=True)
    backbone = build_backbone(SIZES, ["a red circle"], load_rubric(), PROMPT, seed)
    with torch.no_grad():
        for parameter in backbone.network.parameters():
            parameter.mul_(2.0) if parameter.ndim > 1 else None
    backbone.save(folder, {"seed": seed})


def make_pairs(model: RewardModel, num_prompts: int = 8) -> None:
    """Write test items and pairs whose annotated order is that of the model's scores."""
    rng = np.random.default_rng(3)
    prompts = [f"a red circle {index}" for index in range(num_prompts) for _ in range(3)]
    pixels = [rng.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in prompts]
    images = write_images([encode_png(one) for one in pixels], Path("data/candidates/images"))
    write_images([], Path("data/ingest/images"))
    means = model.score(prompts, pixels).mean.double().numpy()
    shown = pd.DataFrame({"prompt": prompts, "image_id": images})
    shown["prompt_id"] = shown["prompt"].map(prompt_id)
    shown["item_id"] = [item_id(*pair) for pair in zip(prompts, images, strict=True)]
    items, pairs = [], []
    for place, dimension in enumerate(model.dimensions):
        judged = shown.assign(
            dimension=dimension, score=means[:, place], num_ratings=3, split="test"
        )
        items.append(judged.assign(histogram=[[1.0] + [0.0] * 8] * len(judged)))
        for _, group in judged.groupby("prompt_id"):
            ordered = group.sort_values("score", ascending=False).reset_index()
            for first, second in ((0, 1), (0, 2), (1, 2)):
                winner, loser = ordered.iloc[first], ordered.iloc[second]
                pairs.append(
                    {
                        "prompt_id": winner["prompt_id"],
                        "dimension": dimension,
                        "winner": winner["item_id"],
                        "loser": loser["item_id"],
                        "score_w": winner["score"] + 1.0,
                        "score_l": loser["score"],
                        "split": "test",
                    }
                )
    write_table(pd.concat(items), Path("data/validate/items.parquet"), ITEMS)
    write_table(pd.DataFrame(pairs), Path("data/validate/pairs.parquet"), PAIRS)


def train_as_base() -> None:
    """Write a trained student with the base's weights, which passes the gate."""
    make_student(TRAINED, seed=0)
    card = TRAINED / "zreward.json"
    card.write_text(card.read_text().replace('"seed": 0', '"seed": "trained"'))


def two_champions() -> tuple[str, str]:
    """Promote versions 1 and 2 one after the other; returns their hashes."""
    train_as_base()
    promote()
    first = tree_hash(TRAINED)
    make_student(TRAINED, seed=1)
    promote(force=True, reason="to have two")
    return first, tree_hash(TRAINED)


@pytest.fixture(scope="session")
def finished_root(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    """A base that orders every pair correctly, and a trained student that does not."""
    folder = tmp_path_factory.mktemp("promotion")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Path("data").mkdir()
        shutil.copy(REPOSITORY / "data/rubric.yaml", "data/rubric.yaml")
        Path("params.yaml").write_text(PARAMS)
        Path("data/champion.yaml").write_text("source: trained\n")
        make_student(BASE, seed=0)
        make_student(TRAINED, seed=1)
        make_pairs(RewardModel.from_pretrained(BASE))
        place_store(empty_store, folder)
    return folder


@pytest.fixture
def root(finished_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished root, which is also the current folder."""
    shutil.copytree(finished_root, tmp_path / "root")
    monkeypatch.chdir(tmp_path / "root")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path / "root"


def spoil(folder: Path, value: float) -> None:
    """Fill a weight of a model folder with a number."""
    weights = load_file(folder / "model.safetensors")
    weights[NORM].fill_(value)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})

"""A small project root with rendered images to annotate."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd

from zreward_core.images import encode_png, write_images
from zreward_core.schemas import CANDIDATES, item_id, prompt_id, write_table
from zreward_core.world.prompts import sample_prompts
from zreward_core.world.rendering import render
from zreward_core.world.scenes import sample_scene

REPOSITORY = Path(__file__).parents[2]
PARAMS = """
seed: 5
splits: {train: 0.4, validation: 0.2}
annotate: {simulate: true, num_annotators: 6, overlap: {train: 1, validation: 2, test: 4},
           malformed: 5, exemplars: 1}
ingest: {}
validate: {min_overlap: 10}
"""


def make_root(root: Path, num_prompts: int = 24, num_images: int = 2) -> None:
    """Write params, rubric and candidates."""
    (root / "data").mkdir(parents=True)
    (root / "params.yaml").write_text(PARAMS)
    shutil.copy(REPOSITORY / "data/rubric.yaml", root / "data/rubric.yaml")
    rng = np.random.default_rng(1)
    prompts = [one for one in sample_prompts(num_prompts, rng) for _ in range(num_images)]
    contents = [encode_png(render(sample_scene(prompt, rng))) for prompt in prompts]
    images = write_images(contents, root / "data/candidates/images")
    table = pd.DataFrame({"prompt": prompts, "image_id": images, "generator": "world"})
    table["prompt_id"] = table["prompt"].map(prompt_id)
    table["item_id"] = [item_id(*pair) for pair in zip(prompts, images, strict=True)]
    write_table(table, root / "data/candidates/items.parquet", CANDIDATES)

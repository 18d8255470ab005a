"""The oracle's scores in the stage evaluate."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from zreward_core.config import UserError
from zreward_core.images import ImageStore, encode_png, write_images
from zreward_core.stages.evaluate import oracle_scores
from zreward_core.world.oracle import judge
from zreward_core.world.prompts import sample_prompts
from zreward_core.world.rendering import render
from zreward_core.world.scenes import sample_scene


def rendered(folder: Path) -> tuple[pd.DataFrame, ImageStore]:
    rng = np.random.default_rng(0)
    prompts = sample_prompts(3, rng)
    images = [render(sample_scene(prompt, rng, clean_share=0.0)) for prompt in prompts]
    identifiers = write_images(map(encode_png, images), folder)
    rows = [
        (f"i{index}", prompt, identifier, dimension)
        for index, (prompt, identifier) in enumerate(zip(prompts, identifiers, strict=True))
        for dimension in ("prompt_fit", "realism")
    ]
    items = pd.DataFrame(rows, columns=["item_id", "prompt", "image_id", "dimension"])
    return items, ImageStore(folder)


def test_oracle_scores_follow_the_mapping_of_dimensions_to_aspects(tmp_path: Path) -> None:
    items, store = rendered(tmp_path / "images")
    scores = oracle_scores(items, store, {"prompt_fit": "alignment"})
    judged = [judge(store.pixels(row.image_id), row.prompt).scores for row in items.itertuples()]
    aspects = items["dimension"].map({"prompt_fit": "alignment", "realism": "realism"})
    expected = [found[aspect] for found, aspect in zip(judged, aspects, strict=True)]
    assert scores["score"].tolist() == expected and len(set(expected)) > 3
    assert scores[["item_id", "dimension"]].equals(items[["item_id", "dimension"]])


def test_a_dimension_without_an_aspect_is_rejected(tmp_path: Path) -> None:
    items, store = rendered(tmp_path / "images")
    with pytest.raises(UserError, match=r"no oracle aspect for the dimension 'prompt_fit'"):
        oracle_scores(items, store, {})

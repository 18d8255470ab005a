"""The recipes of docs/annotations.md, run by the stage `ingest` on small files named as there.

Every YAML block of the page is a recipe, and each of its sources needs an entry of ``CASES``.
"""

import importlib
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.annotations.recipe_cases import CASES, Case
from zreward_core.config import parse_yaml
from zreward_core.images import encode_png
from zreward_core.schemas import COMPARISONS, OPINIONS, QUARANTINE, RATINGS, read_json, read_table
from zreward_core.stages import ingest

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs/annotations.md"
RECIPES = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.M | re.S)


def sources_of(recipe: str) -> list[str]:
    """Names of the sources of a recipe."""
    return [source["name"] for source in parse_yaml(recipe)["ingest"]["sources"]]


def write_files(case: Case) -> None:
    """Lay the files of a case below data/drops; every image has other pixels."""
    for name, content in case.files.items():
        path = Path("data/drops") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            text = content if isinstance(content, str) else json.dumps(content)
            path.write_text(text, encoding="utf-8")
    for shade, name in enumerate(case.images):
        path = Path("data/drops") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(np.full((4, 4, 3), shade, np.uint8)))


def rows(table: pd.DataFrame, *columns: str) -> list[tuple]:
    """Cells of some columns in the order of the file; numbers are rounded, null is None."""
    cells = table[list(columns)].astype(object).where(table[list(columns)].notna(), None)
    return [
        tuple(round(cell, 9) if isinstance(cell, float) else cell for cell in row)
        for row in cells.itertuples(index=False)
    ]


def test_every_recipe_has_cases_and_every_case_a_recipe() -> None:
    assert len(RECIPES) > 15
    names = [name for recipe in RECIPES for name in sources_of(recipe)]
    assert sorted(names) == sorted(CASES)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: sources_of(recipe)[0])
def test_recipe(recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    shutil.copy(REPOSITORY / "data/rubric.yaml", "data/rubric.yaml")
    Path("params.yaml").write_text(f"seed: 1\n{recipe}", encoding="utf-8")
    cases = {name: CASES[name] for name in sources_of(recipe)}
    for case in cases.values():
        write_files(case)
    for section in parse_yaml(recipe):
        importlib.import_module(f"zreward_core.stages.{section}").Config.load(section)

    ingest.run(ingest.Config.load("ingest"))

    ratings = read_table(ingest.OUTPUT / "ratings.parquet", RATINGS)
    comparisons = read_table(ingest.OUTPUT / "comparisons.parquet", COMPARISONS)
    opinions = read_table(ingest.OUTPUT / "opinions.parquet", OPINIONS)
    assert read_table(ingest.OUTPUT / "quarantine.parquet", QUARANTINE).empty
    summary = read_json(ingest.OUTPUT / "summary.json")["sources"]
    for name, case in cases.items():
        rated, compared, means = (
            table[table["source"] == name] for table in (ratings, comparisons, opinions)
        )
        assert rows(rated, "annotator_id", "dimension", "score") == case.ratings
        assert rows(compared, "annotator_id", "dimension", "vote") == case.comparisons
        assert rows(means, "dimension", "mean", "std", "num_ratings") == case.opinions
        items = {*rated["item_id"], *compared["item_a"], *compared["item_b"], *means["item_id"]}
        assert len(items) == case.num_items
        assert summary[name]["ignored"] == case.ignored
        if case.images:
            assert summary[name]["missing_images"]["number"] == 0
            assert rated["image_id"].notna().all()

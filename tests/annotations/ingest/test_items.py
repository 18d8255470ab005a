"""The same image is one item in all sources: by its bytes, else by its name."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from zreward_core.annotations.ingest.settings import Source
from zreward_core.images import encode_png, image_id
from zreward_core.rubric import Rubric
from zreward_core.schemas import item_id, write_json
from zreward_core.stages import ingest

STARS = {"min": 1, "max": 5, "higher_is_better": True}
COLUMNS = {"image": "image", "annotator_id": "who", "score": "score"}


@pytest.fixture
def ingested(drops: Path, default_rubric: Rubric, monkeypatch: pytest.MonkeyPatch):
    """Runs the stage on some sources; returns the ratings and the summary."""

    def run(*sources: dict) -> tuple[pd.DataFrame, dict]:
        monkeypatch.setattr(ingest, "load_rubric", lambda: default_rubric)
        ingest.run(ingest.Config(seed=1, sources=[Source(**one) for one in sources]))
        summary = json.loads(Path("data/ingest/summary.json").read_text())
        return pd.read_parquet("data/ingest/ratings.parquet"), summary["sources"]

    return run


def study(name: str, rows: str, header: str = "image,who,score", **settings: object) -> dict:
    """A CSV source; a column `prompt` or `model` or `id` in the header is read."""
    path = Path(f"data/drops/{name}.csv")
    path.write_text(f"{header}\n{rows}")
    known = {"prompt": "prompt", "model": "generator", "id": "item"}
    columns = {**COLUMNS, **{known[one]: one for one in header.split(",") if one in known}}
    fixed = {"dimension": "realism", "scale": STARS, "columns": columns, "format": "csv"}
    return {"name": name, "path": path, **fixed, **settings}


def image(name: str, value: int) -> str:
    content = encode_png(np.full((4, 4, 3), value, np.uint8))
    path = Path("data/drops/images") / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(content)
    return image_id(content)


def task(number: int, image: str, prompt: str, who: int, project: int) -> dict:
    result = {"from_name": "realism", "to_name": "image", "type": "rating", "value": {"rating": 3}}
    judged = {"id": number, "completed_by": who, "result": [result], "was_cancelled": False}
    data = {"prompt": prompt, "image": image}
    return {"id": number, "data": data, "annotations": [judged], "project": project}


def test_one_file_per_rater_without_prompts(ingested) -> None:
    identifiers = [image(f"{number}.png", number) for number in range(3)]
    rows = [f"{number}.png,{{}},{number + 1}\n" for number in range(3)]
    sources = [
        study(who, "".join(rows).replace("{}", who), images=Path("data/drops/images"))
        for who in ("anna", "ben")
    ]
    ratings, _ = ingested(*sources)
    assert ratings.groupby("item_id")["annotator_id"].apply(list).tolist() == [["anna", "ben"]] * 3
    assert set(ratings["item_id"]) == {item_id("", one) for one in identifiers}


def test_exports_of_two_people_without_the_images(ingested) -> None:
    local = "/data/local-files/?d=imgs/{}.png"
    upload = "/data/upload/{}/{}-cat.png"
    for who, hashes in ((1, ("aaaaaaaa", "cccccccc")), (2, ("bbbbbbbb", None))):
        tasks = [task(100 * who + n, local.format(n), f"city {n // 2}", who, who) for n in range(4)]
        tasks += [
            task(100 * who + 10 + n, upload.format(who, one), "a cat", who, who)
            for n, one in enumerate(hashes)
            if one
        ]
        write_json(tasks, Path(f"data/drops/{who}.json"))
    ratings, summary = ingested({"name": "ls", "path": Path("data/drops"), "images": None})
    assert len(ratings) == 11 and summary["ls"]["missing_images"]["number"] == 7
    raters = ratings.groupby("item_id")["annotator_id"].apply(lambda x: sorted(x))
    # Person 1 has uploaded two files named cat.png, so neither is that of person 2.
    assert sorted(raters) == [["1"], ["1"], ["1", "2"], ["1", "2"], ["1", "2"], ["1", "2"], ["2"]]


def test_names_across_sources(ingested) -> None:
    header = "image,who,score,prompt,model"
    one = study("one", "a/0.png,1,3,x,sdxl\na/0.png,1,3,x,flux\na/0.png,1,3,y,sdxl\n", header)
    two = study("two", "a\\0.png,2,4,X ,sdxl\nb/0.png,2,4,x,sdxl\n", header)
    ratings, _ = ingested(one, two)
    assert ratings["item_id"].nunique() == 4
    assert ratings["item_id"][0] == ratings["item_id"][3]
    Path("data/drops/other").mkdir()
    two["images"] = Path("data/drops/other")  # in another folder, the same names are other images
    assert ingested(one, two)[0]["item_id"].nunique() == 5


def test_own_item_names_distinguish_images_of_one_name(ingested) -> None:
    header = "image,who,score,id"
    ratings, _ = ingested(study("one", "out.png,1,3,7\nout.png,1,3,8\nout.png,2,3,7\n", header))
    assert ratings["item_id"].nunique() == 2
    assert ratings["item_id"][0] == ratings["item_id"][2]


def test_a_record_without_prompt_takes_the_only_prompt_of_its_image(ingested) -> None:
    first, second = image("0.png", 1), image("1.png", 2)
    folder = Path("data/drops/images")
    header = "image,who,score,prompt"
    bare = study("bare", "0.png,1,3\n1.png,1,3\n", images=folder)
    full = study(
        "full", "0.png,2,3,a cat\n1.png,2,3,a dog\n1.png,2,3,a fox\n", header, images=folder
    )
    ratings, _ = ingested(bare, full)
    assert ratings["item_id"].tolist() == [
        item_id("a cat", first),
        item_id("", second),  # judged for two prompts
        item_id("a cat", first),
        item_id("a dog", second),
        item_id("a fox", second),
    ]
    assert ratings["prompt"].fillna("").tolist() == ["a cat", "", "a cat", "a dog", "a fox"]


def test_references_of_all_sources_are_compared(ingested) -> None:
    content = image("0.png", 1)
    folder = Path("data/drops/images")
    one, two = study("one", "sdxl/0.png,1,3\n", images=folder), study("two", "dalle/0.png,1,3\n")
    assert ingested(one)[0]["image_id"].tolist() == [content]
    ratings, summary = ingested(one, {**two, "images": folder})
    assert ratings["image_id"].isna().tolist() == [True, True]
    assert ratings["item_id"].nunique() == 2
    why = "several references could be 0.png"
    assert summary["one"]["missing_images"] == {"number": 1, "first": [f"sdxl/0.png ({why})"]}
    assert not pd.read_parquet("data/ingest/images").shape[0]

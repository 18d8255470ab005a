"""A root with the tables that the viewer shows, without any model, and the content of its page."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from zreward_core.images import encode_png, write_images
from zreward_core.schemas import (
    CANDIDATES,
    COMPARISONS,
    ITEMS,
    LABELS,
    OPINIONS,
    RATINGS,
    TRACES,
    item_id,
    prompt_id,
    write_json,
    write_table,
)

NAMES = ("alignment", "realism")
LEVELS = np.arange(1, 5.5, 0.5)
HOSTILE = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 1'>&"
GENERATORS = ("data/first steps=8", "data/second steps=8")
COLUMNS = (
    "id", "is_test", "prompt", "generator", "score", "teacher", "student", "lowest", "highest"
)  # fmt: skip
"""Lists of the page's index with an entry for each item."""


def write_root(root: Path, num_test: int, num_pool: int = 0, num_images: int = 20) -> None:
    """Random items; the first prompt and trace are markup, annotator 3 is excluded."""
    data, rng = root / "data", np.random.default_rng(0)
    dimensions = [{"name": n, "title": n.title(), "question": n, "levels": {}} for n in NAMES]
    labels = [str(n + 1) for n in range(len(LEVELS))]
    rubric = {"name": "r", "levels": LEVELS.tolist(), "labels": labels, "dimensions": dimensions}
    data.mkdir(parents=True)
    (data / "rubric.yaml").write_text(yaml.safe_dump(rubric))
    images = write_images(
        (encode_png(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)) for _ in range(num_images)),
        data / "candidates/images",
    )
    write_images([], data / "ingest/images")
    numbers = np.arange(num_test + num_pool)
    prompts = [f"prompt {n // 2} of a picture" for n in numbers]
    prompts[0] = HOSTILE
    items = pd.DataFrame({"prompt": prompts, "image_id": [images[n % num_images] for n in numbers]})
    items["item_id"] = [item_id(f"{n} {p}", "") for n, p in enumerate(prompts)]
    items["prompt_id"] = items["prompt"].map(prompt_id)
    items["generator"] = [GENERATORS[n % 2] for n in numbers]
    rows = items.merge(pd.DataFrame({"dimension": NAMES}), how="cross")
    rows["score"] = rng.choice(LEVELS, len(rows))
    rows["histogram"] = list((rows["score"].to_numpy()[:, None] == LEVELS).astype(float))
    rows["num_ratings"], rows["split"] = 2, "test"
    rows["native_score"], rows["submitted_at"], rows["seconds"] = rows["score"], None, None
    rows["spread"], rows["mass"], rows["number"], rows["closed"] = 0.0, 1.0, 0, True
    rows["tokens"], rows["output_tokens"] = [[1]] * len(rows), 1.0
    rows["trace"] = [f"trace {n} " + "red blue sharp " * 20 for n in range(len(rows))]
    rows.loc[0, "trace"] = HOSTILE
    test, pool = rows[: 2 * num_test], rows[2 * num_test :].sort_values("item_id")
    write_table(test, data / "validate/items.parquet", ITEMS)
    people = {str(a): {"included": a != 3} for a in (1, 2, 3)}
    write_json({"annotators": people}, data / "validate/audit.json")
    of_test = items["item_id"].isin(test["item_id"])
    write_table(items[of_test], data / "candidates/items.parquet", CANDIDATES)
    write_table(items[~of_test], data / "candidates/pool.parquet", CANDIDATES)
    ratings = test.assign(generator=None, source="people").reset_index(drop=True)
    parts = []
    for annotator, off in (("1", 0.0), ("2", -0.5), ("3", 1.0)):
        refs = [f"data/drops/a b/{annotator}.csv#row {n + 2}" for n in range(len(ratings))]
        score = np.maximum(ratings["score"] + off, 0.5)
        parts.append(ratings.assign(annotator_id=annotator, score=score, row_ref=refs))
    write_table(pd.concat(parts), data / "ingest/ratings.parquet", RATINGS)
    opinion = ratings.head(1).assign(mean=2.25, std=None, num_ratings=7, row_ref="o.csv#row 9")
    write_table(opinion, data / "ingest/opinions.parquet", OPINIONS)
    first, second = items["item_id"][:2]
    votes = pd.DataFrame(
        [
            (first, second, "b", "1"),
            (second, first, "both_bad", "3"),
            (first, "absent", "tie", None),
        ],
        columns=["item_a", "item_b", "vote", "annotator_id"],
    ).assign(
        dimension=NAMES[0], source="people", row_ref=["v.csv#row 2", "v.csv#row 3", "w.csv#row 2"]
    )
    write_table(votes, data / "ingest/comparisons.parquet", COMPARISONS)
    predictions = []
    for model in ("zero_shot", "teacher", "student"):
        probs = rng.dirichlet(np.ones(len(LEVELS)), len(test))
        one = test[["item_id", "dimension", "output_tokens", "trace"]].assign(model=model)
        one["probs"], one["mean"] = list(probs), probs @ LEVELS
        one["trace"] = one["trace"] if model == "teacher" else ""
        predictions.append(one)
    (data / "evaluate").mkdir()
    pd.concat(predictions).to_parquet(data / "evaluate/predictions.parquet", index=False)
    if num_pool:
        pool = pool.assign(probs=list(rng.dirichlet(np.ones(len(LEVELS)), len(pool))))
        write_table(pool, data / "label/labels.parquet", LABELS)
        again = pd.concat([pool, pool.assign(number=1, trace="again")])
        again = again.sort_values(["item_id", "dimension", "number"])
        write_table(again, data / "label/traces/00000.parquet", TRACES)
        half = pool.head(len(pool) // 4 * 2)  # whole items
        half = half.assign(probs=list(rng.dirichlet(np.ones(len(LEVELS)), len(half))), mean=0.0)
        half[["item_id", "dimension", "probs", "mean"]].to_parquet(
            data / "evaluate/pool_predictions.parquet", index=False
        )


def embedded(page: str, name: str) -> Any:
    """A JSON block of a page."""
    found = re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page)
    assert found is not None
    return json.loads(found[1])


def page_items(folder: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Of each item of the page in a folder: its entries in the index, and its details."""
    index = embedded((folder / "index.html").read_text(), "index")
    details = []
    for number, path in enumerate(sorted((folder / "items").glob("*.js"))):
        head, body = path.read_text().split(", ", 1)
        assert head == f"chunk({number}"
        details += json.loads(body.removesuffix(")"))
    assert len(details) == len(index["id"])
    for place, one in enumerate(details):
        entry = {name: index[name][place] for name in COLUMNS}
        entry["prompt"] = index["prompts"][entry["prompt"]]
        entry["generator"] = index["generators"][entry["generator"]]
        yield entry, one


def compare_with_tables(root: Path) -> int:
    """Compare every value of the page with the stages' tables; returns the number of items."""
    data = root / "data"
    read = lambda name: pd.read_parquet(data / f"{name}.parquet")  # noqa: E731
    keys = ["item_id", "dimension"]
    index = embedded((root / "reports/viewer/index.html").read_text(), "index")
    names, levels = [name for name, _ in index["dimensions"]], np.array(index["levels"])
    items = read("validate/items").set_index(keys)
    predictions = read("evaluate/predictions")
    teacher = predictions[predictions["model"] == "teacher"].set_index(keys)
    student = predictions[predictions["model"] == "student"].set_index(keys)
    labels = read("label/labels").set_index(keys)
    pool = read("evaluate/pool_predictions").set_index(keys)
    made = pd.concat([read("candidates/items"), read("candidates/pool")]).set_index("item_id")
    ratings = dict(iter(read("ingest/ratings").groupby(keys)))
    traces = pd.concat(map(pd.read_parquet, sorted((data / "label/traces").glob("*"))))
    traces = traces.groupby(keys)["trace"].agg(list)
    people = json.loads((data / "validate/audit.json").read_text())["annotators"]
    expected = {*predictions["item_id"], *pool.index.get_level_values(0)}
    seen = set()
    for entry, details in page_items(root / "reports/viewer"):
        seen.add(entry["id"])
        assert entry["prompt"] == made.loc[entry["id"], "prompt"]
        assert entry["generator"] == made.loc[entry["id"], "generator"]
        for d, name in enumerate(names):
            key = (entry["id"], name)
            of_teacher, of_student = (teacher, student) if entry["is_test"] else (labels, pool)
            for model, table in (("teacher", of_teacher), ("student", of_student)):
                probs = np.asarray(table.loc[key, "probs"])
                np.testing.assert_allclose(details[model][d], 1000 * probs, atol=0.51)
                np.testing.assert_allclose(entry[model][d], probs @ levels, atol=6e-4)
            if not entry["is_test"]:
                assert entry["score"][d] is None and details["ratings"][d] == []
                assert details["traces"][d] == traces[key]
                continue
            assert details["traces"][d] == [teacher.loc[key, "trace"]]
            assert abs(entry["score"][d] - items.loc[key, "score"]) < 6e-4
            histogram = np.asarray(items.loc[key, "histogram"])
            np.testing.assert_allclose(details["histogram"][d], 1000 * histogram, atol=0.51)
            rows = ratings[key]
            out = [int(not people[one]["included"]) for one in rows["annotator_id"]]
            columns = rows["annotator_id"], rows["score"], rows["row_ref"], out
            given = [list(row) for row in zip(*columns, strict=True)]
            assert details["ratings"][d][: len(given)] == given
            included = rows["score"][[not one for one in out]]
            assert entry["lowest"][d] <= included.min() + 6e-4
            assert entry["highest"][d] >= included.max() - 6e-4
    assert seen == expected
    return len(seen)

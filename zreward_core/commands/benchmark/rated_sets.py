"""Sets of absolute ratings: GenAI-Bench (CMU) and EvalMuse-40K."""

from pathlib import Path

import numpy as np

from zreward_core.annotations.ingest.public_sets import load_public_set
from zreward_core.commands.benchmark.rows import Row, find_files, format_rows, json_rows
from zreward_core.commands.benchmark.tables import RatedSet, SetImage, padded
from zreward_core.config import UserError

MAX_NAMED = 3
"""Rows that a note names."""


def read_genai_bench_cmu(folder: Path, title: str) -> RatedSet:
    """GenAI-Bench of CMU: alignment from 1 to 5 by three annotators per image.

    Source: github.com/linzhiqiu/t2v_metrics, dataset.py, ``GenAIBench_Image``: genai_image.json,
    images at MODEL/PROMPT.jpeg.
    """
    known = load_public_set("genai_bench")
    columns = known.settings["columns"]
    path, *_ = find_files(folder, (known.settings["files"],), title)
    rows = list(format_rows(path, known.format, (*columns.values(), "id")))
    images = [
        SetImage(row.text(columns["prompt"]), _named(row), (f"{row.text(columns['image'])}.jpeg",))
        for row in rows
    ]
    scores = [row.numbers(columns["scores"]) for row in rows]
    return _rated(images, scores, known.settings["scale"], [])


def _named(row: Row) -> str:
    return f"{row.place} (prompt {row.get('id')}, {row.get('model')})"


def read_evalmuse(folder: Path, title: str) -> RatedSet:
    """EvalMuse-40K: alignment from 1 to 5, by each annotator or averaged.

    Source: github.com/DYEvaLab/EvalMuse, process/process_train.py (train_list.json has the list of
    the annotators' scores, train.json their mean), NTIRE2025/Track1_Alignment/evaluate.py
    (eval.json) and README.md (the scores of test.json are not published); images in images/.
    """
    known = load_public_set("evalmuse")
    columns = known.settings["columns"]
    files = tuple(f"**/{name}.json" for name in ("eval", "test", "train_list", "train"))
    for pattern in files:
        for path in sorted(folder.glob(pattern)):
            rows = list(json_rows(path))
            if rows[0].get(columns["scores"]) is not None:
                return _evalmuse(rows, known.settings, path)
    path, *_ = find_files(folder, files, title)
    raise UserError(f"{path}: no '{columns['scores']}' in its first record: without ratings")


def _evalmuse(rows: list[Row], settings: dict, path: Path) -> RatedSet:
    columns = settings["columns"]
    images, scores = [], []
    for row in rows:
        name = row.text(columns["image"])
        images.append(SetImage(row.text(columns["prompt"]), row.place, (f"images/{name}", name)))
        value = row.get(columns["scores"])
        single = not isinstance(value, list)
        scores.append([row.number(columns["scores"])] if single else row.numbers(columns["scores"]))
    return _rated(images, scores, settings["scale"], [f"read from {path}"])


def _rated(
    images: list[SetImage], scores: list[list[float]], scale: dict, notes: list[str]
) -> RatedSet:
    written = np.array([np.mean(one) for one in scores])
    matrix = padded(scores)
    outside = (matrix < scale["min"]) | (matrix > scale["max"])
    matrix[outside] = np.nan
    if outside.any():
        rows = np.flatnonzero(outside.any(axis=1))
        named = "; ".join(images[row].place for row in rows[:MAX_NAMED])
        more = f" and {len(rows) - MAX_NAMED} more" if len(rows) > MAX_NAMED else ""
        notes.append(
            f"{outside.sum()} ratings outside {scale['min']}-{scale['max']} are left out, except"
            f" under the rules 'as written': {named}{more}"
        )
    empty = np.isnan(matrix).all(axis=1)
    if empty.any():
        place = images[int(empty.argmax())].place
        raise UserError(f"{place}: no rating is in range; correct the row or remove it")
    return RatedSet(images, matrix, written, notes)

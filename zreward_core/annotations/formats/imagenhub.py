"""ImagenHub ratings: one TSV per rater, a row per prompt, a column per model, cells ``[SC, PQ]``.

SC (semantic consistency) and PQ (perceptual quality) are 0, 0.5 or 1. Source:
https://github.com/TIGER-AI-Lab/ImagenHub, eval/human_ratings (Text-To-Image_rater1.tsv ...); cells
are written as ``[0.5, 1]`` or ``[0.5,1]``.
"""

import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zreward_core.annotations.formats.encodings import encoding_of
from zreward_core.annotations.formats.records import Records, Wanted, batches_of, parse_json


def read_imagenhub(path: Path, wanted: Wanted) -> Iterator[Records]:
    """Read a record per prompt and model: uid, model, image, rater, sc, pq."""
    encoding = encoding_of(path, wanted).name
    found = re.search(r"rater[ _-]?(\w+)", path.stem)
    rater = found.group(1) if found else path.stem

    def records() -> Iterator[tuple[int, Any]]:
        with path.open(encoding=encoding, errors="replace", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t")
            for number, row in enumerate(rows, start=2):
                uid = row.pop("uid", None)
                for model, cell in row.items():
                    if model is None or uid is None:
                        yield number, json.dumps(cell)
                        continue
                    shared = {"uid": uid, "model": model, "image": f"{model}/{uid}", "rater": rater}
                    yield number, _rated(shared, cell)

    return batches_of(records(), wanted, "row")


def _rated(shared: dict[str, str], cell: str | None) -> dict[str, Any]:
    try:
        pair = parse_json(cell or "[]")
    except ValueError:
        pair = [cell, cell]
    if not isinstance(pair, list):
        pair = [cell, cell]
    sc, pq = [*pair, None, None][:2]
    return {**shared, "sc": sc, "pq": pq}

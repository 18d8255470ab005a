"""`zreward gsb export`: the blind pairs of `evaluate_gsb` as a Label Studio project."""

import shutil
from pathlib import Path

import pandas as pd

from zreward_core.annotations.label_studio.project import pair_config
from zreward_core.commands.people.export import IMAGES, unpack
from zreward_core.config import UserError
from zreward_core.rubric import load_rubric
from zreward_core.schemas import digest, write_json

JUDGED = Path("data/evaluate_gsb")
COLUMNS = ("prompt", "prompt_id", "left", "left_image_id", "right_image_id")


def export_pairs(folder: Path, address: str) -> str:
    """Write labeling_config.xml, tasks.json and images/, without revealing the generators.

    Args:
        folder: destination; an earlier export in it is replaced.
        address: prefix of the files where Label Studio serves the folder.

    Returns:
        A summary in one sentence.

    Raises:
        UserError: `evaluate_gsb` has not run.
    """
    pairs = load_pairs()
    shutil.rmtree(folder / IMAGES, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    identifiers = pd.concat([pairs["left_image_id"], pairs["right_image_id"]])
    names = unpack(identifiers, [JUDGED / "images"], folder / IMAGES)
    (folder / "labeling_config.xml").write_text(pair_config(load_rubric()), encoding="utf-8")
    tasks = [
        {
            "data": {
                "pair": name,
                "prompt": row["prompt"],
                "left": f"{address}{IMAGES}/{names[row['left_image_id']]}",
                "right": f"{address}{IMAGES}/{names[row['right_image_id']]}",
            }
        }
        for name, row in zip(pairs.index, pairs.to_dict("records"), strict=True)
    ]
    write_json(tasks, folder / "tasks.json")
    return f"{folder}: {len(tasks)} blind pairs"


def load_pairs() -> pd.DataFrame:
    """``COLUMNS`` of each pair in display order, indexed by an opaque name.

    Raises:
        UserError: `evaluate_gsb` has not run, or its table lacks columns.
    """
    file = JUDGED / "judgements.parquet"
    if not file.is_file():
        raise UserError(f"{file} not found: run `zreward evaluate_gsb`")
    table = pd.read_parquet(file)
    missing = sorted(set(COLUMNS) - set(table.columns))
    if missing:
        raise UserError(f"{file} lacks the columns {missing}: run `zreward evaluate_gsb` again")
    names = [
        digest("pair", str(place), *(str(row[key]) for key in COLUMNS[3:]))
        for place, row in enumerate(table.to_dict("records"))
    ]
    return table[list(COLUMNS)].set_axis(names, axis="index")

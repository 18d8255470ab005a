"""`zreward annotate export`: a folder that Label Studio can serve, and a task file per annotator.

The community edition has no queues of overlapping work, so tasks are assigned to annotators here:
one project per annotator, with the tasks of their file.
"""

import shutil
from collections import defaultdict
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from zreward_core.annotations.items.splits import split_of
from zreward_core.annotations.label_studio.assignment import assign
from zreward_core.annotations.label_studio.exemplar_sheet import exemplar_sheet
from zreward_core.annotations.label_studio.exemplars import FILE, load_exemplars
from zreward_core.annotations.label_studio.project import rating_config
from zreward_core.commands.image_lookup import read_images
from zreward_core.commands.rubric_page import write_rubric_page
from zreward_core.config import Splits, UserError, read_params
from zreward_core.rubric import Rubric, load_rubric
from zreward_core.schemas import (
    CANDIDATES,
    digest,
    how_to_make,
    normalise_prompt,
    read_table,
    write_json,
)

CANDIDATES_FOLDER = Path("data/candidates")
IMAGES, EXEMPLARS, TASKS = "images", "exemplars", "tasks"
SUFFIXES = {b"\xff\xd8": ".jpg", b"\x89P": ".png", b"RI": ".webp", b"GI": ".gif"}

Task = dict[str, Any]


def export_annotation(
    folder: Path, num_annotators: int, overlap: int, address: str, single: bool = False
) -> str:
    """Write labeling_config.xml, tasks/, images/, exemplars/ and rubric.html.

    Args:
        folder: destination; an earlier export in it is replaced.
        num_annotators: number of annotators.
        overlap: annotators per prompt; 0: by split, from ``annotate.overlap``.
        address: prefix of the files where Label Studio serves the folder.
        single: one image per task, with hotkeys, instead of all images of its prompt.

    Returns:
        A summary in one sentence.

    Raises:
        UserError: there are no candidates, or too few annotators.
    """
    rubric = load_rubric()
    items = read_table(CANDIDATES_FOLDER / "items.parquet", CANDIDATES)
    if items.empty:
        raise UserError(f"{CANDIDATES_FOLDER}/items.parquet is empty: run `zreward candidates`")
    by_split = overlaps(overlap, num_annotators)
    for name in (IMAGES, EXEMPLARS, TASKS):
        shutil.rmtree(folder / name, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    names = unpack(items["image_id"], [CANDIDATES_FOLDER / "images"], folder / IMAGES)
    sheets = {name: address + sheet for name, sheet in write_sheets(rubric, folder).items()}
    config = rating_config(rubric, sheets, hotkeys=single)
    (folder / "labeling_config.xml").write_text(config, encoding="utf-8")
    write_rubric_page(folder / "rubric.html")
    tasks = prompt_tasks(items, {key: f"{address}{IMAGES}/{file}" for key, file in names.items()})
    num_prompts = len(tasks)
    if single:
        tasks = [task | {"images": [image]} for task in tasks for image in task["images"]]
    shares = share_out(tasks, by_split, num_annotators)
    for number, share in enumerate(shares, start=1):
        write_json(share, folder / TASKS / f"annotator-{number:02d}.json")
    sizes = [len(share) for share in shares]
    return (
        f"{folder}: {num_prompts} prompts with {len(names)} images for {num_annotators} "
        f"annotators, {min(sizes)} to {max(sizes)} tasks each"
    )


def overlaps(overlap: int, num_annotators: int) -> dict[str, int]:
    """Annotators per prompt, by split.

    Raises:
        UserError: a prompt needs more annotators than there are.
    """
    section = (read_params().get("annotate") or {}).get("overlap") or {}
    default = {"train": 1, "validation": 3, "test": 5}
    chosen = dict.fromkeys(default, overlap) if overlap else default | section
    if num_annotators < max(chosen.values()):
        raise UserError(
            f"an overlap of {max(chosen.values())} needs at least as many annotators, not "
            f"{num_annotators}: raise --annotators or lower --overlap"
        )
    return chosen


def unpack(image_ids: pd.Series, shards: list[Path], folder: Path) -> dict[str, str]:
    """Write images as single files.

    Returns:
        Image id to file name.

    Raises:
        UserError: an image is in no shard.
    """
    folder.mkdir(parents=True)
    names = {}
    for identifier, content in read_images(image_ids.dropna(), shards):
        names[identifier] = identifier + SUFFIXES.get(content[:2], ".png")
        (folder / names[identifier]).write_bytes(content)
    missing = sorted(set(image_ids.dropna()) - set(names))
    if missing:
        raise UserError(
            f"image {missing[0]} is in no shard of {shards[0]}: {how_to_make(shards[0])}"
        )
    return names


def write_sheets(rubric: Rubric, folder: Path) -> dict[str, str]:
    """Write a sheet of exemplars per dimension that has some: dimension to file in the folder."""
    source = rubric.exemplars
    if source is None or not (source / FILE).is_file():
        return {}
    exemplars = load_exemplars(source, rubric)
    contents = {one.image: (source / one.image).read_bytes() for one in exemplars}
    (folder / EXEMPLARS).mkdir(parents=True)
    sheets = {}
    for name in rubric.names:
        if any(name in one.scores for one in exemplars):
            sheets[name] = f"{EXEMPLARS}/{name}.png"
            sheet = exemplar_sheet(rubric, name, exemplars, contents)
            (folder / sheets[name]).write_bytes(sheet)
    return sheets


def prompt_tasks(items: pd.DataFrame, addresses: dict[str, str]) -> list[Task]:
    """A task per prompt; neither order nor names reveal the generator of an image."""
    groups: dict[str, dict[str, str]] = defaultdict(dict)
    for prompt, identifier in zip(items["prompt"], items["image_id"], strict=True):
        groups[normalise_prompt(prompt)][identifier] = prompt
    tasks = []
    for key in sorted(groups, key=lambda text: digest("order", text)):
        images = sorted(groups[key], key=lambda one: digest("order", key, one))
        prompt = min(groups[key].values())
        tasks.append({"prompt": prompt, "images": [{"image": addresses[p]} for p in images]})
    return tasks


def share_out(
    tasks: list[Task], by_split: dict[str, int], num_annotators: int
) -> list[list[dict[str, Task]]]:
    """The tasks of each annotator, in Label Studio's form."""
    params = read_params()
    try:
        splits = Splits(**(params.get("splits") or {}))
    except ValidationError as error:
        raise UserError(f"params.yaml: 'splits': {error.errors()[0]['msg']}") from None
    prompts = [task["prompt"] for task in tasks for _ in task["images"]]
    parts = [split_of(prompt, splits) for prompt in prompts]
    assigned = assign(prompts, by_split, parts, num_annotators, int(params.get("seed", 0)))
    shares: list[list[dict[str, Task]]] = [[] for _ in range(num_annotators)]
    for task in tasks:
        for person in assigned[normalise_prompt(task["prompt"])]:
            shares[person].append({"data": task})
    return shares

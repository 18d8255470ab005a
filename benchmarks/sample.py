"""Make the sample of the tutorial: a workbook of ratings and a folder of images.

    python benchmarks/sample.py

It writes zreward_core/project/data/drops/example, which `zreward init` copies: images of the
miniature world by three versions of a generator, the later the better, and the ratings of simulated
annotators as people keep them in Excel, with what such files contain besides ratings.
"""

import datetime
from pathlib import Path

import numpy as np
import openpyxl
from openpyxl.styles import Font

from zreward_core.images import encode_png, image_id
from zreward_core.world.annotators import make_annotators
from zreward_core.world.oracle import judge
from zreward_core.world.prompts import all_prompts
from zreward_core.world.rendering import render
from zreward_core.world.scenes import sample_scene

FOLDER = Path("zreward_core/project/data/drops/example")
SEED = 5
NUM_PROMPTS = 16
VERSIONS = {"v1": 0.2, "v2": 0.5, "v3": 0.8}
"""Version of the generator to the share of its images without a defect, for each aspect."""
RATERS = ("Ana", "Ben", "Chloe", "Deniz", "Emil")
DIMENSIONS = {
    "Matches prompt": "alignment",
    "Looks real": "realism",
    "Beautiful": "aesthetics",
    "Well formed": "plausibility",
}
START = datetime.datetime(2026, 3, 2, 9)


def main() -> None:
    """Write images/ and ratings.xlsx."""
    rng = np.random.default_rng(SEED)
    chosen = rng.choice(all_prompts(), NUM_PROMPTS, replace=False)
    rows = []
    for version, clean_share in VERSIONS.items():
        (FOLDER / "images" / version).mkdir(parents=True, exist_ok=True)
        for number, prompt in enumerate(map(str, chosen), start=1):
            pixels = render(sample_scene(prompt, rng, clean_share))
            content = encode_png(pixels)
            name = f"{version}/{number:03d}.png"
            (FOLDER / "images" / name).write_bytes(content)
            rows.append((name, prompt, image_id(content), judge(pixels, prompt).scores))
    write_workbook(rows, rng)


def write_workbook(rows: list[tuple], rng: np.random.Generator) -> None:
    """A sheet of notes and the sheet of ratings, with gaps and one typing error."""
    book = openpyxl.Workbook()
    notes = book.active
    notes.title = "Read me"
    for line in (
        "Image study, spring 2026",
        "Every rater saw all images in random order.",
        "Stars from 1 to 5, half stars allowed. n/a: could not be judged.",
    ):
        notes.append([line])
    sheet = book.create_sheet("Ratings")
    sheet.append(["Image study, spring 2026"])
    sheet.append([])
    sheet.append(["Rater", "Date", "File", "Model", "Prompt", *DIMENSIONS, "Comment"])
    for cell in (*sheet[1], *sheet[3]):
        cell.font = Font(bold=True)
    for name, rater in zip(RATERS, make_annotators(len(RATERS), SEED), strict=True):
        time = START
        for index in rng.permutation(len(rows)):
            file, prompt, identifier, scores = rows[index]
            time += datetime.timedelta(seconds=round(rater.seconds(identifier, prompt)))
            given = rater.rate(scores, identifier, prompt)
            stars = [given[one] if given else "n/a" for one in DIMENSIONS.values()]
            place = "C:\\study\\images\\" + file.replace("/", "\\")
            comment = None if given else "did not load"
            sheet.append([name, time, place, file[:2], prompt, *stars, comment])
    sheet["F10"] = 55
    sheet["G20"] = None
    sheet.column_dimensions["C"].width = sheet.column_dimensions["E"].width = 40
    book.save(FOLDER / "ratings.xlsx")


if __name__ == "__main__":
    main()

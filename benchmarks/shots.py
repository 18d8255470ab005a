"""Copy screenshots of the pages into docs/images, and show them at their places in the docs.

    ZREWARD_PAGES_WORKSPACE=... pytest tests/pages && python benchmarks/shots.py [NAME ...]

The tests of tests/pages write the screenshots. A place is a line ``<!-- shot NAME: caption -->`` in
docs/; it becomes the image. Screenshots that were not taken are named and left out.
"""

import re
import sys
from pathlib import Path

import numpy as np
from PIL import Image

TAKEN, DOCS = Path("build/pages"), Path("docs")
PLACE = re.compile(r"^<!-- shot (\w+): (.+) -->$", re.MULTILINE)
Box = tuple[int, int, int, int]
WHOLE: Box = (0, 0, 10_000, 10_000)
ASSET: Box = (240, 60, 1084, 10_000)
"""Left, top, right and bottom of the middle column on the page of an asset, pixels."""
SHOTS: dict[str, tuple[str, Box]] = {
    "viewer": ("viewer", WHOLE),
    "dagster_home": ("home", (0, 0, 1440, 260)),
    "dagster_train": ("train_gdso", (240, 60, 1084, 2385)),
    "dagster_evaluate": ("evaluate", (240, 60, 1084, 2183)),
    "dagster_graph": ("graph", WHOLE),
    "dagster_promotion": ("promotion", ASSET),
    "reports": ("chain_reports", (0, 0, 900, 420)),
    "dagster_validate": ("validate", ASSET),
    "mlflow_runs": ("mlflow_runs", WHOLE),
    "mlflow_curves": ("mlflow_curves", WHOLE),
    "mlflow_comparison": ("mlflow_comparison", (205, 0, 1440, 1040)),
    "mlflow_model": ("mlflow_model", (205, 0, 1440, 960)),
    "mlflow_samples": ("mlflow_samples", (0, 0, 1440, 740)),
    "audit": ("audit", (0, 0, 1440, 1742)),
    "rubric": ("rubric", (0, 0, 1440, 1664)),
    "data_docs": ("data_docs", (0, 0, 1440, 518)),
    "server_form": ("server_form", (0, 0, 1440, 990)),
    "comparison": ("comparison", WHOLE),
}
"""Image in docs/images to the screenshot and the part of it that is shown."""
NUM_COLOURS = 256


def main() -> None:
    """Copy the named screenshots, or all, and fill their places."""
    for name in sys.argv[1:] or SHOTS:
        shot, box = SHOTS[name]
        path = TAKEN / f"{shot}.png"
        if not path.is_file():
            print(f"{name}: {path} not found, left out")
            continue
        target = DOCS / "images" / f"{name}.png"
        shown = cropped(Image.open(path), box)
        # the median cut, Pillow's default, turns small colourful areas grey
        method = Image.Quantize.MAXCOVERAGE
        shown.quantize(NUM_COLOURS, method=method, kmeans=3).save(target, optimize=True)
        for page in DOCS.glob("*.md"):
            text = page.read_text()
            if (filled := fill(text, name)) != text:
                page.write_text(filled)


def cropped(image: Image.Image, box: Box) -> Image.Image:
    """A part of an image without the empty rows at its end."""
    left, top, right, bottom = box
    image = image.convert("RGB").crop(
        (left, top, min(right, image.width), min(bottom, image.height))
    )
    rows = np.asarray(image).reshape(image.height, -1)
    filled = np.flatnonzero((rows != rows[-1]).any(axis=1))
    return image.crop((0, 0, image.width, min(image.height, int(filled[-1]) + 20)))


def fill(text: str, name: str) -> str:
    """A page with the image at the place for it."""
    return PLACE.sub(
        lambda found: f"![{found[2]}](images/{name}.png)" if found[1] == name else found[0], text
    )


if __name__ == "__main__":
    main()

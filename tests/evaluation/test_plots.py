"""Every figure is a small, reproducible PNG and handles sparse data."""

import io

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from zreward_core.evaluation.claims import judge_claims
from zreward_core.evaluation.figures import MAX_BYTES
from zreward_core.evaluation.image_sheets import (
    BeforeAfter,
    DimensionExample,
    Example,
    plot_before_after,
    plot_examples,
    upscale,
)
from zreward_core.evaluation.plots import (
    plot_curves,
    plot_dimensions,
    plot_hpa,
    plot_reliability,
    smooth,
)
from zreward_core.evaluation.summary import summary_table

LEVELS = [1.0, 2.0, 3.0, 4.0, 5.0]
DIMENSIONS = ["alignment", "realism"]
HISTORY = [
    {"step": step, "reward/alignment": 3 + 0.01 * step, "reward/realism": 3.0} for step in range(20)
]
EMPTY = {"hpa": None, "hpa_low": None, "hpa_high": None, "num_pairs": 0}
ENTRY = {
    "hpa": 0.7,
    "hpa_low": 0.6,
    "hpa_high": 0.8,
    "margin_hpa": 0.9,
    "plcc": 0.5,
    "srcc": 0.4,
    "nll": 1.2,
    "ece": None,
    "num_pairs": 9,
    "output_tokens": 1.0,
}
METRICS = {
    "models": {
        "zero_shot": {"overall": ENTRY, "alignment": ENTRY, "realism": EMPTY},
        "student": {"overall": ENTRY, "alignment": ENTRY, "realism": ENTRY},
    },
    "reference": {"oracle": {"overall": ENTRY, "alignment": ENTRY, "realism": EMPTY}},
}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3)).astype(np.uint8)


def figures() -> dict:
    scores = np.linspace(1, 5, 50)
    dimension = DimensionExample(
        np.eye(5)[2], {"teacher": np.full(5, 0.2), "student": np.eye(5)[3]}, "costs $5 and $6 " * 30
    )
    examples = [Example("a $100 note and a $", noise(40, 60), dict.fromkeys(DIMENSIONS, dimension))]
    rows = [BeforeAfter("a red ball " * 20, noise(64, 48), noise(300, 400), "3.1 → 3.8")] * 3
    return {
        "reliability": lambda path: plot_reliability({"student": scores}, scores, LEVELS, path),
        "curves": lambda path: plot_curves(
            HISTORY, {"reward/realism": "reward", "absent": "absent"}, "Training", path
        ),
        "one_step": lambda path: plot_curves(HISTORY[:1], {"reward/realism": "r"}, "One", path),
        "dimensions": lambda path: plot_dimensions(
            HISTORY, {"reward": "reward", "panel": "panel"}, DIMENSIONS, "Scores", path
        ),
        "hpa": lambda path: plot_hpa(METRICS, DIMENSIONS, path),
        "examples": lambda path: plot_examples(examples, LEVELS, path),
        "before_after": lambda path: plot_before_after(rows, path),
    }


@pytest.mark.parametrize("name", sorted(figures()))
def test_figures_are_small_and_reproducible(name, tmp_path):
    for run in ("first", "second"):
        figures()[name](tmp_path / run / f"{name}.png")
    content = (tmp_path / "first" / f"{name}.png").read_bytes()
    assert len(content) < MAX_BYTES
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        assert min(image.size) > 150
    assert content == (tmp_path / "second" / f"{name}.png").read_bytes()


def test_small_images_are_enlarged_by_an_integer_factor():
    pixels = noise(30, 20)
    grown = upscale(pixels, 100)
    assert grown.shape == (90, 60, 3)
    assert (grown[::3, ::3] == pixels).all()
    assert upscale(noise(400, 200), 100).shape == (100, 50, 3)


def test_smoothing_by_hand():
    values = np.array([0.0, 3.0, 6.0, 3.0])
    np.testing.assert_allclose(smooth(values, 3), [1.5, 3.0, 4.0, 4.5])
    np.testing.assert_allclose(smooth(values, 1), values)


def test_summary_shows_models_gsb_and_claims():
    gsb = {"overall": {"good": 6, "same": 3, "bad": 1, "gsb": 0.5, "low": 0.2, "high": 0.7}}
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(summary_table(METRICS, gsb, judge_claims(METRICS, {}, gsb)))
    text = console.export_text()
    assert "0.700 [0.600, 0.800]" in text
    assert "+0.50 [+0.20, +0.70]" in text
    assert "oracle (ceiling)" in text
    assert "[95 % interval]" in text
    assert "NO" in text
    assert "yes" in text
    assert text.index("zero-shot") < text.index("student  ")


def test_summary_tells_the_range_over_base_models():
    bases = [
        {"seed": seed, "teacher": 0.81 + seed / 100, "student": 0.8, "gsb": 0.5 - seed / 10}
        for seed in (1, 2)
    ]
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(summary_table(METRICS, bases=bases))
    assert "HPA of teacher 0.820 to 0.830, student 0.800 to 0.800; GSB +0.30 to +0.40" in (
        console.export_text()
    )


def test_summary_shows_votes_apart():
    entry = {"hpa": 0.75, "hpa_low": 0.5, "hpa_high": 1.0, "num_pairs": 12, "num_ties": 5}
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(summary_table(METRICS | {"votes": {"student": {"overall": entry}}}))
    row = next(line for line in console.export_text().splitlines() if "0.750" in line)
    assert row.split() == ["student", "0.750", "[0.500,", "1.000]", "12", "5"]

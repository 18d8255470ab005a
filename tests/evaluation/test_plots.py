"""Every figure is a reproducible PNG, no wider than a page, and handles sparse data."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageColor
from rich.console import Console
from scipy.ndimage import label

from zreward_core.evaluation import comparison_plots
from zreward_core.evaluation.claims import judge_claims
from zreward_core.evaluation.comparison_plots import (
    SIZE_COLOURS,
    plot_matrix,
    plot_methods,
    plot_training,
    plot_tuning,
)
from zreward_core.evaluation.figures import DPI, drawn, step_axis
from zreward_core.evaluation.image_sheets import (
    COLUMN,
    MAX_TRACE_LINES,
    BeforeAfter,
    DimensionExample,
    Example,
    plot_before_after,
    plot_examples,
    plot_grid,
)
from zreward_core.evaluation.plots import (
    plot_curves,
    plot_dimensions,
    plot_hpa,
    plot_reliability,
    smooth,
)
from zreward_core.evaluation.summary import summary_table
from zreward_core.sheets import GAP, wrapped

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
METHOD = {"method": "risd", "size": "student", "hpa": 0.803, "hpa_low": 0.79, "hpa_high": 0.81,
          "seeds": [0.803, 0.803, 0.803]}  # fmt: skip
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
        "before_after": lambda path: plot_before_after(rows, "Same prompt, same seed", path),
        "grid": lambda path: plot_grid(
            {"step 0": np.stack([noise(32, 32)] * 6)}, ["a ball " * 40] * 6, "Samples", path
        ),
        "methods": lambda path: plot_methods([METHOD] * 13, 0.9, "Methods", path),
        "training": lambda path: plot_training(
            {"gdso": [HISTORY]}, {"reward/realism": "reward", "absent": "tokens"}, path
        ),
        "matrix": lambda path: plot_matrix(
            dict.fromkeys("abcdefg", np.eye(4)), list("klmn"), list("defg"), "Points lost", path
        ),
        "tuning": lambda path: plot_tuning(
            {"base": [HISTORY]}, {"reward": "r", "panel": "p", "o": "o"}, DIMENSIONS, "T", path
        ),
    }


@pytest.mark.parametrize("name", sorted(figures()))
def test_figures_fit_a_page_and_are_reproducible(name, tmp_path):
    for run in ("first", "second"):
        figures()[name](tmp_path / run / f"{name}.png")
    content = (tmp_path / "first" / f"{name}.png").read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        assert image.format == "PNG"
        assert min(image.size) > 150
        assert image.width <= 900 or name == "examples"  # which is as wide as its dimensions
    assert content == (tmp_path / "second" / f"{name}.png").read_bytes()


def test_equal_seeds_are_a_dot_each(tmp_path):
    plot_methods([METHOD], None, "Methods", tmp_path / "methods.png")
    with Image.open(tmp_path / "methods.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(float)
    colour = np.array(ImageColor.getrgb(SIZE_COLOURS["student"]))
    blended = 0.7 * colour + 0.3 * 255  # the dots are translucent
    spots, _ = label(np.abs(pixels - blended).max(axis=-1) < 3)
    sizes = np.bincount(spots.ravel())[1:]
    assert (sizes > 5).sum() == 3  # smaller ones are smoothed edges of the other marker


@pytest.mark.parametrize("last", [0, 1, 3, 7, 60, 1400])
def test_steps_are_whole(last):
    figure = Figure((3.0, 2.0), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, last], [1, 2])
    step_axis(axes)
    drawn(figure)
    shown = [tick for tick in axes.get_xticks() if 0 <= tick <= last]
    assert shown and all(tick == round(tick) for tick in shown) and figure.dpi == DPI


def test_the_matrix_names_both_axes(tmp_path, monkeypatch):
    kept = []
    monkeypatch.setattr(comparison_plots, "save", lambda figure, path: kept.append(figure))
    plot_matrix({"a": np.eye(2)}, ["grain", "blur"], DIMENSIONS, "Points lost", tmp_path / "m.png")
    (figure,) = kept
    axes = figure.axes[0]
    assert (axes.get_ylabel(), figure.get_supxlabel()) == ("defect", "dimension")
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["grain", "blur"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == DIMENSIONS


def test_long_traces_and_prompts_wrap(tmp_path):
    rng = np.random.default_rng(0)
    words = [
        "composition",
        "keeps",
        "inconsistent",
        "reflection",
        "illegible",
        "light",
        "of",
        "the",
        "a",
    ]
    trace, prompt = (" ".join(rng.choice(words, number)) for number in (300, 80))
    shown = DimensionExample(np.eye(5)[2], {"teacher": np.full(5, 0.2)}, trace)
    example = Example(prompt, noise(64, 64), dict.fromkeys("abcd", shown))
    plot_examples([example] * 2, LEVELS, tmp_path / "examples.png")
    lines = wrapped(trace, COLUMN, MAX_TRACE_LINES)
    assert " ".join(lines) == trace and len(lines) > 40
    with Image.open(tmp_path / "examples.png") as image:
        pixels = np.asarray(image.convert("L"))
    assert pixels.shape[0] > 2 * 16 * len(lines)
    right = pixels[80:, COLUMN + GAP :: COLUMN + GAP]  # the last column of the gaps
    assert (right[:, :5] == 255).all(), "text stays within its column"


def test_smoothing_by_hand():
    values = np.array([0.0, 3.0, 6.0, 3.0])
    np.testing.assert_allclose(smooth(values, 3), [0.0, 3.0, 4.0, 4.5])
    np.testing.assert_allclose(smooth(values, 1), values)


def test_summary_shows_models_gsb_and_claims():
    gsb = {"overall": {"good": 6, "same": 3, "bad": 1, "gsb": 0.5, "low": 0.2, "high": 0.7}}
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(summary_table(METRICS, gsb, judge_claims(METRICS, {}, gsb)))
    text = console.export_text()
    assert "0.700 [0.600, 0.800]" in text
    assert "+0.50 [+0.20, +0.70]" in text
    assert "pixel oracle (ceiling)" in text
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

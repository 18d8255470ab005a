"""Best of n, filtering and comparison, on files of scores with known numbers."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy import stats
from typer.testing import CliRunner

from tests.commands.scoring.conftest import png
from zreward_core.cli import app
from zreward_core.commands.scoring.compare import compare_sources, mean_intervals
from zreward_core.commands.scoring.score_file import score_schema
from zreward_core.commands.scoring.selection import filter_scores, rank_scores
from zreward_core.config import UserError

FACTS = {
    "dimensions": ["alignment", "realism"],
    "levels": [1.0, 5.0],
    "weights": [3.0, 1.0],
    "model_sha256": "m",
    "rubric_sha256": "r",
}
PROMPTS = ["a", "a", "a", "b", "b", "c"]
MEANS = [3.0, 4.0, 4.0, 2.0, 1.0, None]
STDS = [0.1, 2.0, 0.5, 0.5, 0.5, None]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_scores(
    path: str, prompts: list[str], means: list, stds: list | None = None, **facts: object
) -> Path:
    """A file of scores in two row groups; realism is always 1, and certain."""
    stds = stds or [None if mean is None else 0.5 for mean in means]
    source = {"paths": ["images.parquet"], "image": None, "prompt": None, "text": None}
    schema = score_schema(
        ["alignment", "realism"], FACTS | {"source": {**source, "images": None}} | facts
    )
    rows = [
        {
            "row": row,
            "place": f"row {row}",
            "image": None,
            "prompt": prompt,
            "alignment_mean": mean,
            "alignment_std": std,
            "realism_mean": None if mean is None else 1.0,
            "realism_std": None if mean is None else 0.0,
            "overall": None if mean is None else (3 * mean + 1) / 4,
            "error": "torn" if mean is None else None,
        }
        for row, (prompt, mean, std) in enumerate(zip(prompts, means, stds, strict=True))
    ]
    pq.write_table(pa.Table.from_pylist(rows, schema), path, row_group_size=2)
    return Path(path)


def test_rank_keeps_the_best_of_each_prompt() -> None:
    scores = write_scores("s.parquet", PROMPTS, MEANS, STDS)
    lines = rank_scores(scores, Path("best.parquet"), 1, "overall", None)
    best = pd.read_parquet("best.parquet")
    assert best["row"].tolist() == [1, 3] and best["rank"].tolist() == [1, 1]  # first of equals
    assert lines[0] == "best.parquet: 2 images of 2 prompts"
    assert "1 prompts have no image with a score: 'c'" in lines[1]
    rank_scores(scores, Path("two.parquet"), 2, "alignment", 1.0)  # bounds 2.9 2 3.5 1.5 .5
    two = pd.read_parquet("two.parquet")
    assert dict(zip(two["row"], two["rank"], strict=True)) == {2: 1, 0: 2, 3: 1, 4: 2}
    assert [*two.columns][:-1] == pq.read_schema(scores).names
    rank_scores(Path("two.parquet"), Path("one.parquet"), 1, "realism", None)
    one = pd.read_parquet("one.parquet")
    assert [*one.columns] == [*two.columns] and one["rank"].tolist() == [1, 1]  # not two of them
    with pytest.raises(UserError, match=r"--by colour: s\.parquet has overall, alignment"):
        rank_scores(scores, Path("x.parquet"), 1, "colour", None)


def test_filter_lists_what_it_drops() -> None:
    scores = write_scores("s.parquet", PROMPTS, MEANS, STDS)
    filter_scores(scores, Path("k.parquet"), 3.0, None, None, "alignment", None)
    assert pd.read_parquet("k.parquet")["row"].tolist() == [0, 1, 2]
    dropped = pd.read_parquet("k.dropped.parquet")
    assert dropped["row"].tolist() == [3, 4, 5]
    assert dropped["reason"].tolist() == [
        "alignment is below 3.0000",
        "alignment is below 3.0000",
        "torn",
    ]
    filter_scores(scores, Path("k.parquet"), None, 0.5, Path("d.parquet"), "overall", None)
    assert pd.read_parquet("k.parquet")["row"].tolist() == [0, 1, 2]  # the median is row 0
    # overall bound: (3 (mean - 2 std) + 1) / 4 = 2.35 .25 2.5 1 .25
    filter_scores(scores, Path("k.parquet"), 1.0, None, None, "overall", 2.0)
    assert pd.read_parquet("k.parquet")["row"].tolist() == [0, 2, 3]
    value = pd.read_parquet("k.dropped.parquet")["value"]
    assert value[:2].tolist() == pytest.approx([0.25, 0.25])
    for bad in ({"threshold": None, "quantile": None}, {"threshold": 1.0, "quantile": 0.5}):
        with pytest.raises(UserError, match="either --threshold or --quantile"):
            filter_scores(scores, Path("k.parquet"), dropped=None, by="overall", k=None, **bad)
    write_scores("none.parquet", ["a"], [None])
    with pytest.raises(UserError, match="no row with a score"):
        filter_scores(Path("none.parquet"), Path("k.parquet"), 1.0, None, None, "overall", None)
    frame = pd.DataFrame({"prompt": ["a"]})
    frame.to_parquet("other.parquet")
    with pytest.raises(UserError, match=r"other\.parquet was not written by `zreward score`"):
        filter_scores(Path("other.parquet"), Path("k.parquet"), 1.0, None, None, "overall", None)


def test_intervals_are_those_of_the_mean_in_blocks_as_well(monkeypatch) -> None:
    values = np.random.default_rng(0).normal(2.0, 1.0, (400, 2))
    whole = mean_intervals(values)
    for interval, column in zip(whole, values.T, strict=True):
        error = stats.sem(column)
        assert interval.value == pytest.approx(column.mean())
        assert interval.low == pytest.approx(column.mean() - 1.96 * error, abs=0.02)
        assert interval.high == pytest.approx(column.mean() + 1.96 * error, abs=0.02)
    monkeypatch.setattr("zreward_core.commands.scoring.compare.BLOCK_COUNTS", 400 * 150)
    for one, two in zip(whole, mean_intervals(values), strict=True):
        assert one.value == two.value and two.low == pytest.approx(one.low, abs=0.02)
    assert math.isnan(mean_intervals(values[:1])[0].low)


def test_compare_pairs_by_prompt_and_shows_the_extremes() -> None:
    prompts = [f"prompt {number}" for number in range(20)]
    table = pa.table({"image": [png(number) for number in range(21)], "prompt": [*prompts, "x<y"]})
    pq.write_table(table, "images.parquet")
    base = [2.0 + 0.05 * number for number in range(20)]
    gains = [0.4] * 18 + [-0.8, 0.0]
    write_scores("base.parquet", [*prompts, "x<y"], [*base, 5.0])
    # another order, two images of a prompt (mean 2.4), and a torn one
    tuned = [*(mean + gain for mean, gain in zip(base, gains, strict=True))]
    write_scores(
        "tuned.parquet",
        [*prompts[::-1], prompts[0], prompts[1]],
        [*tuned[:0:-1], 2.0, 2.8, None],
    )
    lines = compare_sources(
        [Path("base.parquet"), Path("tuned.parquet")], Path("page.html"), None, 2
    )
    assert lines[0] == "20 prompts with a score in every input"
    assert "base: 1 further prompts excluded" in lines
    assert "tuned: 1 images without a score" in lines
    found = json.loads(Path("page.json").read_text())
    (pair,) = found["pairs"]
    expected = np.mean(gains)
    assert pair["difference"]["alignment"]["value"] == pytest.approx(expected, abs=1e-6)
    assert pair["difference"]["overall"]["value"] == pytest.approx(0.75 * expected, abs=1e-6)
    low, high = (pair["difference"]["alignment"][key] for key in ("low", "high"))
    assert 0.1 < low < expected < high <= 0.4 + 1e-6
    assert pair["win_rate"]["alignment"]["value"] == pytest.approx((18 + 0.5) / 20)
    assert pair["win_rate"]["realism"]["value"] == 0.5
    assert found["means"]["tuned"]["alignment"]["value"] == pytest.approx(np.mean(tuned))
    page = Path("page.html").read_text()
    worst = page[page.index("the lowest difference") :]
    assert worst.index("prompt 18") < worst.index("prompt 19") and "prompt 5" not in worst
    assert "http" not in page.replace("http-equiv", "") and "<script" not in page
    assert page.count("data:image/png;base64") >= 4  # of base; the rows of tuned differ now
    assert "the image is no longer there" in page


def test_compare_refuses_what_cannot_be_compared() -> None:
    a = write_scores("a.parquet", ["x"], [2.0])
    other = write_scores("b.parquet", ["x"], [2.0], model_sha256="other")
    apart = write_scores("c.parquet", ["z"], [2.0])
    half = write_scores("d.parquet", ["x"], [2.0], job={"dtype": "bfloat16"})
    Path("photos").mkdir()
    for paths, message in (
        ([a], "two or more"),
        ([a, other], r"a\.parquet and b\.parquet differ in model_sha256"),
        ([a, half], r"a\.parquet and d\.parquet were scored in None and bfloat16"),
        ([a, apart], "no prompt in common"),
        ([a, Path("photos")], "photos is not a file of scores: .*--model"),
        ([a, a], "given twice"),
        ([a, Path("nothing")], "^nothing is not found"),
    ):
        with pytest.raises(UserError, match=message):
            compare_sources(paths, Path("page.html"), None, 2)
    with pytest.raises(UserError, match=r"must end with \.html"):
        compare_sources([a, apart], Path("page.txt"), None, 2)


def test_files_that_are_not_scores_are_refused_with_the_command() -> None:
    Path("photos").mkdir()
    Path("table.csv").write_text("image,prompt\n")
    for name, message in (
        ("photos", "photos is a folder: give a file of `zreward score`"),
        ("table.csv", "table.csv is not a readable Parquet file .*write it with `zreward score`"),
        ("nothing", "nothing is not found: write it with `zreward score`"),
    ):
        with pytest.raises(UserError, match=message):
            rank_scores(Path(name), Path("best.parquet"), 1, "overall", None)
    Path("photos.parquet").mkdir()
    with pytest.raises(UserError, match=r"--output photos\.parquet is a folder: name a file"):
        rank_scores(Path("nothing"), Path("photos.parquet"), 1, "overall", None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(columns="overall"), "lacks column overall"),
        (lambda frame: frame.astype({"realism_std": str}), "realism_std has the type"),
    ],
)
def test_scores_with_changed_columns_are_refused(change, message: str) -> None:
    path = write_scores("scores.parquet", PROMPTS, MEANS, STDS)
    table = pq.read_table(path)
    changed = pa.Table.from_pandas(change(table.to_pandas()), preserve_index=False)
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    for command in (["rank", path, "--top", "1"], ["filter", path, "--quantile", "0.5"]):
        arguments = [*map(str, command), "--output", "o.parquet"]
        with pytest.raises(UserError, match=message):
            CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_a_single_prompt_has_no_interval() -> None:
    sides = [write_scores(f"{name}.parquet", ["x"], [mean]) for name, mean in (("a", 2), ("b", 3))]
    lines = compare_sources(sides, Path("page.html"), None, 2)
    assert "  alignment        +1.000, wins 100.0%" in lines and "nan" not in "".join(lines)


@pytest.mark.parametrize(
    "options",
    [
        ["--threshold", "nan"],
        ["--threshold", "inf"],
        ["--threshold", "1", "--lower-bound", "inf"],
        ["--threshold", "1", "--lower-bound", "nan"],
        ["--quantile", "nan"],
        ["--threshold", "1", "--dropped", "scores.parquet"],
        ["--threshold", "1", "--dropped", "k.parquet"],
    ],
)
def test_filter_refuses_numbers_and_files_that_cannot_be(options: list[str]) -> None:
    before = write_scores("scores.parquet", PROMPTS, MEANS, STDS).read_bytes()
    done = CliRunner().invoke(app, ["filter", "scores.parquet", "--output", "k.parquet", *options])
    reason = str(done.exception) if isinstance(done.exception, UserError) else done.output
    assert isinstance(done.exception, UserError) or done.exit_code == 2
    assert options[-2] in reason and not Path("k.parquet").exists()
    assert Path("scores.parquet").read_bytes() == before


def test_folders_are_scored_and_compared(student: str) -> None:
    for name in ("first", "second", "third"):
        Path(name).mkdir()
        for number in range(3):
            pixels = np.random.default_rng([number, len(name)]).integers(0, 256, (300, 20, 3))
            Image.fromarray(pixels.astype(np.uint8)).save(f"{name}/{number}.png")
            Path(f"{name}/{number}.txt").write_text(f"cat {number}")
    paths = [Path("first"), Path("second"), Path("third")]
    compare_sources(paths, Path("page.html"), student, 1)
    found = json.loads(Path("page.json").read_text())
    assert [(one["first"], one["second"]) for one in found["pairs"]] == [
        ("first", "second"),
        ("first", "third"),
        ("second", "third"),
    ]
    assert Path("page.html").read_text().count("data:image/jpeg;base64") == 2 * 2 * 3
    compare_sources(paths, Path("page.html"), student, 1)  # scores are kept


def test_the_commands_take_their_options() -> None:
    from typer.testing import CliRunner

    scores = str(write_scores("s.parquet", PROMPTS, MEANS, STDS))
    write_scores("t.parquet", PROMPTS, MEANS[::-1], STDS[::-1])
    invoke = CliRunner().invoke
    for arguments in (
        ["rank", scores, "--output", "r.parquet", "--top", "2", "--lower-bound", "1"],
        ["filter", scores, "--output", "f.parquet", "--quantile", "0.2", "--by", "realism"],
        ["compare", scores, "t.parquet", "--output", "c.html", "--examples", "1"],
    ):
        done = invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert "parquet" in done.output or "c.html" in done.output

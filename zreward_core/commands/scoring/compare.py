"""`zreward compare`: scores of the same prompts from several generators or checkpoints.

Shapes: N prompts, C columns (dimensions and overall), M values of a prompt, R resamples.
"""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from zreward_core.commands.scoring.compare_page import Case, write_comparison
from zreward_core.commands.scoring.score_file import OVERALL, ScoreFile, check_output, open_scores
from zreward_core.commands.scoring.sources import require_exist
from zreward_core.config import UserError, writable
from zreward_core.evaluation.bootstrap import (
    NUM_RESAMPLES,
    Interval,
    percentile_bounds,
    resample,
)
from zreward_core.schemas import write_json

SEED = 0
"""Of the resamples."""
BLOCK_COUNTS = 2**24
"""Counts of resamples in memory at a time."""


class Side(NamedTuple):
    """What is compared."""

    name: str
    scores: ScoreFile
    rows: pd.DataFrame
    """row, prompt and the C columns of the scored rows."""


class Figures(NamedTuple):
    """Results over the N prompts that all sides have scores of."""

    columns: list[str]
    prompts: int
    left_out: dict[str, int]
    """Side to its number of prompts that others lack."""
    unscored: dict[str, int]
    """Side to its number of images without a score."""
    means: dict[str, dict[str, Interval]]
    """Side and column to the mean."""
    pairs: list[dict[str, Any]]
    """Of two sides: first, second, difference (second - first) and win_rate by column."""


def compare_sources(
    paths: Sequence[Path], output: Path, model: str | None, num_examples: int
) -> list[str]:
    """Write a page with differences, win rates and examples, and a JSON file beside it.

    Args:
        paths: files of scores, or sources of images, which are scored into a folder beside it.
        output: HTML file.
        model: reward model for the sources.
        num_examples: best and worst prompts that are shown of each side against the first.

    Returns:
        lines of a summary.

    Raises:
        UserError: fewer than two sides, scores of different models, or no prompt in all of them.
    """
    if len(paths) < 2:
        raise UserError("compare needs two or more files of scores, or folders of images")
    check_output(output, ".html")
    names = _names(paths)
    files = [
        _scores(path, output.with_suffix(".scores") / f"{name}.parquet", model)
        for path, name in zip(paths, names, strict=True)
    ]
    _require_one_model(files)
    columns = [OVERALL, *files[0].dimensions]
    sides = [_side(name, file, columns) for name, file in zip(names, files, strict=True)]
    tables, figures = compute_figures(sides, columns)
    cases = {
        (sides[0].name, other.name): _cases(tables[0], tables[index], num_examples)
        for index, other in enumerate(sides[1:], start=1)
    }
    write_json(_plain(figures), output.with_suffix(".json"))
    write_comparison(figures, sides, cases, output)
    return [*_lines(figures), f"{writable(str(output))}"]


def _names(paths: Sequence[Path]) -> list[str]:
    """Short distinct names of the sides."""
    names = [writable(path.resolve().stem) for path in paths]
    if len(set(names)) < len(names):
        names = [writable(str(path).replace("/", "_")) for path in paths]
    if len(set(names)) < len(names):
        raise UserError(f"{', '.join(names)}: a source is given twice")
    return names


def _scores(path: Path, output: Path, model: str | None) -> ScoreFile:
    if path.suffix == ".parquet" and path.is_file():
        return open_scores(path)
    require_exist([path])
    if model is None:
        raise UserError(
            f"{writable(str(path))} is not a file of scores: write one with `zreward score`, or"
            " give --model to score its images"
        )
    from zreward_core.commands.scoring.rows import Columns
    from zreward_core.commands.scoring.run import score_source  # imports torch

    output.parent.mkdir(exist_ok=True)
    score_source([path], model, output, Columns())
    return open_scores(output)


def _require_one_model(files: Sequence[ScoreFile]) -> None:
    for file in files[1:]:
        for key in ("model_sha256", "rubric_sha256"):
            ours, theirs = files[0].metadata[key], file.metadata[key]
            if ours != theirs:
                raise UserError(
                    f"{files[0].path} and {file.path} differ in {key} ({ours[:12]} and"
                    f" {theirs[:12]}): score all with one model"
                )
        ours, theirs = (one.metadata.get("job", {}).get("dtype") for one in (files[0], file))
        if ours != theirs:  # rounding moves all scores alike
            raise UserError(
                f"{files[0].path} and {file.path} were scored in {ours} and {theirs}: score all"
                " with one --dtype"
            )


def _side(name: str, scores: ScoreFile, columns: Sequence[str]) -> Side:
    stored = {one: OVERALL if one == OVERALL else f"{one}_mean" for one in columns}
    rows = scores.read(["row", "prompt", *stored.values()])
    rows = rows.rename(columns={stored[one]: one for one in columns})
    return Side(name, scores, rows)


def compute_figures(
    sides: Sequence[Side], columns: list[str]
) -> tuple[list[pd.DataFrame], Figures]:
    """Means, differences and win rates, all on the same resamples of prompts.

    A prompt counts once, with the mean of its scored images. A tie is half a win.

    Returns:
        of each side a table with a row per common prompt (its index), and the figures.

    Raises:
        UserError: no prompt has scores in all sides.
    """
    scored = [side.rows[side.rows[OVERALL].notna()] for side in sides]
    tables = [rows.groupby("prompt")[columns].mean() for rows in scored]
    common = tables[0].index
    for table in tables[1:]:
        common = common.intersection(table.index)
    common = common.sort_values()
    if common.empty:
        raise UserError(
            f"{' and '.join(str(side.scores.path) for side in sides)} have no prompt in common"
            " that has scores in all: generate images of the same prompts"
        )
    left_out = {s.name: len(t) - len(common) for s, t in zip(sides, tables, strict=True)}
    unscored = {s.name: len(s.rows) - len(t) for s, t in zip(sides, scored, strict=True)}
    tables = [table.loc[common] for table in tables]
    values = [table.to_numpy(dtype=float) for table in tables]
    pairs = list(combinations(range(len(sides)), 2))
    differences = [values[b] - values[a] for a, b in pairs]
    wins = [np.sign(difference) / 2 + 0.5 for difference in differences]
    found = iter(mean_intervals(np.concatenate([*values, *differences, *wins], axis=1)))

    def take() -> dict[str, Interval]:
        return {column: next(found) for column in columns}

    means = {side.name: take() for side in sides}
    gains = [take() for _ in pairs]
    rates = [take() for _ in pairs]
    rows = [
        {"first": sides[a].name, "second": sides[b].name, "difference": gain, "win_rate": rate}
        for (a, b), gain, rate in zip(pairs, gains, rates, strict=True)
    ]
    return tables, Figures(columns, len(common), left_out, unscored, means, rows)


def mean_intervals(values_NM: np.ndarray, seed: int = SEED) -> list[Interval]:
    """Means over prompts with bootstrap intervals, NaN for a single prompt.

    Resamples are drawn in blocks, so that memory does not grow with the number of prompts.
    """
    number = len(values_NM)
    means_M = values_NM.mean(axis=0)
    if number < 2:
        return [Interval(float(mean), float("nan"), float("nan")) for mean in means_M]
    size = min(NUM_RESAMPLES, max(1, BLOCK_COUNTS // number))
    blocks = [
        resample(number, seed + start, min(size, NUM_RESAMPLES - start)) @ values_NM / number
        for start in range(0, NUM_RESAMPLES, size)
    ]
    means_RM = np.concatenate(blocks)
    return [
        Interval(float(mean), *percentile_bounds(means_R))
        for mean, means_R in zip(means_M, means_RM.T, strict=True)
    ]


def _cases(first: pd.DataFrame, second: pd.DataFrame, number: int) -> list[Case]:
    """The prompts that gain and lose most overall."""
    gains = (second[OVERALL] - first[OVERALL]).sort_values(kind="stable")
    number = min(number, len(gains) // 2)
    best = [Case("best", prompt, gain) for prompt, gain in gains.iloc[::-1][:number].items()]
    worst = [Case("worst", prompt, gain) for prompt, gain in gains.iloc[:number].items()]
    return [*best, *worst]


def _plain(figures: Figures) -> dict[str, Any]:
    def plain(value: Any) -> Any:
        if isinstance(value, Interval):
            return {key: plain(one) for key, one in value._asdict().items()}
        if isinstance(value, dict):
            return {key: plain(one) for key, one in value.items()}
        if isinstance(value, list):
            return [plain(one) for one in value]
        return None if isinstance(value, float) and np.isnan(value) else value

    return plain(figures._asdict())


def _shown(one: Interval, pattern: str) -> str:
    if np.isnan(one.low):  # of a single prompt
        return f"{one.value:{pattern}}"
    return f"{one.value:{pattern}} ({one.low:{pattern}} to {one.high:{pattern}})"


def _lines(figures: Figures) -> list[str]:
    lines = [f"{figures.prompts:,} prompts with a score in every input"]
    lines += [
        f"{name}: {number:,} further prompts excluded"
        for name, number in figures.left_out.items()
        if number
    ]
    lines += [
        f"{name}: {number:,} images without a score"
        for name, number in figures.unscored.items()
        if number
    ]
    for pair in figures.pairs:
        lines.append(f"{pair['second']} - {pair['first']}")
        for column in figures.columns:
            gain, rate = pair["difference"][column], pair["win_rate"][column]
            lines.append(f"  {column:<16} {_shown(gain, '+.3f')}, wins {_shown(rate, '.1%')}")
    return lines

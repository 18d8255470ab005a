"""`zreward rank` and `zreward filter`: some rows of a file of scores.

Shapes: N rows.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from zreward_core.commands.scoring.score_file import (
    NAMED,
    ScoreFile,
    check_output,
    open_scores,
)
from zreward_core.config import UserError, writable
from zreward_core.schemas import replaced

DROPPED = pa.schema(
    [
        *(("row", pa.int64()), ("place", pa.string()), ("image", pa.string())),
        *(("prompt", pa.string()), ("value", pa.float64()), ("reason", pa.string())),
    ]
)
"""Columns of the list of dropped rows."""
RANK = "rank"


def rank_scores(path: Path, output: Path, top: int, by: str, k: float | None) -> list[str]:
    """Write the best images of each prompt; of equal ones the first.

    Args:
        path: file of scores.
        output: Parquet file: the columns of the scores, and rank (1 is the best of its prompt).
        top: images of a prompt.
        by: a dimension, or "overall".
        k: for mean - k std; None for the mean.

    Returns:
        lines of a summary.

    Raises:
        UserError: the file or the dimension does not exist, or no row has a score.
    """
    check_output(output, ".parquet", [path])
    scores = open_scores(path)
    value_N = scores.values(by, k)
    table = scores.read(["prompt"]).assign(value=value_N)
    good = table[np.isfinite(value_N)]
    if good.empty:
        raise UserError(f"{writable(str(path))} has no row with a score")
    ordered = good.sort_values("value", ascending=False, kind="stable")
    rank = ordered.groupby("prompt").cumcount().add(1).sort_index()
    kept = rank[rank <= top]
    _write_rows(scores, output, kept.index.to_numpy(), kept.to_numpy())
    prompts = good["prompt"].nunique()
    lines = [f"{writable(str(output))}: {len(kept):,} images of {prompts:,} prompts"]
    if without := table["prompt"].nunique() - prompts:
        named = table.loc[~table["prompt"].isin(good["prompt"]), "prompt"].dropna().unique()
        shown = ", ".join(repr(prompt[:60]) for prompt in named[:3])
        lines.append(f"{without:,} prompts have no image with a score: {shown}")
    return lines


def filter_scores(
    path: Path,
    output: Path,
    threshold: float | None,
    quantile: float | None,
    dropped: Path | None,
    by: str,
    k: float | None,
) -> list[str]:
    """Write the rows with a sufficient value, and a list of the others.

    Args:
        path: file of scores.
        output: Parquet file: the columns of the scores.
        threshold: least value that is kept.
        quantile: share of the scored rows that is dropped, those with the lowest values.
        dropped: Parquet file (``DROPPED``); OUTPUT.dropped.parquet if None.
        by: a dimension, or "overall".
        k: for mean - k std; None for the mean.

    Returns:
        lines of a summary.

    Raises:
        UserError: not exactly one of threshold and quantile is given, the file or the dimension
            does not exist, or no row has a score.
    """
    if (threshold is None) == (quantile is None):
        raise UserError("give either --threshold or --quantile")
    dropped = output.with_suffix(".dropped.parquet") if dropped is None else dropped
    check_output(output, ".parquet", [path])
    check_output(dropped, ".parquet", [path, output], "--dropped")
    scores = open_scores(path)
    value_N = scores.values(by, k)
    scored_N = np.isfinite(value_N)
    if not scored_N.any():
        raise UserError(f"{writable(str(path))} has no row with a score")
    if threshold is None:
        assert quantile is not None
        threshold = float(np.quantile(value_N[scored_N], quantile))
    kept_N = scored_N & (value_N >= threshold)
    _write_rows(scores, output, np.flatnonzero(kept_N))
    rows = scores.read([*NAMED, "error"])[~kept_N].assign(value=value_N[~kept_N])
    what = by if k is None else f"{by}, mean - {k:g} std,"
    low = pd.Series(f"{what} is below {threshold:.4f}", index=rows.index, dtype=object)
    rows["reason"] = rows["error"].where(rows["error"].notna(), low)
    table = pa.Table.from_pandas(rows[DROPPED.names], DROPPED, preserve_index=False)
    with replaced(dropped) as partial:
        pq.write_table(table.replace_schema_metadata(None), partial)
    unscored = int((~scored_N).sum())
    return [
        f"{writable(str(output))}: {int(kept_N.sum()):,} of {len(kept_N):,} rows, with {what} of at"
        f" least {threshold:.4f}",
        f"{writable(str(dropped))}: {len(rows):,} dropped rows ({unscored:,} have no score)",
    ]


def _write_rows(
    scores: ScoreFile, output: Path, rows: np.ndarray, rank: np.ndarray | None = None
) -> None:
    """Write some rows of a file, given in ascending order, one row group at a time."""
    with pq.ParquetFile(scores.path) as file:
        schema = file.schema_arrow
        if rank is not None:
            if RANK in schema.names:  # of a file of best rows
                schema = schema.remove(schema.get_field_index(RANK))
            schema = schema.append(pa.field(RANK, pa.int64()))
        with replaced(output) as partial, pq.ParquetWriter(partial, schema) as writer:
            for table, first, last in _groups(file):
                start, stop = np.searchsorted(rows, [first, last])
                part = table.take(pa.array(rows[start:stop] - first))
                if rank is not None:
                    part = part.select(schema.names[:-1])
                    part = part.append_column(RANK, pa.array(rank[start:stop], pa.int64()))
                writer.write_table(part.cast(schema))


def _groups(file: pq.ParquetFile) -> Iterator[tuple[pa.Table, int, int]]:
    """Row groups with their first row, and that after their last."""
    first = 0
    for index in range(file.num_row_groups):
        table = file.read_row_group(index)
        yield table, first, first + table.num_rows
        first += table.num_rows

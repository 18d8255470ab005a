"""The table of results on an asset's page, read from the stage's outs."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zreward_core.dvc import Stage

INLINE = 1000
"""Characters up to which Dagster's pages show Markdown in place; a longer one is behind a link."""
TABLES = {
    "base_vlm": ("metrics.json", None),
    "base_generator": ("metrics.json", None),
    "candidates": ("metrics.json", None),
    "ingest": ("summary.json", "sources"),
    "validate": ("audit.json", "annotators"),
    "finetune_generator": ("metrics.json", None),
    "evaluate_gsb": ("gsb.json", None),
}
"""Stage to the file of rows by name, and the key in it, that is shown as a table."""
COLUMN_ORDER = ("before", "after", "change [95 % interval]", "GSB [95 % interval]",
                "good", "same", "bad")  # fmt: skip
"""Columns in reading order; in the files they are sorted alphabetically."""
MAX_COLUMNS = 8
"""A table of more columns than this and than rows is transposed."""
COLUMNS = {"validate": ("included", "num_ratings", "agreement", "bias", "noise")}
"""Columns of tables that have too many; the report has all."""
INTERVALS = {"finetune_generator": "change", "evaluate_gsb": "gsb"}
"""Stage to the number that is shown with its interval, the columns low and high."""
TITLES = {"change": "change [95 % interval]", "gsb": "GSB [95 % interval]"}
"""Its title."""
NAMES = {"validate": "annotator", "ingest": "source", "evaluate_gsb": "dimension"}
"""Stage to the title of the rows' names."""
MODELS = {"zero_shot": "zero-shot", "zero_shot_reasoning": "zero-shot, reasoning"}
"""Model to its title in the table of `evaluate`."""
HISTORY = "history.jsonl"
ROW_TITLES = {"finetune_generator": " / "}
"""Stages whose rows are nested: separator of the two names."""


def result_table(root: Path, stage: Stage) -> str:
    """The stage's results as Markdown: its own table, its curves' ends, or the sizes of its outs.

    Empty if there are no outs.
    """
    folder = root / "data" / stage.name
    if stage.name == "evaluate":
        found = _evaluation_table(read(folder / "metrics.json") or {})
    else:
        found = _rows_table(folder, stage.name) or history_table(read_history(folder))
    return found or _sizes_table(root, stage)


def read(path: Path) -> Any:
    """Content of a JSON file, or None if it does not exist."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def lookup(content: Any, key: str) -> Any:
    """A nested value by its dotted key, or None."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, Mapping) else None
    return content


def markdown_table(header: list[str], rows: list[list[Any]], limit: int = INLINE) -> str:
    """A Markdown table; floats have three decimals.

    Args:
        header: titles of the columns.
        rows: cells.
        limit: characters; the last row counts the rows that do not fit.
    """
    lines = [_row(header), _row(["-"] * len(header))]
    length = sum(len(line) + 1 for line in lines)
    for number, row in enumerate(rows):
        line = _row([_cell(cell) for cell in row])
        length += len(line) + 1
        if length > limit - 40:
            return "\n".join([*lines, _row([f"… {len(rows) - number} more rows"])])
        lines.append(line)
    return "\n".join(lines)


def read_history(folder: Path) -> list[dict[str, float]]:
    """Metrics of the logged steps of a stage that trains; none if it does not.

    The histories of subfolders have the folder's name before those of the metrics.
    """
    rows = []
    for path in [folder / HISTORY, *sorted(folder.glob(f"*/{HISTORY}"))]:
        prefix = "" if path.parent == folder else f"{path.parent.name}/"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        for line in lines:
            row = json.loads(line)
            rows.append({name if name == "step" else prefix + name: row[name] for name in row})
    return rows


def history_table(history: list[dict[str, float]]) -> str:
    """First, lowest, highest and last value of each metric."""
    rows = []
    for name in sorted({name for row in history for name in row} - {"step"}):
        values = [row[name] for row in history if name in row]
        rows.append([name, values[0], min(values), max(values), values[-1]])
    header = ["metric", "first", "lowest", "highest", "last"]
    return markdown_table(header, rows) if rows else ""


def _rows_table(folder: Path, stage: str) -> str:
    file, key = TABLES.get(stage, ("", None))
    content = read(folder / file) if file else None
    rows = lookup(content, key) if key else content
    if not isinstance(rows, Mapping):
        return ""
    if stage in ROW_TITLES:
        rows = {
            f"{outer}{ROW_TITLES[stage]}{inner}": row
            for outer, part in rows.items()
            for inner, row in part.items()
        }
    named = {name: rows[name] for name in sorted(rows, key=natural)}
    named = {name: row for name, row in named.items() if isinstance(row, Mapping)}
    if stage in INTERVALS:
        named = {name: _with_interval(row, INTERVALS[stage]) for name, row in named.items()}
    columns = list(dict.fromkeys(column for row in named.values() for column, value in row.items()
                                 if not isinstance(value, Mapping | list)))  # fmt: skip
    columns.sort(key=lambda name: COLUMN_ORDER.index(name) if name in COLUMN_ORDER else 99)
    columns = list(COLUMNS.get(stage, columns))
    body = [[name, *(row.get(column) for column in columns)] for name, row in named.items()]
    titles = [column.replace("_", " ") for column in columns]
    if len(columns) > max(MAX_COLUMNS, len(named)):  # few rows of many values
        body = [[title, *(row[i] for row in body)] for i, title in enumerate(titles, 1)]
        titles = list(named)
    return markdown_table([NAMES.get(stage, " "), *titles], body) if named else ""


def interval_text(value: float, low: float, high: float, *, sign: str = "") -> str:
    """A number with its interval; a narrow column divides it before the bracket only.

    Args:
        sign: "+" for a difference.
    """
    value, low, high = (round(number, 3) + 0.0 for number in (value, low, high))
    return f"{value:{sign}.3f} [{low:{sign}.3f},\N{NO-BREAK SPACE}{high:{sign}.3f}]"


def _with_interval(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    """A row with one column of text for a number and its bounds, ``low`` and ``high``."""
    kept = {name: row[name] for name in row if name not in (column, "low", "high")}
    value = row["after"] - row["before"] if column == "change" else row.get(column)
    given = [number for number in (value, row["low"], row["high"]) if number is not None]
    return kept | {TITLES[column]: interval_text(*given, sign="+") if len(given) == 3 else None}


def natural(name: str) -> list[tuple[int, str]]:
    """Key that sorts numbers in names by value: 2 before 10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts if part]


def _evaluation_table(metrics: Mapping[str, Any]) -> str:
    rows = []
    for model, parts in metrics.get("models", {}).items():
        whole = parts["overall"]
        interval = interval_text(whole["hpa"], whole["hpa_low"], whole["hpa_high"])
        rows.append(
            [MODELS.get(model, model), interval, *(whole[k] for k in ("plcc", "srcc", "ece"))]
        )
    header = ["model", "HPA [95 % interval]", "PLCC", "SRCC", "ECE"]
    return markdown_table(header, rows) if rows else ""


def _sizes_table(root: Path, stage: Stage) -> str:
    """Rows and columns of each Parquet table, elements of each JSON list, and number of files."""
    from pyarrow.parquet import read_metadata

    rows: list[list[Any]] = []
    for out in stage.outs:
        path = root / out
        inside = [path] if path.is_file() else sorted(path.glob("*"))
        for one in inside:
            name = str(one.relative_to(root))
            if one.is_dir():
                rows.append([name, f"{sum(file.is_file() for file in one.rglob('*'))} files", ""])
            elif one.suffix == ".parquet":
                facts = read_metadata(one)
                rows.append([name, f"{facts.num_rows} rows", f"{facts.num_columns} columns"])
            elif one.suffix == ".json" and isinstance(content := read(one), list):
                rows.append([name, f"{len(content)} entries", ""])
    return markdown_table(["", "", ""], rows) if rows else ""


def _row(cells: list[str]) -> str:
    return f"|{'|'.join(cells)}|"


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{round(value, 3) + 0.0:.3f}"  # + 0.0 turns -0.0 into 0.0
    return str(value).replace("|", "/")

"""The figures as text, and with the results of each pair as JSON or Parquet."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from zreward_core.commands.benchmark.figures import Result
from zreward_core.commands.benchmark.judges import FIRST, LARGER, SAME, SHORTER
from zreward_core.config import UserError, writable
from zreward_core.evaluation.bootstrap import Interval

SUFFIXES = (".json", ".parquet")
METADATA = b"zreward_benchmark"
"""Key of the figures in the metadata of a Parquet file."""
BLIND = (LARGER, SHORTER, SAME, FIRST)
"""Judges that see neither prompt nor image."""
WIDTH = 10
"""Least width of a subset's column."""
CHANCE = 0.5
"""Accuracy of a random choice."""


@dataclass(frozen=True)
class Report:
    """The figures of a set."""

    name: str
    title: str
    model: str | None
    notes: list[str]
    counts: dict[str, int]
    rules: dict[str, tuple[str, str]]
    """Name to meaning and source."""
    results: list[Result]
    alpha: Interval
    """Krippendorff's ordinal alpha of the annotators; NaN where they are not given."""

    def content(self) -> dict[str, Any]:
        """The figures as plain values; an undefined number is None."""
        return {
            "benchmark": self.name,
            "title": self.title,
            "model": self.model,
            "notes": self.notes,
            "counts": self.counts,
            "raters_alpha": {key: _plain(one) for key, one in self.alpha._asdict().items()},
            "rules": [
                {"name": name, "meaning": meaning, "source": source}
                for name, (meaning, source) in self.rules.items()
            ],
            "results": [
                {key: _plain(one) for key, one in result._asdict().items()}
                for result in self.results
            ],
        }

    def lines(self) -> Iterator[str]:
        """The figures as a table."""
        counts = ", ".join(f"{number:,} {what}" for what, number in self.counts.items() if number)
        yield f"{self.title}: {counts}"
        yield from (f"note: {note}" for note in self.notes)
        if not isnan(self.alpha.value):
            alpha = _shown(self.alpha)
            yield f"agreement of the annotators (Krippendorff's ordinal alpha): {alpha}"
        for name, (meaning, source) in self.rules.items():
            results = [result for result in self.results if result.rule == name]
            if results:
                yield from ("", f"{name}: {meaning}", f"  [{source}]")
                yield from _table(results)
        yield from self._warnings()

    def _warnings(self) -> Iterator[str]:
        """Rules under which a judge that sees nothing is better than chance."""
        pairs = "pairs" in self.counts
        above = [
            result
            for result in self.results
            if pairs and result.judge in BLIND and not result.subset and result.low > CHANCE
        ]
        if above:
            yield ""
        for result in above:
            yield (
                f"careful: the judge '{result.judge}', which sees nothing, gets"
                f" {result.value:.3f} under '{result.rule}'"
            )


def _table(results: list[Result]) -> Iterator[str]:
    subsets = list(dict.fromkeys(result.subset for result in results if result.subset))
    by_place = {(result.judge, result.subset): result for result in results}
    heads = "".join(f"  {subset:>{WIDTH}}" for subset in subsets)
    yield f"  {'judge':<16} {'value':>6}  {'95 % interval':<15} {'number':>9}{heads}"
    for judge in dict.fromkeys(result.judge for result in results):
        whole = by_place[judge, ""]
        cells = "".join(
            f"  {_number(by_place[judge, subset].value):>{max(WIDTH, len(subset))}}"
            for subset in subsets
        )
        bounds = "" if isnan(whole.low) else f"{whole.low:.3f} to {whole.high:.3f}"
        yield f"  {judge:<16} {_number(whole.value):>6}  {bounds:<15} {whole.number:>9,}{cells}"


def _number(value: float) -> str:
    return "-" if isnan(value) else f"{value:.3f}"


def _shown(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and isnan(value) else value


def check_output(output: Path | None) -> None:
    """Check the output before hours of scoring.

    Raises:
        UserError: the suffix is unknown, or the folder is missing.
    """
    if output is None:
        return
    shown = writable(str(output))
    if output.suffix not in SUFFIXES:
        raise UserError(f"--output {shown} must end with {' or '.join(SUFFIXES)}")
    if output.is_dir() or not output.parent.is_dir():
        raise UserError(f"--output {shown}: the folder {output.parent} is missing, or it is one")


def write_report(report: Report, table: pd.DataFrame, output: Path) -> None:
    """Write the figures and the results of each pair or image.

    JSON: an object with the figures, and the rows in ``rows``. Parquet: the rows, with the figures
    as JSON in the metadata of the schema.
    """
    content = report.content()
    if output.suffix == ".json":
        rows = table.astype(object).where(table.notna(), None).to_dict("records")
        text = json.dumps({**content, "rows": rows}, indent=1, allow_nan=False)
        output.write_text(text + "\n", encoding="utf-8")
        return
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    packed = json.dumps(content, allow_nan=False).encode()
    pq.write_table(arrow.replace_schema_metadata({METADATA: packed}), output)

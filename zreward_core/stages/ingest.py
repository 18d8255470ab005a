"""Ingest: annotations of any source to ratings, comparisons, opinions and a quarantine.

Nothing is lost: each native judgement becomes exactly one row or is counted as ignored
(``annotations.sources.accounting``).
"""

import logging
from collections import Counter
from pathlib import Path
from typing import Any, Self

import pandas as pd
import pyarrow as pa
from pydantic import Field, field_validator, model_validator
from rich.console import Console
from rich.table import Table

from zreward_core.annotations.sources import FORMATS, SUFFIXES
from zreward_core.annotations.sources.accounting import SourceRows
from zreward_core.annotations.sources.pictures import Pictures
from zreward_core.config import Settings, StageConfig, UserError
from zreward_core.images import write_images
from zreward_core.rubric import Rubric, load_rubric
from zreward_core.runtime.outputs import whole_output
from zreward_core.schemas import (
    COMPARISONS,
    OPINIONS,
    QUARANTINE,
    RATINGS,
    write_json,
    write_table,
)

OUTPUT = Path("data/ingest")
EXPORT = Path("data/annotate/export.json")
INPUTS = (Path("data/drops"), Path("data/annotate"), Path("data/candidates/images"))
"""Folders that DVC watches for this stage; sources lie in them."""

logger = logging.getLogger(__name__)


class Source(Settings):
    """Where annotations come from."""

    name: str
    """Name in tables and summaries."""
    format: str = "label_studio"
    """How the files are written."""
    path: Path
    """A file, a folder or a glob below data/drops (or annotate's drop)."""
    images: Path | None = Path("data/candidates/images")
    """Pictures that the annotations refer to: image shards or plain files."""

    @field_validator("format")
    @classmethod
    def _known_format(cls, value: str) -> str:
        if value not in FORMATS:
            raise ValueError(f"unknown format '{value}'; known: {', '.join(sorted(FORMATS))}")
        return value

    @field_validator("path", "images")
    @classmethod
    def _watched(cls, value: Path | None) -> Path | None:
        known = [folder for folder in INPUTS if value and value.is_relative_to(folder)]
        if value is not None and (not known or ".." in value.parts):
            raise ValueError(f"'{value}' must lie below {' or '.join(map(str, INPUTS))}")
        return value


class Config(StageConfig):
    """Params of the stage."""

    sources: list[Source] = Field(default_factory=lambda: [Source(name="annotate", path=EXPORT)])
    """Any number of sources."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if not self.sources or len({source.name for source in self.sources}) < len(self.sources):
            raise ValueError("sources must have distinct names, and there must be one")
        return self


def run(config: Config) -> None:
    """Read all sources and write the tables and a summary."""
    rubric = load_rubric()
    pictures = {folder: Pictures(folder) for folder in {source.images for source in config.sources}}
    read = {
        source.name: read_source(source, rubric, pictures[source.images])
        for source in config.sources
    }
    summary = {name: summarise(files) for name, files in read.items()}
    files = [rows for source in read.values() for rows in source.values()]
    with whole_output(OUTPUT, config) as folder:
        _write([row for rows in files for row in rows.ratings], folder / "ratings.parquet", RATINGS)
        _write(
            [row for rows in files for row in rows.comparisons],
            folder / "comparisons.parquet",
            COMPARISONS,
        )
        _write(
            [row for rows in files for row in rows.opinions], folder / "opinions.parquet", OPINIONS
        )
        _write(
            [row for rows in files for row in rows.quarantine],
            folder / "quarantine.parquet",
            QUARANTINE,
        )
        found = {key: path for one in pictures.values() for key, path in one.files.items()}
        write_images((found[key].read_bytes() for key in sorted(found)), folder / "images")
        write_json({"sources": summary}, folder / "summary.json")
    show(summary)


def read_source(source: Source, rubric: Rubric, pictures: Pictures) -> dict[str, SourceRows]:
    """Read the files of a source.

    Returns:
        File to its rows.

    Raises:
        UserError: no file, an unreadable file, or a file without a usable judgement.
    """
    read = {}
    for path in source_files(source):
        rows = FORMATS[source.format](path, source.name, rubric, pictures)
        if rows.num_usable == 0:
            raise UserError(_nothing_usable(path, rows, rubric))
        read[str(path)] = rows
    return read


def source_files(source: Source) -> list[Path]:
    """Files of a source, sorted.

    Raises:
        UserError: there is none.
    """
    ending = SUFFIXES[source.format]
    if source.path.is_dir():
        found = sorted(path for path in source.path.rglob(f"*{ending}") if path.is_file())
    elif any(mark in str(source.path) for mark in "*?["):
        found = sorted(path for path in Path().glob(str(source.path)) if path.is_file())
    else:
        found = [source.path] if source.path.is_file() else []
    if not found:
        raise UserError(
            f"{source.path} (source '{source.name}') holds no {ending} file: put the export below "
            "data/drops/ and name it in 'ingest.sources' of params.yaml, or let simulated "
            "annotators write one (`zreward annotate` with 'annotate.simulate: true')"
        )
    return found


def summarise(files: dict[str, SourceRows]) -> dict[str, Any]:
    """Counts of one source, for the summary."""
    every = list(files.values())
    ratings = [row for rows in every for row in rows.ratings]
    named = [row for row in ratings if row["annotator_id"] is not None]
    distinct = {(row["item_id"], row["dimension"], row["annotator_id"]) for row in named}
    return {
        "files": sorted(files),
        "native": sum(rows.num_native for rows in every),
        "ratings": len(ratings),
        "comparisons": sum(len(rows.comparisons) for rows in every),
        "opinions": sum(len(rows.opinions) for rows in every),
        "quarantine": dict(sum((Counter(rows.reasons()) for rows in every), Counter[str]())),
        "ignored": dict(sum((rows.ignored for rows in every), Counter[str]())),
        "without_picture": sum(row["image_id"] is None for row in ratings),
        "resubmissions": len(named) - len(distinct),
    }


def show(summary: dict[str, dict[str, Any]]) -> None:
    """Print the summary as a table."""
    table = Table(title="annotations by source")
    for title in ("source", "judgements", "fate", "reason"):
        table.add_column(title, justify="right" if title == "judgements" else "left")
    for name, counts in summary.items():
        for fate in ("ratings", "comparisons", "opinions"):
            if counts[fate]:
                table.add_row(name, str(counts[fate]), fate, "")
        for fate in ("quarantine", "ignored"):
            for reason, number in sorted(counts[fate].items()):
                table.add_row(name, str(number), fate, reason)
        table.add_row(name, str(counts["native"]), "all", "", end_section=True)
        if counts["without_picture"]:
            logger.warning("%s: %d ratings without a picture", name, counts["without_picture"])
    Console().print(table)


def _nothing_usable(path: Path, rows: SourceRows, rubric: Rubric) -> str:
    reasons = {**rows.reasons(), **rows.ignored}
    told = ", ".join(f"{number} {reason}" for reason, number in sorted(reasons.items()))
    first = f"; first {rows.quarantine[0]['row_ref']}" if rows.quarantine else ""
    return (
        f"{path}: no usable rating in it ({told or 'no tasks'}{first}). The controls must be named "
        f"{', '.join(rubric.names)} and hold scores from {rubric.minimum:g} to "
        f"{rubric.maximum:g}, as in data/annotate/labeling_config.xml; export the annotated "
        "project again as JSON (not JSON-MIN)"
    )


def _write(rows: list[dict[str, Any]], path: Path, schema: pa.Schema) -> None:
    write_table(pd.DataFrame(rows, columns=schema.names), path, schema)

"""ingest: annotations of any source -> ratings, comparisons, opinions and a quarantine.

Each native judgement becomes exactly one row or is counted as ignored
(``annotations.ingest.accounting``). Files are read in batches, so memory use is bounded.
"""

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, model_validator
from rich.console import Console
from rich.table import Table

from zreward_core.annotations.ingest.accounting import WRITTEN, Judgements
from zreward_core.annotations.ingest.identities import Identities
from zreward_core.annotations.ingest.image_folder import ImageFolder, stored_bytes
from zreward_core.annotations.ingest.items import ItemIndex
from zreward_core.annotations.ingest.reading import note_of_archives, read_file, source_files
from zreward_core.annotations.ingest.remedies import REMEDIES, remedy_of
from zreward_core.annotations.ingest.repeated_votes import repeated_votes
from zreward_core.annotations.ingest.settings import ANNOTATE, CANDIDATE_IMAGES, Source
from zreward_core.annotations.ingest.summary import (
    SourceSummary,
    count_resubmissions,
    spellings,
    summary_rows,
)
from zreward_core.config import Share, StageConfig, UserError
from zreward_core.images import write_images
from zreward_core.rubric import Rubric, load_rubric
from zreward_core.runtime.outputs import whole_output
from zreward_core.runtime.table_writer import TableWriter
from zreward_core.schemas import write_json

OUTPUT = Path("data/ingest")
EXPORT = ANNOTATE / "export.json"
RESUBMISSION_KEYS = ["item_id", "dimension", "annotator_id", "source"]

logger = logging.getLogger(__name__)


class Config(StageConfig):
    """Params of the stage."""

    sources: list[Source] = Field(default_factory=lambda: [Source(name="annotate", path=EXPORT)])
    """Any number of sources."""
    max_quarantine_share: Share = 0.5
    """Share of quarantined judgements above which a source stops the run as misconfigured."""

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        if not self.sources or len({source.name for source in self.sources}) < len(self.sources):
            raise ValueError("sources must have distinct names, and there must be one")
        return self


def run(config: Config) -> None:
    """Read all sources; write the tables and a summary."""
    rubric = load_rubric()
    config = without_absent_candidates(config)
    images = {
        folder: ImageFolder(folder) for folder in {source.images for source in config.sources}
    }
    identities = Identities()
    with whole_output(OUTPUT, config) as folder:
        summaries = read_sources(config.sources, rubric, images, identities, folder)
        while identities.settle() + sum(one.settle() for one in images.values()):
            logger.info("reading again: references or prompts have been resolved")
            summaries = read_sources(config.sources, rubric, images, identities, folder)
        for source in config.sources:
            summary = summaries[source.name]
            for note in (*summary.notes, *summary.problems):
                logger.warning("%s", note)
            if source.columns.annotator_id is not None and summary.num_unnamed:
                logger.warning(
                    "%s: %d ratings have no annotator, first %s; if these rows are totals or "
                    "notes, remove them from the file, or select the others by `only`",
                    source.name,
                    summary.num_unnamed,
                    summary.first_unnamed,
                )
            check(source, summary, config.max_quarantine_share, rubric)
        found = {key: path for one in images.values() for key, path in one.files.items()}
        write_images((stored_bytes(found[key], key) for key in sorted(found)), folder / "images")
        keys = read_keys(folder / "ratings.parquet")
        again = count_resubmissions(keys)
        for names in spellings(keys):
            logger.warning(
                "%s count as different annotators; if they are one, make them equal by `words` "
                "of `columns.annotator_id`",
                " and ".join(names),
            )
        record = {name: one.record(again.get(name, 0)) for name, one in summaries.items()}
        write_json({"sources": record}, folder / "summary.json")
        repeated, contradicting = repeated_votes(folder / "comparisons.parquet")
    show(record)
    show_comparisons(record, repeated, contradicting)


def without_absent_candidates(config: Config) -> Config:
    """Read Label Studio exports in data/drops without images if there are no candidates.

    ``CANDIDATE_IMAGES`` is the default of the format; a new root does not have it.
    """
    if CANDIDATE_IMAGES.is_dir():
        return config
    sources = []
    for source in config.sources:
        if source.images == CANDIDATE_IMAGES and not source.path.is_relative_to(ANNOTATE):
            logger.warning(
                "%s: there is no %s, the default of `images`; the judgements are read without "
                "images. Set `images` to the folder of the images, or to null",
                source.name,
                CANDIDATE_IMAGES,
            )
            source = source.model_copy(update={"images": None})
        sources.append(source)
    return config.model_copy(update={"sources": sources})


def read_sources(
    sources: list[Source],
    rubric: Rubric,
    images: dict[Path | None, ImageFolder],
    identities: Identities,
    folder: Path,
) -> dict[str, SourceSummary]:
    """Write the tables of all sources into a folder, and count their judgements."""
    summaries = {source.name: SourceSummary() for source in sources}
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(TableWriter(folder / f"{name}.parquet", schema))
            for name, schema in WRITTEN.items()
        }
        for source in sources:
            index = ItemIndex(source, images[source.images], identities)
            for judgements in read_source(source, rubric, index, summaries[source.name]):
                for name, writer in writers.items():
                    writer.write(getattr(judgements, name))
    return summaries


def read_source(
    source: Source, rubric: Rubric, index: ItemIndex, summary: SourceSummary
) -> Iterator[Judgements]:
    """Read the files of a source, batch by batch, and count their judgements.

    Raises:
        UserError: there is no file, or one cannot be read at all.
    """
    files = source_files(source)
    if note := note_of_archives(source):
        summary.notes[note] = None
    for path in files:
        summary.files.append(str(path))
        for judgements in read_file(path, source, rubric, index):
            summary.add(judgements)
            yield judgements
    summary.add_references(index.missing, index.refused)


def check(source: Source, summary: SourceSummary, max_share: float, rubric: Rubric) -> None:
    """Stop if a source has no usable judgement, or too large a share of faulty ones.

    Raises:
        UserError: with the reasons, the first row of each, and the remedy.
    """
    if summary.num_usable and summary.quarantine_share <= max_share:
        for note in (*summary.findings.unread_cells(), *summary.findings.wrong_scales()):
            logger.warning("%s: %s", source.name, note)
        if number := summary.quarantine["total"]:
            logger.warning(
                "%s: %d rows are totals or averages and are quarantined, first %s",
                source.name,
                number,
                summary.first_faults["total"],
            )
        if number := summary.quarantine["rounded_identifier"]:
            logger.warning(
                "%s: %d judgements are quarantined, first %s: %s",
                source.name,
                number,
                summary.first_faults["rounded_identifier"],
                REMEDIES["rounded_identifier"],
            )
        return
    counts = ", ".join(
        f"{number} {reason}"
        for reason, number in sorted({**summary.quarantine, **summary.ignored}.items())
    )
    first = "; ".join(f"first {reason}: {row}" for reason, row in summary.first_faults.items())
    if summary.num_usable:
        problem = (
            f"{100 * summary.quarantine_share:.3g}% of its judgements cannot be used, more than "
            f"`ingest.max_quarantine_share` ({max_share:g})"
        )
    else:
        problem = "no usable ratings"
    files = ", ".join(summary.files[:3])
    raise UserError(
        f"{files} (source '{source.name}'): {problem} ({counts or 'no records'}"
        f"{'; ' + first if first else ''}). {remedy_of(source, summary, rubric)}"
    )


def read_keys(path: Path) -> pa.Table:
    """The columns that identify resubmissions, as dictionaries."""
    return pq.read_table(path, columns=RESUBMISSION_KEYS, read_dictionary=RESUBMISSION_KEYS)


def show_comparisons(summary: dict[str, dict[str, Any]], repeated: int, contradicting: int) -> None:
    """Log repeated votes, and studies without scores."""
    if repeated:
        logger.warning(
            "%d comparisons repeat one of the same annotator, images and dimension; %d of these "
            "annotators' answers contradict each other. They count once: `validate.resubmissions`",
            repeated,
            contradicting,
        )
    scored = sum(one["ratings"] + one["opinions"] for one in summary.values())
    if not scored and sum(one["comparisons"] for one in summary.values()):
        logger.warning(
            "only comparisons were read, no scores: `zreward validate` derives pairs from votes"
        )


def show(summary: dict[str, dict[str, Any]]) -> None:
    """Print the summary as a table."""
    table = Table(title="annotations by source")
    for title in ("source", "judgements", "outcome", "reason"):
        table.add_column(title, justify="right" if title == "judgements" else "left")
    for name, outcome, number, reason in summary_rows(summary):
        table.add_row(name, str(number), outcome, reason, end_section=outcome == "all")
    Console().print(table)
    for name, counts in summary.items():
        for key, label in (
            ("without_image", "judgements without an image"),
            ("resubmissions", "ratings submitted again by the same annotator"),
            ("repaired", "rows that were split by a line break and have been joined"),
        ):
            if counts[key]:
                logger.warning("%s: %d %s", name, counts[key], label)
        for key, label in (
            (
                "missing_images",
                "references have no image: correct `images` of the source, or rewrite them by "
                "`image: {column: .., pattern: .., to: ..}`",
            ),
            ("refused_images", "references lead to images that cannot be used"),
        ):
            if counts[key]["number"]:
                listed = "\n  ".join(counts[key]["first"])
                logger.warning("%s: %d %s\n  %s", name, counts[key]["number"], label, listed)

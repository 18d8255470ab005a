"""Formats of annotations: one file each, a word of params to its reader."""

from collections.abc import Iterator
from pathlib import Path

from zreward_core.annotations.formats.delimited import read_csv, read_tsv
from zreward_core.annotations.formats.genai_bench import read_genai_bench
from zreward_core.annotations.formats.hpdv2_test import read_hpdv2_test
from zreward_core.annotations.formats.imagenhub import read_imagenhub
from zreward_core.annotations.formats.json_records import read_json, read_jsonl
from zreward_core.annotations.formats.label_studio import read_label_studio
from zreward_core.annotations.formats.lookup import read_prompts
from zreward_core.annotations.formats.parquet import read_parquet
from zreward_core.annotations.formats.records import Reader, Wanted
from zreward_core.annotations.ingest.accounting import Judgements
from zreward_core.annotations.ingest.image_folder import ImageFolder
from zreward_core.annotations.ingest.items import ItemIndex
from zreward_core.annotations.ingest.mapping import map_records, wanted_columns
from zreward_core.annotations.ingest.settings import Source
from zreward_core.rubric import Rubric

READERS: dict[str, Reader] = {
    "csv": read_csv,
    "tsv": read_tsv,
    "json": read_json,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "genai_bench": read_genai_bench,
    "imagenhub": read_imagenhub,
    "hpdv2_test": read_hpdv2_test,
}
"""Format to the function that reads records of it."""
SUFFIXES: dict[str, str] = {
    "label_studio": ".json",
    "csv": ".csv",
    "tsv": ".tsv",
    "json": ".json",
    "jsonl": ".jsonl",
    "parquet": ".parquet",
    "genai_bench": ".json",
    "imagenhub": ".tsv",
    "hpdv2_test": ".json",
}
"""Format to the ending of its files, for sources that are folders."""


def read_file(
    path: Path, source: Source, rubric: Rubric, images: ImageFolder, index: ItemIndex
) -> Iterator[Judgements]:
    """Read one file of a source, batch by batch.

    Args:
        path: the file.
        source: its settings.
        rubric: dimensions and scale.
        images: what the source's image names refer to.
        index: items of the source, shared by its files.

    Raises:
        UserError: the file cannot be read at all, or lacks a column.
    """
    if source.base_format == "label_studio":
        yield read_label_studio(path, source.name, rubric, images).judgements()
        return
    prompt_of = read_prompts(path, source.prompts) if source.prompts else {}
    wanted = Wanted(wanted_columns(source), source.encoding, source.records)
    for records in READERS[source.base_format](path, wanted):
        judgements = map_records(records, source, str(path), rubric, index, prompt_of)
        judgements.check_account(f"{path} (source '{source.name}')")
        yield judgements

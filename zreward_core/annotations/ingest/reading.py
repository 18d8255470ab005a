"""A file of a source to judgements: read, map, check the account."""

from collections.abc import Iterator
from pathlib import Path

from zreward_core.annotations.formats import FORMATS
from zreward_core.annotations.formats.records import Wanted
from zreward_core.annotations.ingest.accounting import Judgements
from zreward_core.annotations.ingest.items import ItemIndex
from zreward_core.annotations.ingest.mapping import map_records, wanted_columns
from zreward_core.annotations.ingest.prompt_file import read_prompts
from zreward_core.annotations.ingest.settings import Source
from zreward_core.config import UserError
from zreward_core.rubric import Rubric


def source_files(source: Source) -> list[Path]:
    """Files of a source, sorted.

    Raises:
        UserError: there are none.
    """
    suffix = FORMATS[source.base_format].suffix
    if source.path.is_dir():
        pattern = source.files or f"**/*{suffix}"
        found = sorted(path for path in source.path.glob(pattern) if path.is_file())
    elif any(mark in str(source.path) for mark in "*?["):
        found = sorted(path for path in Path().glob(str(source.path)) if path.is_file())
    else:
        found = [source.path] if source.path.is_file() else []
    if not found:
        raise UserError(
            f"{source.path} (source '{source.name}') holds no {source.files or suffix} file: put "
            "the export below data/drops/ and name it in 'ingest.sources' of params.yaml, or "
            "simulate annotators (`zreward annotate` with 'annotate.simulate: true')"
        )
    return found


def read_file(path: Path, source: Source, rubric: Rubric, index: ItemIndex) -> Iterator[Judgements]:
    """Read one file of a source, batch by batch; the account of each batch is checked.

    Args:
        path: the file.
        source: its settings.
        rubric: dimensions and scale.
        index: items of the source, shared by its files.

    Raises:
        UserError: the file cannot be read at all, or lacks a column.
    """
    prompt_of = read_prompts(path, source.prompts) if source.prompts else {}
    wanted = Wanted(wanted_columns(source), source.encoding, source.records)
    for records in FORMATS[source.base_format].read(path, wanted):
        judgements = map_records(records, source, str(path), rubric, index, prompt_of)
        judgements.check_account(f"{path} (source '{source.name}')")
        yield judgements

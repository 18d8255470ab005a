"""Read a file of a source into judgements, and check their counts."""

import logging
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from zreward_core.annotations.formats import FORMATS
from zreward_core.annotations.ingest.accounting import Judgements
from zreward_core.annotations.ingest.binary_cells import without_bytes
from zreward_core.annotations.ingest.column_settings import RANKED
from zreward_core.annotations.ingest.items import ItemIndex
from zreward_core.annotations.ingest.mapping import cells_of, map_records
from zreward_core.annotations.ingest.prompt_file import read_prompts
from zreward_core.annotations.ingest.settings import Source
from zreward_core.annotations.ingest.unfolding import unfold, wanted_of
from zreward_core.config import UserError, writable
from zreward_core.rubric import Rubric

_LEFTOVERS = ("._", "~$")
"""Prefixes of the names of files that macOS and Excel leave behind."""
ARCHIVES = (".zip", ".gz", ".tgz", ".tar", ".bz2", ".xz", ".zst", ".7z", ".rar")
NUM_ARCHIVES = 3
"""Archives that a warning names."""
MIN_STD = 0.03
"""Median standard deviation as a share of the scale; a smaller one suggests another scale."""

logger = logging.getLogger(__name__)


def source_files(source: Source) -> list[Path]:
    """Files of a source, sorted.

    Raises:
        UserError: there are none.
    """
    read = FORMATS[source.base_format]
    suffix, suffixes = read.suffix, (read.suffix, *read.other_suffixes)
    is_folder = os.path.isdir(source.path)  # False for names that no file can have, too
    if is_folder and source.files:
        found = list(source.path.glob(source.files))
    elif is_folder:
        found = [path for path in source.path.rglob("*") if path.suffix.lower() in suffixes]
    elif os.path.exists(source.path):
        found = [source.path]
    else:  # brackets can be part of a name
        literal = re.sub(r"\[", "[[]", str(source.path))
        found = list(Path().glob(str(source.path))) or list(Path().glob(literal))
    found = sorted(
        path for path in found if os.path.isfile(path) and not path.name.startswith(_LEFTOVERS)
    )
    if found and source.files and not is_folder and source.format in FORMATS:
        raise UserError(
            f"{source.path} (source '{source.name}') is a file, so `files`, which selects files of "
            "a folder, is not read; remove it"
        )
    for path in found:
        if writable(str(path)) != str(path):
            raise UserError(
                f"{writable(str(path))} (source '{source.name}'): its name is not UTF-8, so no row"
                " can refer to it; rename the file"
            )
    packed = sorted(source.path.glob(f"*{suffix}.gz")) if is_folder and not found else []
    if packed:
        raise UserError(f"{packed[0]}: compressed by gzip; decompress it (`gunzip`)")
    archives = archives_in(source.path) if is_folder and not found else []
    archives += [path for path in found if _is_archive(path) and path.suffix.lower() != ".gz"]
    if archives:
        kind = archives[0].suffix.lower().removeprefix(".")
        raise UserError(f"{archives[0]}: a {kind} archive; unpack it and name its folder in `path`")
    if not found:
        raise UserError(
            f"{source.path} (source '{source.name}') has no {source.files or suffix} file: put "
            "the export below data/drops/ of the project and name it in 'ingest.sources' of its "
            f"params; `zreward --root {shlex.quote(os.getcwd())} annotate export` writes the images"
            " for people to rate (docs/people.md). Or simulate annotators (`zreward annotate` with"
            " 'annotate.simulate: true')"
        )
    return found


def archives_in(folder: Path) -> list[Path]:
    """Archives and compressed files below a folder, sorted; no format reads them."""
    found = (path for path in folder.rglob("*") if not path.name.startswith(_LEFTOVERS))
    return sorted(path for path in found if _is_archive(path) and path.is_file())


def _is_archive(path: Path) -> bool:
    return path.suffix.lower() in ARCHIVES


def note_of_archives(source: Source) -> str | None:
    """Names the archives beside the files of a source that is a folder."""
    if source.files or not os.path.isdir(source.path):
        return None
    archives = archives_in(source.path)
    if not archives:
        return None
    listed = ", ".join(writable(str(path)) for path in archives[:NUM_ARCHIVES])
    return (
        f"{source.path} (source '{source.name}'): {len(archives)} archives are not read ({listed});"
        " if they contain annotations, unpack them, else select the files by `files`"
    )


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
    place = f"{path} (source '{source.name}')"
    wanted = wanted_of(source)
    notes: list[str] = []
    prompt_of = read_prompts(path, source.prompts, notes) if source.prompts else {}
    opinions, filled = [], set()
    for records in FORMATS[source.base_format].read(path, wanted):
        unfolded = unfold(without_bytes(records, source), source)
        filled |= {name for name, one in unfolded.columns.items() if one.null_count < len(one)}
        judgements = map_records(unfolded, source, str(path), rubric, index, prompt_of)
        judgements.check_account(place)
        judgements.problems = [f"{place}: {problem}" for problem in wanted.problems]
        judgements.notes = [*notes, *(f"{place}: {note}" for note in wanted.notes)]
        opinions.append(judgements.opinions.select(["dimension", "std"]))
        yield judgements
    if opinions and source.base_format in ("json", "jsonl"):
        absent = sorted(_columns(source) - filled)
        if absent:
            logger.warning(
                "%s (source '%s'): no record has a value at %s; correct `columns` if that is a "
                "misspelling",
                path,
                source.name,
                ", ".join(absent),
            )
    if opinions:
        warn_of_deviations(pa.concat_tables(opinions), place, rubric)


def _columns(source: Source) -> set[str]:
    """Columns in which a value is expected."""
    optional = [one.cell for one in source.columns.wide if one.optional]
    names = {cell.column for cell in cells_of(source) if cell not in optional and cell.column}
    return {name for name in names if not name.startswith(f"{RANKED}.")}


def warn_of_deviations(opinions: pa.Table, place: str, rubric: Rubric) -> None:
    """Warn about standard deviations that are too small for the scale of their means."""
    stds = opinions.to_pandas().groupby("dimension")["std"].median()
    shares = stds[stds > 0] / (rubric.maximum - rubric.minimum)
    for dimension, share in shares[shares < MIN_STD].items():
        logger.warning(
            "%s: the standard deviations of %s are %.2g%% of the scale of the means (median), "
            "which is implausibly small; if they are on another scale, declare it as "
            "`std_scale: {min: .., max: ..}`",
            place,
            dimension,
            100 * share,
        )

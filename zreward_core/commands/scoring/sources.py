"""What `zreward score` reads, by its form."""

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from zreward_core.commands.scoring.archives import Archives
from zreward_core.commands.scoring.folders import (
    PROMPTS_FILE,
    ImageFiles,
    Shards,
    prompts_beside,
    read_prompts,
)
from zreward_core.commands.scoring.rows import SUFFIXES, Columns, Images, Source
from zreward_core.commands.scoring.score_file import is_score_file
from zreward_core.commands.scoring.tables import (
    IMAGE_COLUMNS,
    PROMPT_COLUMNS,
    READERS,
    ParquetTable,
    TextTable,
)
from zreward_core.config import UserError, writable
from zreward_core.images import ImageStore
from zreward_core.images.folders import image_names

PARQUET, TAR = ".parquet", ".tar"
METADATA = tuple(f"metadata{suffix}" for suffix in (".csv", ".jsonl", PARQUET))
"""Tables of a folder of images, as `datasets` reads them."""
FORMS = (
    f"a table ({', '.join([*READERS, PARQUET])}), WebDataset archives (.tar), image shards, or a"
    f" folder of images with {PROMPTS_FILE}, {METADATA[0]} or a text file beside each image"
)


def is_many(path: Path) -> bool:
    """Whether a path is a source of many images rather than an image."""
    # False for names that no folder can have, too
    return os.path.isdir(path) or path.suffix.lower() in (*READERS, PARQUET, TAR)


def open_source(paths: Sequence[Path], columns: Columns, images: Path | None = None) -> Source:
    """The images of a table, a folder, archives, or of a list of image files.

    Args:
        paths: one table, folder or archive, or several Parquet files, archives or images.
        columns: columns of image and prompt, or the prompt of all images.
        images: folder of relative paths, or of the shards of image ids; that of the table if None.

    Raises:
        UserError: it cannot be read, lacks a column or prompts, or has no images.
    """
    require_exist(paths)
    first = paths[0]
    if len(paths) == 1 and first.is_dir():
        source = _folder(first, columns, images)
    else:
        source = _files(paths, columns, images)
    if not source.count:
        raise UserError(f"{writable(str(first))} has no images: pass {FORMS}")
    return source


def require_exist(paths: Sequence[Path]) -> None:
    """Refuse paths that do not exist.

    Raises:
        UserError: names the first of them.
    """
    for path in paths:
        if not os.path.exists(path):
            raise UserError(f"{writable(str(path))} is not found: pass images, or {FORMS}")


def _files(paths: Sequence[Path], columns: Columns, images: Path | None) -> Source:
    kinds = {path.suffix.lower() for path in paths}
    if kinds == {TAR}:
        return Archives(paths, columns)
    if kinds == {PARQUET}:
        return ParquetTable(paths, columns, _images(images, paths[0]))
    if len(paths) == 1 and kinds <= set(READERS):
        path = paths[0]
        return TextTable(path, columns, _images(images, path))
    if not kinds <= set(SUFFIXES):
        raise UserError(
            f"{', '.join(writable(str(path)) for path in paths[:3])}: pass one table or folder, or"
            " several .parquet, .tar or image files"
        )
    if columns.text is None:
        raise UserError("image files have no prompts: give --prompt, or a table with a column")
    return ImageFiles(Path("."), [(str(path), columns.text) for path in paths], paths)


def _images(folder: Path | None, table: Path) -> Images:
    """Where the cells of a table lead; the shards of a stage lie beside it in `images`."""
    if folder is not None and not folder.is_dir():
        raise UserError(f"--images {writable(str(folder))} is not a folder")
    paths = table.parent if folder is None else folder
    place = table.parent / "images" if folder is None else folder
    shards = sorted(place.glob(f"*{PARQUET}"))
    if shards and {"image_id", "bytes"} <= set(_columns(shards[0])):
        return Images(paths, ImageStore(place))
    return Images(paths)


def _folder(folder: Path, columns: Columns, images: Path | None) -> Source:
    shown = writable(str(folder))
    if archives := sorted(folder.glob(f"*{TAR}")):
        return Archives(archives, columns)
    tables = [folder / name for name in METADATA if (folder / name).is_file()]
    if tables and columns.text is None:
        return _files(tables[:1], columns, images)
    parquet = sorted(folder.glob(f"*{PARQUET}"))
    if shards := [path for path in parquet if not is_score_file(path)]:
        present = _columns(shards[0])
        if "image_id" in present and not any(
            name in present for name in (columns.image, columns.prompt, *PROMPT_COLUMNS)
        ):
            if columns.text is None:
                raise UserError(
                    f"{shown} has images without prompts: score the table that lists them (such as"
                    f" pool.parquet) with --images {shown}, or give --prompt"
                )
            return Shards(folder, columns.text)
        return ParquetTable(shards, columns, _images(images, shards[0]))
    if columns.text is not None:
        names = image_names(folder, SUFFIXES)
        pairs = [(name, columns.text) for name in names]
        return ImageFiles(folder, pairs, [folder / name for name in names])
    if (folder / PROMPTS_FILE).is_file():
        return ImageFiles(folder, read_prompts(folder), [folder / PROMPTS_FILE])
    names = image_names(folder, SUFFIXES)
    beside = prompts_beside(folder, names)
    if names and not any(path.is_file() for _, path in beside):
        raise UserError(
            f"{shown} has {len(names)} images but no prompts: add {PROMPTS_FILE} (file name to"
            f" prompt), {METADATA[0]} (columns {IMAGE_COLUMNS[1]} and {PROMPT_COLUMNS[0]}) or a"
            " text file beside each image, or give `zreward score` a --prompt for all"
        )
    return ImageFiles(folder, beside, [folder / name for name in names])


def _columns(path: Path) -> list[str]:
    try:
        return pq.read_schema(path).names
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{writable(str(path))} is not a readable Parquet file ({error})") from None

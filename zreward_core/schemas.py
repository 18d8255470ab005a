"""Data contracts between stages: identifiers, Arrow schemas, reading and writing of tables."""

import hashlib
import json
import logging
import math
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zreward_core.config import UserError, parse_json
from zreward_core.json_faults import explain

logger = logging.getLogger(__name__)
STAGES = Path(__file__).with_name("stages")
"""Folder of the stages' modules; the output of each is the folder of its name in data/."""
_text, _number, _whole = pa.string(), pa.float64(), pa.int64()
_long_text = pa.large_string()
"""Text that may exceed 2 GiB in a column."""
_shares = pa.list_(pa.float64())


def _texts(*names: str) -> list[tuple[str, pa.DataType]]:
    return [(name, _text) for name in names]


IMAGES = pa.schema(
    [("image_id", _text), ("bytes", pa.binary()), ("width", _whole), ("height", _whole)]
)
OUTSIDE_IMAGES = pa.schema([*IMAGES, ("path", _text), ("offset", _whole), ("length", _whole)])
"""Images of which some stay in other files: their ``bytes`` are null, and ``length`` bytes from
``offset`` on are the image in the file at ``path``."""
PROMPTS = pa.schema([("prompt_id", _text), ("prompt", _text), ("purpose", _text)])
RENDERED_IMAGES = pa.schema(
    [("prompt_id", _text), ("prompt", _text), ("image_id", _text), ("purpose", _text)]
)
CANDIDATES = pa.schema(_texts("item_id", "prompt_id", "prompt", "image_id", "generator"))
RATINGS = pa.schema(
    [
        *_texts("item_id", "prompt_id", "prompt", "image_id", "generator", "dimension"),
        ("annotator_id", _text),
        ("score", _number),
        ("native_score", _number),
        ("submitted_at", _text),
        ("seconds", _number),
        *_texts("source", "row_ref"),
    ]
)
COMPARISONS = pa.schema(
    _texts("item_a", "item_b", "dimension", "vote", "annotator_id", "source", "row_ref")
)
OPINIONS = pa.schema(
    [
        *_texts("item_id", "prompt_id", "prompt", "image_id", "generator", "dimension"),
        ("mean", _number),
        ("std", _number),
        ("histogram", _shares),
        ("num_ratings", _whole),
        *_texts("source", "row_ref"),
    ]
)
QUARANTINE = pa.schema(_texts("source", "row_ref", "reason", "raw"))
ITEMS = pa.schema(
    [
        ("item_id", _text),
        ("prompt_id", _text),
        ("prompt", _text),
        ("image_id", _text),
        ("dimension", _text),
        ("score", _number),
        ("histogram", _shares),
        ("num_ratings", _whole),
        ("split", _text),
    ]
)
PAIRS = pa.schema(
    [
        *_texts("prompt_id", "dimension", "winner", "loser"),
        ("score_w", _number),
        ("score_l", _number),
        ("split", _text),
    ]
)
VOTED_PAIRS = PAIRS.append(pa.field("vote_share", _number))
"""Pairs, some of which are known only from votes. Those have no scores; ``vote_share`` is the
share of the votes for the winner, a tie counting half, so 0.5 is a tie. It is null in scored pairs.
A file without such pairs has the columns of ``PAIRS``."""
TEST_RATINGS = pa.schema([*_texts("item_id", "dimension", "annotator_id"), ("score", _number)])
DISAGREEMENT = pa.schema(
    [
        ("item_id", _text),
        ("prompt_id", _text),
        ("prompt", _text),
        ("image_id", _text),
        ("dimension", _text),
        ("spread", _number),
        ("lowest", _number),
        ("highest", _number),
        ("num_ratings", _whole),
        ("split", _text),
    ]
)
TRACES = pa.schema(
    [
        ("item_id", _text),
        ("dimension", _text),
        ("number", _whole),
        ("trace", _long_text),
        ("tokens", pa.list_(pa.int32())),
        ("closed", pa.bool_()),
        ("probs", _shares),
        ("mass", _number),
    ]
)
"""The sampled traces of each item and dimension, numbered from 0, with the distribution over levels
after each. ``closed``: the model ended the trace within the limit."""
LABELS = pa.schema(
    [
        ("item_id", _text),
        ("prompt", _long_text),
        ("image_id", _text),
        ("dimension", _text),
        ("probs", _shares),
        ("spread", _number),
        ("mass", _number),
    ]
)
"""Distributions averaged over the traces (``TRACES``) of an item in a dimension."""

COMMIT = re.compile(r"[0-9a-f]{40}")
"""A revision that always names the same files, as branches and tags do not."""
PURPOSES = ("pretraining", "annotation", "unlabelled", "generator_train", "generator_eval")
"""Possible uses of a prompt; each prompt has exactly one."""


class NotFinite(UserError):
    """A number that must be finite is NaN or infinite: nothing is written or promoted from it."""


def require_finite(place: str, numbers: Mapping[str, float], remedy: str) -> None:
    """Check numbers by name.

    Args:
        place: stage and step, or file, that they belong to.
        remedy: what to do if one is not finite.

    Raises:
        NotFinite: one is NaN or infinite; the message names it and its value.
    """
    wrong = [f"{name} is {value}" for name, value in numbers.items() if not math.isfinite(value)]
    if wrong:
        raise NotFinite(f"{place}: {', '.join(wrong)}; {remedy}")


def leaves(content: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of everything inside nested mappings and lists."""
    if isinstance(content, Mapping):
        parts: Any = content.items()
    elif isinstance(content, list | tuple):
        parts = enumerate(content)
    else:
        yield name, content
        return
    for key, value in parts:
        yield from leaves(value, f"{name}.{key}" if name else str(key))


INVISIBLE = "\u00ad\u200b\u200e\u200f\u202a\u202c\u2060\ufeff"
"""Soft hyphen, zero-width spaces, marks of direction: copied along by browsers and office programs.
"""
_WITHOUT_INVISIBLE = str.maketrans("", "", INVISIBLE)


def normalise_prompt(prompt: str) -> str:
    """Normal form for the comparison of prompts.

    NFKC, case folded, single spaces, without invisible characters.
    """
    plain = unicodedata.normalize("NFKC", prompt).translate(_WITHOUT_INVISIBLE)
    return " ".join(plain.casefold().split())


def digest(*parts: str) -> str:
    """Short stable identifier of strings (16 hex digits of a sha256)."""
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def prompt_id(prompt: str) -> str:
    """Identifier of a prompt, by its normalised text."""
    return digest("prompt", normalise_prompt(prompt))


def item_id(prompt: str, image_id: str) -> str:
    """Identifier of an image judged for a prompt."""
    return digest("item", normalise_prompt(prompt), image_id)


def tree_hash(path: Path) -> str:
    """sha256 of a file, or of a folder's file names and contents."""
    return combined_hash(file_hashes(path))


def file_hashes(path: Path) -> dict[str, str]:
    """Relative name to sha256 of a folder's files (of a single file: "."), in a fixed order."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return {str(file.relative_to(path)): file_hash(file) for file in files}


def combined_hash(hashes: dict[str, str]) -> str:
    """One sha256 over the result of ``file_hashes``."""
    total = hashlib.sha256()
    for name, value in hashes.items():
        total.update(name.encode() + bytes.fromhex(value))
    return total.hexdigest()


def file_hash(path: Path) -> str:
    """sha256 of a file's contents."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def flush(path: Path) -> None:
    """Have a file's contents, or a folder's entries, written to the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def flush_tree(folder: Path) -> None:
    """``flush`` a folder and everything in it."""
    for path in (*folder.rglob("*"), folder):
        flush(path)


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a scratch file that replaces ``path`` if the block ends without an error.

    It is on disk before it replaces the old file, so that a power failure leaves one of the two.

    Raises:
        OSError: names ``path`` if the system does not; the old file is kept, the new one deleted.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        yield partial
        flush(partial)
        os.replace(partial, path)
        flush(path.parent)
    except BaseException as error:
        partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and not error.filename:
            raise OSError(error.errno, os.strerror(error.errno), str(path)) from None
        raise


def write_table(frame: pd.DataFrame, path: Path, schema: pa.Schema) -> None:
    """Write the schema's columns as a Parquet file, atomically.

    Raises:
        NotFinite: a number is infinite, or one of a list is not finite. NaN in a column of numbers
            is a missing value.
    """
    frame = frame[schema.names]
    coded = pa.schema(
        [
            one.with_type(pa.dictionary(pa.int32(), one.type))
            if isinstance(frame[one.name].dtype, pd.CategoricalDtype)
            and len(frame[one.name].cat.categories) < len(frame)
            else one
            for one in schema
        ]
    )  # otherwise every row of a category becomes a Python object
    table = pa.Table.from_pandas(frame, schema=coded, preserve_index=False).cast(schema)
    for field in schema:
        values = table[field.name]
        lists = pa.types.is_list(field.type)
        numbers = pc.list_flatten(values) if lists else values
        if not pa.types.is_floating(numbers.type):
            continue
        if (lists and numbers.null_count) or pc.any(pc.invert(pc.is_finite(numbers))).as_py():
            raise NotFinite(
                f"{path}: the column '{field.name}' holds a number that is not finite; correct its"
                " source, or run the stage that computes it again"
            )
    with replaced(path) as partial:
        pq.write_table(table.replace_schema_metadata(None), partial)


def how_to_make(path: Path, otherwise: str = "correct the path") -> str:
    """The remedy for a missing file or folder: the command of the stage that writes it.

    Args:
        otherwise: the remedy for a path that is not in the output of a stage.
    """
    for above, name in pairwise(path.parts):
        if above == "data" and (STAGES / f"{name}.py").is_file():
            return f"run the stage that writes it (`zreward {name}`), or all stages (`zreward run`)"
    return otherwise


def read_table(path: Path, schema: pa.Schema) -> pd.DataFrame:
    """Read the schema's columns of a Parquet file.

    Raises:
        UserError: the file is missing, unreadable, or lacks a column.
    """
    if not path.is_file():
        raise UserError(f"{path} not found: {how_to_make(path)}")
    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise UserError(f"{path} is not a readable Parquet file: {error}") from None
    missing = sorted(set(schema.names) - set(table.column_names))
    if missing:
        raise UserError(f"{path} lacks the columns {missing}: {how_to_make(path)}")
    return table.select(schema.names).to_pandas()


def read_pairs(path: Path) -> pd.DataFrame:
    """Read pairs with the column ``vote_share`` of ``VOTED_PAIRS``; errors as in ``read_table``."""
    pairs = read_table(path, PAIRS)
    if "vote_share" in pq.read_schema(path).names:
        return read_table(path, VOTED_PAIRS)
    return pairs.assign(vote_share=np.nan)


def pairs_between(pairs: pd.DataFrame, items: Iterable[str]) -> pd.DataFrame:
    """Pairs of which both items are among some item ids."""
    known = set(items)
    return pairs[pairs["winner"].isin(known) & pairs["loser"].isin(known)]


def with_scores(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Items or pairs with scores; the number of those known only from votes is logged.

    Args:
        table: rows of ``ITEMS``, ``PAIRS`` or ``VOTED_PAIRS``.
        path: their file, for the log.
    """
    scored = table["score" if "score" in table else "score_w"].notna()
    if not scored.all():
        logger.info("%s: %d rows without scores are left out", path, (~scored).sum())
    return table[scored]


def write_json(content: Any, path: Path) -> None:
    """Write JSON with sorted keys, atomically.

    Raises:
        NotFinite: a number is NaN or infinite, which JSON cannot express.
    """
    try:
        text = json.dumps(content, indent=2, sort_keys=True, allow_nan=False)
    except ValueError:  # now name the number; a walk through every content would take time
        numbers = {name: value for name, value in leaves(content) if isinstance(value, float)}
        require_finite(str(path), numbers, "it was not written; correct what it is computed from")
        raise
    with replaced(path) as partial:
        partial.write_text(text + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        UserError: the file is missing or is not valid JSON.
    """
    if not path.is_file():
        raise UserError(f"{path} not found: {how_to_make(path)}")
    try:
        return parse_json(path.read_bytes())
    except json.JSONDecodeError as error:
        fault = explain(error, "correct it there")
        raise UserError(f"{path} is not valid JSON: {fault}") from None
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None

"""Parquet: read in batches, only the wanted columns."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zreward_core.annotations.formats.records import (
    BATCH_ROWS,
    Records,
    Wanted,
    column_of,
    header_columns,
    inside,
    is_text,
    refs_of,
)
from zreward_core.config import UserError

BATCH_BYTES = 2**27
"""Bytes per batch, roughly."""


def read_parquet(path: Path, wanted: Wanted) -> Iterator[Records]:
    """Read a Parquet file; dotted names select nested fields and list elements.

    Raises:
        UserError: the file is not Parquet or lacks a column.
    """
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path}: not a readable Parquet file ({error}); export it again") from None
    schema = file.schema_arrow
    tops = header_columns(schema.names, wanted, path)
    # Text columns are read as dictionaries, as they are stored.
    plain = [name for name in set(tops.values()) if pa.types.is_string(schema.field(name).type)]
    file = pq.ParquetFile(path, read_dictionary=plain)
    return _batches(file, tops)


def _batches(file: pq.ParquetFile, tops: dict[str, str]) -> Iterator[Records]:
    done = 0
    names = sorted(set(tops.values()))
    for batch in file.iter_batches(_num_rows(file, names), columns=names):
        read = {top: plain_type(batch.column(top)) for top in set(tops.values())}
        columns = {name: _nested(read[top], name[len(top) + 1 :]) for name, top in tops.items()}
        yield Records(columns, refs_of("row", np.arange(done + 1, done + 1 + batch.num_rows)))
        done += batch.num_rows


def _num_rows(file: pq.ParquetFile, names: list[str]) -> int:
    """Rows per batch: fewer if they contain images."""
    total = 0
    for number in range(file.metadata.num_row_groups):
        group = file.metadata.row_group(number)
        chunks = [group.column(place) for place in range(group.num_columns)]
        total += sum(
            chunk.total_uncompressed_size
            for chunk in chunks
            if any(f"{chunk.path_in_schema}.".startswith(f"{name}.") for name in names)
        )
    return min(BATCH_ROWS, max(1, BATCH_BYTES * file.metadata.num_rows // max(total, 1)))


def plain_type(column: pa.Array) -> pa.Array:
    """The column cast to a type that the mapping supports: no views, no large types."""
    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        return column_of([None if one is None else str(one) for one in column.to_pylist()])
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return column.cast(pa.string())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        column = column.cast(pa.binary())
        if pc.any(pc.match_substring(column, b"\0")).as_py():  # also in images that are ASCII
            return column
        try:  # some writers do not mark strings as strings
            return column.cast(pa.string())
        except pa.ArrowInvalid:
            return column
    if pa.types.is_list(kind) or _is_other_list(kind):
        values = plain_type(pa.array([], kind.value_type)).type
        wanted = pa.list_(values)
        return column if kind == wanted else pa.array(column.to_pylist(), wanted)
    if pa.types.is_dictionary(kind):
        values = plain_type(column.dictionary)
        return pa.DictionaryArray.from_arrays(column.indices.cast(pa.int32()), values)
    if pa.types.is_run_end_encoded(kind):
        return plain_type(pc.run_end_decode(column))
    return column


def _is_other_list(kind: pa.DataType) -> bool:
    return (
        pa.types.is_large_list(kind)
        or pa.types.is_fixed_size_list(kind)
        or pa.types.is_list_view(kind)
        or pa.types.is_large_list_view(kind)
    )


def _nested(column: pa.Array, path: str) -> pa.Array:
    keys = path.split(".") if path else []
    for place, key in enumerate(keys):
        if pa.types.is_struct(column.type) and column.type.get_field_index(key) >= 0:
            column = plain_type(pc.struct_field(column, key))
        elif pa.types.is_list(column.type) and key.isdigit():
            index = int(key)
            longer = pc.greater(pc.list_value_length(column), index)
            whole = pc.if_else(longer, column, pa.nulls(len(column), column.type))
            column = pc.list_slice(whole, index, index + 1, return_fixed_size_list=True)
            column = plain_type(pc.list_element(column, 0))
        elif pa.types.is_map(column.type):
            column = pc.map_lookup(column, pa.scalar(key, column.type.key_type), "first")
            column = plain_type(column)
        elif is_text(column.type):
            return inside(column, ".".join(keys[place:]))
        else:
            return pa.nulls(len(column))
    return column

"""Parquet: read in batches, only the wanted columns."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from zreward_core.annotations.formats.records import BATCH_ROWS, Records, Wanted, refs_of
from zreward_core.config import UserError


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
    tops = {name: name if name in schema.names else name.split(".")[0] for name in wanted.names}
    missing = sorted(top for top in set(tops.values()) if top not in schema.names)
    if missing:
        raise UserError(
            f"{path}: no column {', '.join(missing)} (it has {', '.join(schema.names)}); correct "
            "`columns` of the source in params.yaml"
        )
    # Text columns are read as dictionaries, as they are stored.
    plain = [name for name in set(tops.values()) if pa.types.is_string(schema.field(name).type)]
    file = pq.ParquetFile(path, read_dictionary=plain)
    return _batches(file, tops)


def _batches(file: pq.ParquetFile, tops: dict[str, str]) -> Iterator[Records]:
    done = 0
    for batch in file.iter_batches(BATCH_ROWS, columns=sorted(set(tops.values()))):
        columns = {
            name: _nested(batch.column(top), name[len(top) + 1 :]) for name, top in tops.items()
        }
        yield Records(columns, refs_of("row", np.arange(done + 1, done + 1 + batch.num_rows)))
        done += batch.num_rows


def _nested(column: pa.Array, path: str) -> pa.Array:
    for key in path.split(".") if path else ():
        if pa.types.is_struct(column.type) and column.type.get_field_index(key) >= 0:
            column = pc.struct_field(column, key)
        elif pa.types.is_list(column.type) and key.isdigit():
            index = int(key)
            longer = pc.greater(pc.list_value_length(column), index)
            whole = pc.if_else(longer, column, pa.nulls(len(column), column.type))
            column = pc.list_slice(whole, index, index + 1, return_fixed_size_list=True)
            column = pc.list_element(column, 0)
        else:
            return pa.nulls(len(column))
    return column

"""Writing of tables larger than memory, in batches, in a background thread."""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

import pyarrow as pa
import pyarrow.parquet as pq

GROUP_ROWS = 2**18
"""Rows per row group; fixed, so that the file does not depend on the batch sizes."""


class TableWriter:
    """Writes one Parquet file in row groups of a fixed size."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._file = pq.ParquetWriter(path, schema)
        self._waiting: list[pa.Table] = []
        self._num_waiting = 0
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._writing: Future[None] | None = None
        self.num_rows = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and (self._num_waiting or not self.num_rows):
            self._write(pa.concat_tables(self._waiting or [self._schema.empty_table()]))
        self._pool.shutdown()
        self._file.close()
        if kind is None and self._writing is not None:
            self._writing.result()

    def write(self, table: pa.Table) -> None:
        """Append a table with the schema's columns."""
        if not table.num_rows:
            return
        self._waiting.append(table)
        self._num_waiting += table.num_rows
        self.num_rows += table.num_rows
        if self._num_waiting < GROUP_ROWS:
            return
        rows = pa.concat_tables(self._waiting)
        whole = rows.num_rows - rows.num_rows % GROUP_ROWS
        self._write(rows.slice(0, whole))
        rest = rows.slice(whole)
        self._waiting = [rest] if rest.num_rows else []
        self._num_waiting = rest.num_rows

    def _write(self, rows: pa.Table) -> None:
        if self._writing is not None:
            self._writing.result()
        rows = rows.combine_chunks()
        self._writing = self._pool.submit(self._file.write_table, rows, row_group_size=GROUP_ROWS)

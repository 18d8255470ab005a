"""A long job in parts: files of a fixed number of rows, which any process may compute.

Processes of one launch, or of several, share a folder beside the output. A process locks the part
that it computes; the system releases the lock of a process that dies. The output is put together
from the parts in order, so it does not depend on who computed them, or on how often.
"""

import contextlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from zreward_core.config import UserError, writable
from zreward_core.locks import acquire
from zreward_core.runtime.worker import is_main
from zreward_core.schemas import flush, read_json, replaced, write_json

POLL_SECONDS = 0.5
"""Time between two looks at the parts of other processes."""


class Parts:
    """The parts of one output file."""

    def __init__(self, output: Path, count: int) -> None:
        """Args:
        output: file that is written at the end.
        count: number of parts.
        """
        self.output, self.count = output, count
        self.folder = output.with_name(f"{output.name}.parts")
        self._job = self.folder / "job.json"

    def start(self, job: dict[str, Any], newest: float) -> bool:
        """Claim the output for a job; False if the output of this job exists.

        The main process creates the folder, others wait for it.

        Args:
            job: what the content of the output depends on, as JSON values; the output has it.
            newest: time of the newest input.

        Raises:
            UserError: the output, or its parts, are of another job.
        """
        while not self._job.is_file():
            if self.output.exists():
                if read_job(self.output) == job and self.output.stat().st_mtime >= newest:
                    return False
                raise UserError(
                    f"{writable(str(self.output))} exists and is of another model, input or"
                    " setting: remove it, or choose another --output"
                )
            if self.folder.exists() and not self.folder.is_dir():
                raise UserError(
                    f"{writable(str(self.folder))} is a file in the place of the output's parts:"
                    " move it, or choose another --output"
                )
            if is_main():
                self.folder.mkdir(parents=True, exist_ok=True)
                with acquire(FileLock(self.folder / "start.lock")):
                    if not self._job.is_file():  # of another launch
                        write_json(job | {"newest": newest}, self._job)
            else:
                time.sleep(POLL_SECONDS)
        try:
            found, job = read_json(self._job), job | {"newest": newest}
        except UserError as error:
            raise UserError(f"{error}: remove {writable(str(self.folder))}") from None
        if found != job:
            if not isinstance(found, dict):
                found = {}
            changed = sorted(key for key in {*job, *found} if job.get(key) != found.get(key))
            raise UserError(
                f"{writable(str(self.folder))} holds an unfinished job that differs in"
                f" {', '.join(changed)}: run that one again, remove the folder, or choose another"
                " --output"
            )
        return True

    def missing(self) -> Iterator[int]:
        """Parts that this process has to compute, each locked while it is out, until all exist."""
        rank, number = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        first = self.count * rank // number
        left = [*range(first, self.count), *range(first)]
        while left:
            for index in left:
                if self.path(index).is_file():
                    continue
                if not self._job.is_file():
                    return  # the main process has put all parts together
                try:
                    held = acquire(FileLock(self.folder / f"{index:06d}.lock"), timeout=0)
                except Timeout:
                    continue
                except FileNotFoundError:
                    return  # another launch has put all parts together
                with held:
                    if not self.path(index).is_file() and self._job.is_file():
                        yield index
            left = [index for index in left if not self.path(index).is_file()]
            if left:
                time.sleep(POLL_SECONDS)

    def path(self, index: int) -> Path:
        """File of a part."""
        return self.folder / f"{index:06d}.parquet"

    def num_done(self) -> int:
        """Number of parts that exist."""
        return sum(1 for _ in self.folder.glob("??????.parquet"))

    def times(self) -> dict[int, float]:
        """When each of the parts that exist was written."""
        times = {}
        for index in range(self.count):
            with contextlib.suppress(FileNotFoundError):
                times[index] = self.path(index).stat().st_mtime
        return times

    def save(self, index: int, table: pa.Table) -> None:
        """Write a part; it is on disk before it has its name."""
        partial = self.folder / f"{uuid.uuid4().hex}.partial"
        pq.write_table(table, partial)
        flush(partial)
        os.replace(partial, self.path(index))
        flush(self.folder)

    def read(self, index: int, columns: list[str] | None = None) -> pa.Table:
        """Content of a part.

        Raises:
            UserError: it is damaged.
        """
        try:
            return pq.read_table(self.path(index), columns=columns)
        except pa.ArrowException as error:
            raise UserError(
                f"{writable(str(self.path(index)))} is damaged ({error}): remove it, and run the"
                " command again"
            ) from None

    def finish(self, check: Callable[[], None] | None = None) -> None:
        """Put the parts together and remove them; only the main process may call it.

        Args:
            check: called before; it may raise.
        """
        if not self._job.is_file():
            return  # another launch has; to ask for the lock would make the folder again
        try:
            held = acquire(FileLock(self.folder / "finish.lock"))
        except FileNotFoundError:
            return  # another launch has, while this one waited
        with held:
            if not self._job.is_file():
                return
            if check is not None:
                check()
            schema = self.read(0).schema
            with replaced(self.output) as partial, pq.ParquetWriter(partial, schema) as writer:
                for index in range(self.count):
                    writer.write_table(self.read(index))
            self.clear()

    def clear(self) -> None:
        """Remove the parts."""
        cleared = self.folder.with_name(f"{self.folder.name}.{uuid.uuid4().hex}.cleared")
        self.folder.rename(cleared)  # at once: other processes look for parts in it
        shutil.rmtree(cleared, ignore_errors=True)


def read_job(path: Path) -> Any:
    """The job of a finished output; None if it has none."""
    from zreward_core.commands.scoring.score_file import METADATA

    try:
        content = (pq.read_schema(path).metadata or {}).get(METADATA)
    except (pa.ArrowException, OSError):
        return None
    return None if content is None else json.loads(content).get("job")

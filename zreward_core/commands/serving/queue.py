"""Rows of concurrent requests, scored together in batches."""

from asyncio import gather, sleep
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Any

from anyio import CancelScope
from async_batcher.batcher import AsyncBatcher
from starlette.concurrency import run_in_threadpool

from zreward_core.commands.serving.metrics import ServerMetrics
from zreward_core.config import UserError
from zreward_core.models.requests import RequestScorer, Row, RowScores

PAUSE = 0.005
"""A batch that is not full starts when no row has come for this long, in seconds."""
MAX_WAIT = 0.02
"""Seconds for which a batch that is not full waits for more rows, at most."""

SMALL = 20_000
"""Requests of fewer characters are read where they come in: passing one to a thread costs more."""


class QueueFull(Exception):
    """Too many rows are waiting; HTTP 429."""


class ScoringQueue:
    """Scores the rows of all requests, those of the same length together."""

    def __init__(self, scorer: RequestScorer, max_rows: int, metrics: ServerMetrics) -> None:
        """
        Args:
            scorer: of the model; a thread of its own runs it.
            max_rows: rows that may wait, those of the running batch included.
            metrics: counts rows and batches.
        """
        self._scorer = scorer
        self._max_rows = max_rows
        self._metrics = metrics
        self._num_rows = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """While entered, rows are scored; on exit, those that wait are scored first."""
        with ThreadPoolExecutor(1, "scoring") as thread:
            self._batcher = _Batcher(self._scorer, self._metrics, thread, lambda: self._num_rows)
            try:
                yield
            finally:
                await self._batcher.stop()

    async def score(
        self, prompts: Sequence[object], images: Sequence[object]
    ) -> list[RowScores | UserError]:
        """For each row of a request its scores, or the reason why it has none.

        Args:
            prompts, images: as for ``RequestScorer.admit``.

        Raises:
            QueueFull: more rows would wait than may.
            RequestTooLarge, UserError: the request is refused as a whole.
        """
        self._scorer.check_number(len(prompts))  # trying again later would not help
        with self._reserved(len(prompts)):
            if sum(len(one) for one in (*prompts, *images) if isinstance(one, str | bytes)) < SMALL:
                rows = self._scorer.admit(prompts, images)
            else:
                rows = await run_in_threadpool(self._scorer.admit, prompts, images)
            admitted = [row for row in rows if isinstance(row, Row)]
            # a batch whose rows have lost their caller fails for the others
            with CancelScope(shield=True):
                scored = await gather(
                    *(self._batcher.process(row) for row in admitted), return_exceptions=True
                )
        for one in scored:
            if isinstance(one, BaseException):
                raise one
        scores = iter(one for one in scored if not isinstance(one, BaseException))
        found = [row if isinstance(row, UserError) else next(scores).found for row in rows]
        failed = sum(isinstance(one, UserError) for one in found)
        self._metrics.rows.labels("failed").inc(failed)
        self._metrics.rows.labels("scored").inc(len(found) - failed)
        return found

    @contextmanager
    def _reserved(self, num_rows: int) -> Iterator[None]:
        if self._num_rows + num_rows > self._max_rows:
            raise QueueFull(
                f"{self._num_rows} rows are waiting, and at most {self._max_rows} may: try again"
                " later"
            )
        self._num_rows += num_rows
        self._metrics.waiting.set(self._num_rows)
        try:
            yield
        finally:
            self._num_rows -= num_rows
            self._metrics.waiting.set(self._num_rows)


@dataclass(frozen=True)
class _Result:
    """Holds an error that the library would raise."""

    found: RowScores | UserError


class _Batcher(AsyncBatcher[Row, _Result]):
    """Rows of one length at a time; the model would score others apart from them anyway.

    While a batch is answered, and its clients send their next requests, rows of another length are
    scored.
    """

    def __init__(
        self,
        scorer: RequestScorer,
        metrics: ServerMetrics,
        thread: ThreadPoolExecutor,
        num_received: Callable[[], int],
    ) -> None:
        """``num_received``: rows of all requests that have no answer yet."""
        super().__init__(
            max_batch_size=max(scorer.model.batch_size, 2),  # it refuses 1
            max_queue_time=0.0,
            executor=thread,
        )
        self._scorer, self._metrics, self._num_received = scorer, metrics, num_received
        self._waiting: dict[int, list[Any]] = {}
        self._last_length: int | None = None

    async def _fill_batch_from_queue(self, started_at: float | None) -> list[Any]:
        """Waiting rows of one length; the lengths take turns."""
        if not self._waiting:
            self._sort(await super()._fill_batch_from_queue(started_at))
        self._sort(self._arrived())
        if not self._waiting:  # after a second without rows
            return []
        length = next(iter(self._waiting))
        if self._last_length in (length, None):
            await self._wait_for_more(length)
        self._last_length = length
        rows = self._waiting.pop(length)
        if rest := rows[self.max_batch_size :]:
            self._waiting[length] = rest
        return rows[: self.max_batch_size]

    async def _wait_for_more(self, length: int) -> None:
        """Wait until the batch is full, or no row has come for a while.

        Clients that have just been answered would otherwise miss the batch: two halves of them
        would take turns in small ones.
        """
        deadline = monotonic() + MAX_WAIT
        while len(self._waiting[length]) < self.max_batch_size and monotonic() < deadline:
            await sleep(PAUSE)
            arrived = self._arrived()
            self._sort(arrived)
            if not arrived and self._num_received() <= sum(map(len, self._waiting.values())):
                break

    def _arrived(self) -> list[Any]:
        return [self._queue.get_nowait() for _ in range(self._queue.qsize())]

    def _sort(self, items: list[Any]) -> None:
        for item in items:
            self._waiting.setdefault(self._scorer.padded_length(item.item), []).append(item)

    def _should_stop(self) -> bool:
        return super()._should_stop() and not self._waiting

    def process_batch(self, batch: list[Row]) -> list[_Result]:  # type: ignore[override]
        """Runs in the thread, since it is not a coroutine."""
        start = perf_counter()
        found = self._scorer.score_rows(batch)
        self._metrics.batch_rows.observe(len(batch))
        self._metrics.batch_seconds.observe(perf_counter() - start)
        return [_Result(one) for one in found]

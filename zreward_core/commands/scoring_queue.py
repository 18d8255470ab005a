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

from zreward_core.commands.server_metrics import ServerMetrics
from zreward_core.config import UserError
from zreward_core.models.requests import RequestScorer, Row, RowScores

PAUSE = 0.005
"""A batch that is not full starts when no row has come for this long, in seconds."""
MAX_WAIT = 0.02
"""Seconds for which a batch that is not full waits for more rows, at most."""


class QueueFull(Exception):
    """Too many rows are waiting; HTTP 429."""


class ScoringQueue:
    """Scores the rows of all requests in the order in which they came, in full batches."""

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

    async def _fill_batch_from_queue(self, started_at: float | None) -> list[Any]:
        """The rows that wait, and those that come before a pause.

        The library does not wait once a row has waited for the model. Clients that have just been
        answered would then miss the batch: two halves of them would take turns in small ones.
        """
        batch = await super()._fill_batch_from_queue(started_at)
        deadline = monotonic() + MAX_WAIT
        while batch and len(batch) < self.max_batch_size and monotonic() < deadline:
            await sleep(PAUSE)
            if self._queue.empty() and self._num_received() <= len(batch):
                break
            while not self._queue.empty() and len(batch) < self.max_batch_size:
                batch.append(self._queue.get_nowait())
        return batch

    def process_batch(self, batch: list[Row]) -> list[_Result]:  # type: ignore[override]
        """Runs in the thread, since it is not a coroutine."""
        start = perf_counter()
        found = self._scorer.score_rows(batch)
        self._metrics.batch_rows.observe(len(batch))
        self._metrics.batch_seconds.observe(perf_counter() - start)
        return [_Result(one) for one in found]

"""Which rows are scored in one batch."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from tests.commands.serving import png, tiny_model
from zreward_core.commands import scoring_queue
from zreward_core.commands.scoring_queue import ScoringQueue
from zreward_core.commands.server_metrics import ServerMetrics
from zreward_core.config import UserError
from zreward_core.models.requests import RequestScorer, Row, RowScores


class Held(RequestScorer):
    """Scores a batch once it may; records the sizes of batches."""

    def __init__(self) -> None:
        super().__init__(tiny_model())
        self.started, self.may_score = threading.Event(), threading.Event()
        self.sizes: list[int] = []

    def score_rows(self, rows: Sequence[Row]) -> list[RowScores | UserError]:
        self.sizes.append(len(rows))
        self.started.set()
        assert self.may_score.wait(60)
        return super().score_rows(rows)


def test_an_answered_client_shares_the_next_batch_with_those_that_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring_queue, "PAUSE", 1.0)  # of a busy machine
    monkeypatch.setattr(scoring_queue, "MAX_WAIT", 1.0)
    scorer = Held()
    queue = ScoringQueue(scorer, 10, ServerMetrics())

    async def client(requests: int) -> None:
        for _ in range(requests):
            assert isinstance((await queue.score(["red"], [png()]))[0], RowScores)

    async def clients() -> None:
        async with queue.running():
            first = asyncio.create_task(client(2))
            await asyncio.to_thread(scorer.started.wait, 60)
            second = asyncio.create_task(client(1))
            while queue._batcher._queue.empty():  # the second client waits for the model
                await asyncio.sleep(0.01)
            scorer.may_score.set()
            await asyncio.gather(first, second)

    asyncio.run(clients())
    assert scorer.sizes == [1, 2]

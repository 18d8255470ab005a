"""Which rows are scored in one batch."""

import asyncio
import threading
from collections.abc import Sequence

import pytest

from tests.commands.serving import png, tiny_model
from zreward_core.commands.serving import queue as scoring_queue
from zreward_core.commands.serving.metrics import ServerMetrics
from zreward_core.commands.serving.queue import ScoringQueue
from zreward_core.config import UserError
from zreward_core.models.requests import RequestScorer, Row, RowScores


class Held(RequestScorer):
    """Scores a batch once it may; records the prompts of batches."""

    def __init__(self) -> None:
        super().__init__(tiny_model())
        self.started, self.may_score = threading.Event(), threading.Event()
        self.batches: list[list[str]] = []

    def score_rows(self, rows: Sequence[Row]) -> list[RowScores | UserError]:
        self.batches.append([row.prompt for row in rows])
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
    assert scorer.batches == [["red"], ["red", "red"]]


def test_rows_of_one_length_share_a_batch_and_the_lengths_take_turns() -> None:
    scorer = Held()
    queue = ScoringQueue(scorer, 100, ServerMetrics())
    long, longer = "red " * 20, "red " * 40
    prompts = [long, "red", longer, "blue", long, *["red"] * 16]

    async def clients() -> list[list[RowScores | UserError]]:
        async with queue.running():
            first = asyncio.create_task(queue.score(["red"], [png()]))
            await asyncio.to_thread(scorer.started.wait, 60)
            rest = [asyncio.create_task(queue.score([one], [png()])) for one in prompts]
            while queue._batcher._queue.qsize() < len(prompts):  # they wait for the model
                await asyncio.sleep(0.01)
            scorer.may_score.set()
            return [await one for one in (first, *rest)]

    found = asyncio.run(clients())
    assert all(isinstance(one[0], RowScores) for one in found)
    assert scorer.batches == [
        ["red"], [long, long], ["red", "blue", *["red"] * 14], [longer], ["red", "red"]
    ]  # fmt: skip

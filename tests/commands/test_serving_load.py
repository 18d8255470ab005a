"""The server under parallel clients, with bad requests among the good: no 5xx, no wrong row."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Iterator

import aiohttp
import pytest
import uvicorn

from tests.commands.serving import b64, png, running_server, tiny_model
from zreward_core.commands.serving.app import server_app
from zreward_core.models.requests import RequestScorer

NUM_ROWS = 24
PROMPTS = [" ".join(["a red circle"] * (1 + index % 4)) for index in range(NUM_ROWS)]
IMAGES = [png(32 + 8 * (index % 5), 32 + 8 * (index % 3)) for index in range(NUM_ROWS)]
BAD_ROWS = [
    {"prompt": "red", "image": b64(IMAGES[0][:200])},
    {"prompt": "red", "image": "@@"},
    {"prompt": 5, "image": b64(IMAGES[0])},
    {"prompt": "red " * 3000, "image": b64(IMAGES[0])},
]
JSON = {"Content-Type": "application/json"}
BAD_REQUESTS = [
    (b"{", JSON, 400),
    (b"[" * 100_000, JSON, 400),
    (b'{"items": []}', JSON, 400),
    (json.dumps({"items": [{}] * 257}).encode(), JSON, 413),
    (b"{}," * 110_000, JSON, 413),
    (b"prompt,image", {"Content-Type": "text/csv"}, 415),
    (b"--x\r\nnot a form", {"Content-Type": "multipart/form-data; boundary=x"}, 400),
]


@pytest.fixture
def running() -> Iterator[tuple[str, list[float], uvicorn.Server]]:
    """A server in a thread of this process: its address, and the scores of the rows."""
    model = tiny_model()
    expected = model.score(PROMPTS, IMAGES).overall.tolist()
    with running_server(server_app(RequestScorer(model), max_waiting=300)) as (address, server):
        yield address, expected, server


async def good(session: aiohttp.ClientSession, rng: random.Random, expected: list[float]) -> int:
    """Send some rows, bad ones among them; the status."""
    rows = rng.choices([*range(NUM_ROWS), *range(-len(BAD_ROWS), 0)], k=rng.randint(1, 12))
    items = [
        BAD_ROWS[row] if row < 0 else {"prompt": PROMPTS[row], "image": b64(IMAGES[row])}
        for row in rows
    ]
    async with session.post("/v1/score", json={"items": items}) as answer:
        if answer.status == 200:
            results = (await answer.json())["results"]
            for row, result in zip(rows, results, strict=True):
                if row < 0:
                    assert result["overall"] is None and result["error"], result
                else:
                    assert result["error"] is None
                    assert result["overall"] == pytest.approx(expected[row], rel=1e-5), row
        return answer.status


async def bad(session: aiohttp.ClientSession, rng: random.Random) -> int:
    body, headers, expected = rng.choice(BAD_REQUESTS)
    async with session.post("/v1/score", data=body, headers=headers) as answer:
        assert answer.status == expected, await answer.text()
        return answer.status


async def leave(session: aiohttp.ClientSession) -> None:
    """Close the connection before the answer."""
    items = [{"prompt": PROMPTS[0], "image": b64(IMAGES[0])}] * 8
    timeout = aiohttp.ClientTimeout(total=0.01)
    try:
        async with session.post("/v1/score", json={"items": items}, timeout=timeout) as answer:
            await answer.read()
    except TimeoutError:
        return


async def load(address: str, expected: list[float], clients: int, requests: int) -> Counter[int]:
    statuses: Counter[int] = Counter()

    async def client(seed: int) -> None:
        rng = random.Random(seed)
        timeout = aiohttp.ClientTimeout(total=600)
        async with aiohttp.ClientSession(address, timeout=timeout) as session:
            for _ in range(requests):
                kind = rng.random()
                if kind < 0.05:
                    await leave(session)
                elif kind < 0.25:
                    statuses[await bad(session, rng)] += 1
                else:
                    while (status := await good(session, rng, expected)) == 429:
                        statuses[status] += 1
                        await asyncio.sleep(rng.random())
                    statuses[status] += 1

    await asyncio.gather(*(client(seed) for seed in range(clients)))
    return statuses


@pytest.mark.parametrize(
    ("clients", "requests"),
    [(8, 6), pytest.param(200, 20, marks=[pytest.mark.long, pytest.mark.timeout(3600)])],
)
def test_parallel_clients(
    running: tuple[str, list[float], uvicorn.Server], clients: int, requests: int
) -> None:
    statuses = asyncio.run(load(*running[:2], clients, requests))
    assert statuses[200] > clients and max(statuses) < 500, statuses
    assert set(statuses) <= {200, 400, 413, 415, 429}, statuses


def test_a_server_that_stops_answers_what_it_has(
    running: tuple[str, list[float], uvicorn.Server],
) -> None:
    address, expected, server = running
    items = [{"prompt": PROMPTS[0], "image": b64(IMAGES[0])}] * 200

    async def stop() -> list[dict]:
        async with aiohttp.ClientSession(address) as session:
            request = asyncio.create_task(_results(session, items))
            while True:
                async with session.get("/metrics") as answer:
                    if "zreward_waiting_rows 200.0" in await answer.text():
                        break
            server.should_exit = True
            return await request

    assert [one["overall"] for one in asyncio.run(stop())] == pytest.approx([expected[0]] * 200)


async def _results(session: aiohttp.ClientSession, items: list[dict]) -> list[dict]:
    async with session.post("/v1/score", json={"items": items}) as answer:
        return (await answer.json())["results"]

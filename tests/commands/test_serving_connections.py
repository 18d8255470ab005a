"""Connections of the scoring server that send no request, or one that never begins, are closed."""

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.commands.serving import REPOSITORY, running_server
from zreward_core.commands.serving import limits
from zreward_core.commands.serving.connections import (
    HEAD_SECONDS,
    MAX_CONNECTIONS,
    MAX_HEAD_BYTES,
    BoundedHeads,
    server_config,
)

SECONDS = 0.6
REQUEST = b"GET /length HTTP/1.1\r\nHost: x\r\n\r\n"


async def length(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def early(_: Request) -> PlainTextResponse:
    """Answers without having read the body."""
    return PlainTextResponse("early")


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    app = Starlette(routes=[
        Route("/length", length, methods=["GET", "POST"]),
        Route("/early", early, methods=["POST"]),
    ])  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BoundedHeads, "head_seconds", SECONDS)
        with running_server(app) as (address, _):
            yield int(address.rpartition(":")[2])


def seconds_until_closed(client: socket.socket, parts: Iterator[bytes]) -> float:
    """Seconds until the server closes a connection, to which the parts are sent meanwhile."""
    client.settimeout(0.05)
    start = time.monotonic()
    while time.monotonic() - start < 5 * SECONDS:
        with suppress(TimeoutError):
            if not client.recv(65536):
                break
        with suppress(ConnectionError):
            client.sendall(next(parts, b""))
    return time.monotonic() - start


def a_byte_at_a_time(content: bytes) -> Iterator[bytes]:
    return (bytes([byte]) for byte in content)


HEADERS = b"GET /length HTTP/1.1\r\nHost: x\r\n" + b"X-More: 1\r\n" * 1000
SLOW = {
    "nothing": (b"", b""),
    "a slow head": (b"", HEADERS),
    "empty lines": (b"", b"\r\n" * 1000),
    "a slow head after an answer": (REQUEST, HEADERS),
    "empty lines after an answer": (REQUEST, b"\r\n" * 1000),
    "a head that stops": (HEADERS, b""),
    "the body of a request that was answered": (
        b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n", b"x" * 1000,
    ),
    "a slow head behind another request": (REQUEST + b"GET /len", HEADERS[8:]),
}  # fmt: skip


@pytest.mark.parametrize("case", SLOW)
def test_a_connection_without_a_request_is_closed(port: int, case: str) -> None:
    first, rest = SLOW[case]
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(first)
        seconds = seconds_until_closed(client, a_byte_at_a_time(rest))
    assert SECONDS * 0.5 < seconds < SECONDS * 3, case


def test_connections_with_requests_are_kept(port: int) -> None:
    """Also those of slow bodies, and that pause between two requests."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.connect()
    used = connection.sock
    time.sleep(SECONDS / 2)
    for _ in range(3):
        connection.request("POST", "/length", body=b"x" * 1000)
        assert connection.getresponse().read() == b"1000"
        time.sleep(SECONDS * 1.5)
    slow = (time.sleep(SECONDS / 2) or b"x" for _ in range(4))
    connection.request("POST", "/length", body=slow, headers={"Content-Length": "4"})
    assert connection.getresponse().read() == b"4"
    assert connection.sock is used
    connection.close()


def test_long_headers_are_refused(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(b"GET /length HTTP/1.1\r\nHost: x\r\n")
        with suppress(ConnectionError):
            for _ in range(50):
                client.sendall(b"X-More: " + b"1" * 9990 + b"\r\n")
        with suppress(ConnectionError):
            answer = client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 400") and b"more than 65,536 bytes" in answer
            assert not client.recv(65536)
    many = {f"x-{index}": "1" * 1000 for index in range(50)}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/length", headers=many)
    assert connection.getresponse().status == 200
    connection.close()


def test_the_limits_are_documented() -> None:
    text = (REPOSITORY / "docs/serving.md").read_text()
    for limit, status in {
        MAX_CONNECTIONS: 503, f"{HEAD_SECONDS:g}": "closed", f"{MAX_HEAD_BYTES:,}": 400,
        f"{limits.MAX_PAUSE:g}": 408, f"{limits.MAX_READ:g}": 408,
    }.items():  # fmt: skip
        assert f" | {limit} | {status} |" in text
    assert server_config(Starlette()).limit_concurrency == MAX_CONNECTIONS

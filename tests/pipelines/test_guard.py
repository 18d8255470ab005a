"""Requests from other sites, hosts and users do not reach the servers behind `make ui`."""

import asyncio
import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from html import unescape
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from pipelines.guard import MARK, Guard
from pipelines.metadata import ABOUT
from pipelines.servers import HOST, TOKEN
from pipelines.ui import _answers, prepare_home, server
from tests.browser import CHROMIUM, visit
from tests.registry.stores import empty_store

__all__ = ["empty_store"]  # fixture
pytestmark = pytest.mark.timeout(900)
SECRET = "a token of many characters"
MUTATION = 'mutation { shutdownRepositoryLocation(repositoryLocationName: "a") { __typename } }'


class Pages:
    """A small server with state, and what reached it."""

    def __init__(self) -> None:
        self.reached: list[str] = []
        self.results = ""
        self.shown = asyncio.Event()
        routes = [
            Route("/page", self.page),
            Route("/wait", self.wait),
            Route("/results", self.show, methods=["POST"]),
            Route("/graphql", self.state, methods=["GET", "POST"]),
            Route("/api/runs", self.state, methods=["GET", "POST", "DELETE"]),
            WebSocketRoute("/graphql", self.websocket),
        ]
        self.app = Starlette(routes=routes)

    async def page(self, request: Request) -> HTMLResponse:
        """A page that sends requests of all kinds to the server ``to``."""
        return HTMLResponse(SENDER.replace("TARGET", request.query_params["to"]))

    async def wait(self, _: Request) -> PlainTextResponse:
        """An image of the page, which delays its end until the results are there."""
        async with asyncio.timeout(60):
            await self.shown.wait()
        return PlainTextResponse("")

    async def show(self, request: Request) -> PlainTextResponse:
        self.results = (await request.body()).decode()
        self.shown.set()
        return PlainTextResponse("")

    async def state(self, request: Request) -> PlainTextResponse:
        self.reached.append(f"{request.method} {request.url.path}")
        return PlainTextResponse("done", headers={"Access-Control-Allow-Origin": "*"})

    async def websocket(self, websocket: WebSocket) -> None:
        self.reached.append("WEBSOCKET")
        await websocket.accept(subprotocol="graphql-ws")
        await websocket.send_text(await websocket.receive_text())


SENDER = """<body><img src="/wait"><script>
const results = [];
const say = (what, how) => results.push(what + " " + how);
const tried = [
  ["post", () => fetch("http://TARGET/graphql", {method: "POST", mode: "no-cors"})],
  ["json", () => fetch("http://TARGET/api/runs", {method: "POST", body: "{}",
                       headers: {"Content-Type": "application/json"}})],
  ["delete", () => fetch("http://TARGET/api/runs", {method: "DELETE"})],
  ["get", () => fetch("http://TARGET/api/runs")],
  ["image", () => new Promise((good, bad) => { const one = new Image(); one.onload = good;
             one.onerror = bad; one.src = "http://TARGET/graphql?query=mutation"; })],
  ["socket", () => new Promise((good, bad) => {
    const one = new WebSocket("ws://TARGET/graphql", "graphql-ws");
    one.onopen = () => one.send("hello"); one.onmessage = good; one.onerror = bad; })],
];
(async () => {
  for (const [what, send] of tried) {
    try { await send(); say(what, "sent"); } catch (error) { say(what, "failed"); }
  }
  await fetch("http://" + location.host + "/results", {method: "POST", body: results.join(", ")});
})();
</script></body>"""


@contextlib.contextmanager
def running(app: ASGIApp) -> Iterator[str]:
    """Host and port of an application in a thread."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen()
        running = uvicorn.Server(uvicorn.Config(app, log_level="error"))
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        yield f"{HOST}:{listener.getsockname()[1]}"
        running.should_exit = True
        thread.join()


def ask(
    address: str, path: str = "/", data: bytes | None = None, method: str = "", **headers: str
) -> tuple[int, str]:
    """Status and text of an answer; header names are written with underscores."""
    request = urllib.request.Request(
        f"http://{address}{path}",
        data,
        {name.replace("_", "-"): value for name, value in headers.items()},
        method=method or None,
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


@pytest.fixture(scope="module")
def pages() -> Iterator[tuple[Pages, str]]:
    made = Pages()
    with running(Guard(made.app)) as address:
        yield made, address


def test_programs_and_links_pass(pages: tuple[Pages, str]) -> None:
    _, address = pages
    assert ask(address, "/graphql", b"{}") == (200, "done")
    assert ask(address, "/api/runs", Host=address.replace(HOST, "localhost"))[0] == 200
    assert ask(address, "/api/runs", Host="localhost:1234")[0] == 200  # by an SSH tunnel
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert ask(address, "/page?to=x", Sec_Fetch_Dest="document", **link)[0] == 200
    with connect(f"ws://{address}/graphql", subprotocols=["graphql-ws"]) as socket:  # type: ignore[list-item]
        socket.send("hello")
        assert socket.recv() == "hello"


REFUSED: dict[str, tuple[int, dict[str, str]]] = {
    "another host": (403, {"Host": "rebound.example"}),
    "a host that begins alike": (403, {"Host": "127.0.0.1.example:80"}),
    "no host": (403, {"Host": ""}),
    "another site": (403, {"Sec_Fetch_Site": "cross-site"}),
    "another port": (403, {"Sec_Fetch_Site": "same-site"}),
    "another origin": (403, {"Origin": "http://127.0.0.1:1"}),
    "an origin over https": (403, {"Origin": "https://127.0.0.1"}),
    "a sandboxed frame": (403, {"Origin": "null"}),
    "a form of another site": (
        403,
        {
            "Sec_Fetch_Site": "cross-site",
            "Sec_Fetch_Mode": "navigate",
            "Sec_Fetch_Dest": "document",
        },
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_requests_do_not_reach_the_server(pages: tuple[Pages, str], case: str) -> None:
    made, address = pages
    status, headers = REFUSED[case]
    before = len(made.reached)
    found, reason = ask(address, "/graphql", b"{}", **headers)
    assert found == status and reason.startswith(MARK)
    with (
        pytest.raises(InvalidStatus),
        connect(
            f"ws://{address}/graphql",
            additional_headers={
                name.replace("_", "-"): value for name, value in headers.items() if name != "Host"
            }
            | ({"Origin": "http://other.example"} if "Host" in headers else {}),
        ),
    ):
        pass
    assert len(made.reached) == before


def test_a_frame_of_another_site_is_refused(pages: tuple[Pages, str]) -> None:
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"}
    assert ask(pages[1], "/page?to=x", Sec_Fetch_Dest="iframe", **link)[0] == 403


@pytest.mark.parametrize("path", ["/graphql", "/graphql/", "/prefix/graphql"])
def test_graphql_is_refused_by_get(pages: tuple[Pages, str], path: str) -> None:
    query = urllib.parse.urlencode({"query": MUTATION})
    for method in ("GET", "HEAD", "OPTIONS"):
        assert ask(pages[1], f"{path}?{query}", method=method)[0] == 405


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_pages_in_a_browser(pages: tuple[Pages, str], tmp_path: Path) -> None:
    made, address = pages
    made.reached.clear()
    visit(f"http://{address}/page?to={address}", tmp_path)
    assert made.results == (
        "post sent, json sent, delete sent, get sent, image failed, socket sent"
    )
    assert made.reached == [
        "POST /graphql", "POST /api/runs", "DELETE /api/runs", "GET /api/runs", "WEBSOCKET",
    ]  # fmt: skip
    made.reached.clear()
    attacker = Pages()
    with running(attacker.app) as other:
        visit(f"http://{other}/page?to={address}", tmp_path)
    assert attacker.results == (
        "post sent, json failed, delete failed, get failed, image failed, socket failed"
    )
    assert made.reached == []


def test_the_token_is_the_password() -> None:
    made = Pages()
    with running(Guard(made.app, SECRET)) as address:
        assert ask(address, "/api/runs")[0] == 401
        for given in ("Basic", "Basic !", f"Bearer {SECRET}", basic("wrong"), basic("")):
            assert ask(address, "/api/runs", Authorization=given)[0] == 401
        with pytest.raises(InvalidStatus), connect(f"ws://{address}/graphql"):
            pass
        assert made.reached == []
        right = basic(SECRET)
        assert ask(address, "/api/runs", Authorization=right)[0] == 200
        with connect(
            f"ws://{address}/graphql", additional_headers={"Authorization": right},
            subprotocols=["graphql-ws"],  # type: ignore[list-item]
        ) as socket:  # fmt: skip
            socket.send("hello")
            assert socket.recv() == "hello"


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_page_has_the_token_for_its_websocket(tmp_path: Path) -> None:
    made = Pages()
    with running(Guard(made.app, SECRET)) as address:
        user = f"any:{urllib.parse.quote(SECRET)}@"
        visit(f"http://{user}{address}/page?to={address}", tmp_path)
    assert "post sent" in made.results and "socket sent" in made.results
    assert "WEBSOCKET" in made.reached


def basic(password: str) -> str:
    return "Basic " + base64.b64encode(f"any:{password}".encode()).decode()


def test_a_server_without_the_guard_is_reported() -> None:
    with running(Pages().app) as address, pytest.raises(SystemExit, match="without the guard"):
        _answers(f"http://{address}")


@contextlib.contextmanager
def process(command: Callable[[int], list[str]], folder: Path, **variables: str) -> Iterator[str]:
    """Host and port of a server of ``pipelines.servers``, once it answers."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    log = folder / "server.log"
    with log.open("wb") as stream:
        started = subprocess.Popen(
            command(port), stdout=stream, stderr=stream, cwd=folder, env=os.environ | variables
        )
    try:
        deadline = time.monotonic() + 240
        while not _answers(f"http://{HOST}:{port}"):
            assert started.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        yield f"{HOST}:{port}"
    finally:
        started.terminate()
        started.wait(60)


def test_reports_are_served(tmp_path: Path) -> None:
    folder = tmp_path / "reports"
    for name in ("reports/page.html", "data/drops/a b.csv", "data/drops/page.html", "outside.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("<p>a page</p>")
    command = lambda port: server("reports", str(port), str(folder))  # noqa: E731
    with process(command, tmp_path, **{TOKEN: SECRET}) as address:
        assert ask(address, "/page.html")[0] == 401
        assert ask(address, "/page.html", Authorization=basic(SECRET)) == (200, "<p>a page</p>")
        assert ask(address, "/../outside.txt", Authorization=basic(SECRET))[0] == 404
        (folder / "audit.html").write_text("")
        listed = ask(address, "/", Authorization=basic(SECRET))[1]
        assert f">annotators' audit</a><dd>{ABOUT['audit.html']}" in unescape(listed)
        assert ">page.html</a><dd>" in listed
        # the sources of ratings: as text or to be saved, never a page
        assert ask(address, "/data/drops/a%20b.csv")[0] == 401
        for path, kind, saved in (
            ("/data/drops/a%20b.csv", "text/plain; charset=utf-8", None),
            ("/data/drops/page.html", "text/html; charset=utf-8", "attachment"),
        ):
            request = urllib.request.Request(f"http://{address}{path}")
            request.add_header("Authorization", basic(SECRET))
            with urllib.request.urlopen(request) as answer:
                assert answer.headers["Content-Type"] == kind
                assert answer.headers["Content-Disposition"] == saved
        assert ask(address, "/data/../outside.txt", Authorization=basic(SECRET))[0] == 404


@pytest.mark.slow
def test_dagster_takes_no_mutation_from_other_sites(tmp_path: Path) -> None:
    home = prepare_home(tmp_path)

    def command(port: int) -> list[str]:
        return [sys.executable, "-m", "pipelines.servers", "dagster_webserver", "--port", str(port),
                "--host", HOST, "--empty-workspace"]  # fmt: skip

    mutation = json.dumps({"query": MUTATION}).encode()
    kind = {"Content_Type": "application/json"}
    with process(command, tmp_path, DAGSTER_HOME=str(home)) as address:
        done = ask(address, "/graphql", mutation, Origin=f"http://{address}", **kind)
        assert done[0] == 200 and "shutdownRepositoryLocation" in done[1]
        assert ask(address, "/graphql", mutation, Origin="http://127.0.0.1:9", **kind)[0] == 403
        assert ask(address, f"/graphql?{urllib.parse.urlencode({'query': MUTATION})}")[0] == 405
        path = "/report_asset_materialization/a"
        assert ask(address, path, b"{}", Sec_Fetch_Site="cross-site")[0] == 403
        with connect(
            f"ws://{address}/graphql",
            origin=f"http://{address}",
            subprotocols=["graphql-ws"],  # type: ignore[arg-type, list-item]
        ) as socket:
            socket.send('{"type": "connection_init"}')
            assert json.loads(socket.recv()) == {"type": "connection_ack"}
        if CHROMIUM is not None:
            shown, requested = visit(f"http://{address}/runs", tmp_path, wait=20)
            assert "Runs" in shown and f"ws://{address}/graphql" in requested
            assert outside(requested, address) == set()


@pytest.mark.slow
def test_mlflow_takes_no_change_from_other_pages(tmp_path: Path, empty_store: Path) -> None:
    artifacts = str(tmp_path / "artifacts")
    (tmp_path / "mlflow.db").write_bytes(empty_store.read_bytes())

    def command(port: int) -> list[str]:
        return server("mlflow", str(port), str(tmp_path / "mlflow.db"), artifacts)

    path, kind = "/api/2.0/mlflow/experiments/create", {"Content_Type": "application/json"}
    off = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with process(command, tmp_path, **off) as address:
        other = ask(address, path, b'{"name": "a"}', Origin="http://127.0.0.1:9", **kind)
        assert other[0] == 403 and other[1].startswith(MARK)
        own = ask(address, path, b'{"name": "a"}', Origin=f"http://{address}", **kind)
        assert own[0] == 200 and "experiment_id" in own[1]
        if CHROMIUM is not None:
            view = "/#/experiments?workflowType=machine_learning"
            shown, requested = visit(f"http://{address}{view}", tmp_path, wait=20)
            assert "Experiments" in shown and len(requested) > 10
            assert outside(requested, address) == set()


def outside(requested: set[str], address: str) -> set[str]:
    """Requests to other servers."""
    return {one for one in requested if urllib.parse.urlsplit(one).netloc != address}

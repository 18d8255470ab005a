"""A local server of the Hugging Face hub's HTTP API, as far as models are published and loaded.

The routes are those that huggingface_hub calls; every file is a regular git blob (no LFS).
"""

import base64
import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from huggingface_hub import constants
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Files = dict[str, bytes]
REPO = "{namespace}/{name}"


class Hub:
    """Repositories with their commits."""

    def __init__(self) -> None:
        self.commits: dict[str, list[tuple[str, Files]]] = {}
        self.downloads: list[str] = []

    def at(self, request: Request) -> tuple[str, Files] | None:
        """Commit and files of a repository at a revision, main or a commit."""
        commits = self.commits.get(REPO.format(**request.path_params), [])
        revision = request.path_params.get("revision", "main")
        found = [one for one in commits if revision in ("main", one[0])]
        return found[-1] if found else None

    async def create(self, request: Request) -> Response:
        wanted = await request.json()
        name = f"{wanted['organization']}/{wanted['name']}"
        url = {"url": f"{request.base_url}{name}", "name": name}
        if name in self.commits:
            return JSONResponse(url, status_code=409)
        self.commits[name] = []
        return JSONResponse(url)

    async def validate(self, request: Request) -> Response:
        return JSONResponse({"errors": [], "warnings": []})

    async def preupload(self, request: Request) -> Response:
        if REPO.format(**request.path_params) not in self.commits:
            return absent("RepoNotFound")
        files = (await request.json())["files"]
        modes = [
            {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False} for file in files
        ]
        return JSONResponse({"files": modes})

    async def commit(self, request: Request) -> Response:
        name = REPO.format(**request.path_params)
        lines = [json.loads(line) for line in (await request.body()).splitlines()]
        added = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"])
            for line in lines
            if line["key"] == "file"
        }
        before = self.commits[name][-1][1] if self.commits[name] else {}
        files = before | added
        listing = "".join(f"{path}{blob_id(files[path])}" for path in sorted(files))
        oid = hashlib.sha1(listing.encode()).hexdigest()
        self.commits[name].append((oid, files))
        return JSONResponse(
            {"commitUrl": f"{request.base_url}{name}/commit/{oid}", "commitOid": oid}
        )

    async def info(self, request: Request) -> Response:
        if REPO.format(**request.path_params) not in self.commits:
            return absent("RepoNotFound")
        found = self.at(request)
        if found is None:
            return absent("RevisionNotFound")
        name = REPO.format(**request.path_params)
        siblings = [{"rfilename": path} for path in found[1]]
        return JSONResponse({"id": name, "sha": found[0], "siblings": siblings})

    async def tree(self, request: Request) -> Response:
        found = self.at(request)
        if found is None:
            return absent("RevisionNotFound")
        return JSONResponse(
            [
                {"type": "file", "path": path, "size": len(content), "oid": blob_id(content)}
                for path, content in found[1].items()
            ]
        )

    async def resolve(self, request: Request) -> Response:
        found = self.at(request)
        path = request.path_params["path"]
        if found is None or path not in found[1]:
            return absent("EntryNotFound")
        if request.method == "GET":
            self.downloads.append(path)
        headers = {"X-Repo-Commit": found[0], "ETag": f'"{blob_id(found[1][path])}"'}
        return Response(found[1][path], headers=headers)


def blob_id(content: bytes) -> str:
    """Git's id of a file."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def absent(code: str) -> Response:
    return JSONResponse({"error": code}, status_code=404, headers={"X-Error-Code": code})


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def point_to(address: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have huggingface_hub use a server, as ``HF_ENDPOINT`` does before it is imported."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@contextmanager
def hub_server() -> Iterator[tuple[str, Hub]]:
    """A server on a free port of this machine, as its address and its repositories."""
    hub = Hub()
    api = f"/api/models/{REPO}"
    routes = [
        Route("/api/repos/create", hub.create, methods=["POST"]),
        Route("/api/validate-yaml", hub.validate, methods=["POST"]),
        Route(f"{api}/preupload/{{revision}}", hub.preupload, methods=["POST"]),
        Route(f"{api}/commit/{{revision}}", hub.commit, methods=["POST"]),
        Route(f"{api}/revision/{{revision}}", hub.info),
        Route(f"{api}/tree/{{revision}}", hub.tree),
        Route(api, hub.info),
        Route(f"/{REPO}/resolve/{{revision}}/{{path:path}}", hub.resolve),
    ]
    port = free_port()
    config = uvicorn.Config(Starlette(routes=routes), port=port, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 60
    while not server.started:
        assert thread.is_alive() and time.monotonic() < deadline
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{port}", hub
    finally:
        server.should_exit = True
        thread.join(30)

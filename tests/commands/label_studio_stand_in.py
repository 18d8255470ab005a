"""A local HTTP server that answers as Label Studio 1.23 does, as far as `annotate push` asks.

From projects/api.py, io_storages/localfiles, data_import/api.py, data_export/api.py and
jwt_auth/views.py of HumanSignal/label-studio. tests/integration/test_label_studio_server.py runs
the real one where it is installed.
"""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

PERSONAL = "header.payload.signature"
LEGACY = "0123456789abcdef0123456789abcdef01234567"
PAGE_SIZE = 2
"""Projects on a page, fewer than are asked for."""


class LabelStudioStandIn:
    """State of the server, and its answers."""

    def __init__(self) -> None:
        self.projects: dict[int, dict[str, Any]] = {}
        self.storages: list[dict[str, Any]] = []
        self.tasks: list[dict[str, Any]] = []
        self.document_root = "/"
        self.legacy_tokens = False
        self.uses_of_a_token = 3
        """Requests after which an access token has expired."""
        self.left = 0
        self.log: list[str] = []
        """Requests that change something."""

    def answer(self, method: str, url: str, authorization: str, content: Any) -> tuple[int, Any]:
        """Status and content for a request."""
        parts = urlsplit(url)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        if parts.path == "/api/token/refresh/":
            if content != {"refresh": PERSONAL}:
                return 401, {"detail": "Token is invalid", "code": "token_not_valid"}
            self.left = self.uses_of_a_token
            return 200, {"access": "access"}
        if (refusal := self._refusal(authorization)) is not None:
            return 401, {"detail": refusal}
        if method != "GET":
            self.log.append(f"{method} {parts.path}")
        if parts.path == "/api/projects/":
            return self._made(content) if method == "POST" else (200, self._listed(query))
        if parts.path in ("/api/storages/localfiles", "/api/storages/localfiles/"):
            return self._storage(method, query, content)
        if found := re.fullmatch(r"/api/projects/(\d+)(/|/import|/export)", parts.path):
            number, what = int(found[1]), found[2]
            if number in self.projects:
                return self._of_project(method, number, what, query, content)
        return 404, {"detail": "Not found."}

    def _refusal(self, authorization: str) -> str | None:
        kind, _, token = authorization.partition(" ")
        if kind == "Token" and token == LEGACY:
            disabled = "Authentication token no longer valid: legacy token authentication has been"
            return None if self.legacy_tokens else f"{disabled} disabled for this organization"
        self.left -= 1
        valid = kind == "Bearer" and token == "access" and self.left >= 0
        return None if valid else "Given token not valid for any token type"

    def _made(self, content: dict[str, Any]) -> tuple[int, Any]:
        if not 3 <= len(content["title"]) <= 50:
            return 400, {"detail": "Validation error", "validation_errors": {"title": ["3 to 50"]}}
        number = len(self.projects) + 1
        self.projects[number] = {"id": number, **content}
        return 201, self.projects[number]

    def _listed(self, query: dict[str, str]) -> dict[str, Any]:
        wanted = query.get("title", "").lower()
        found = [one for one in self.projects.values() if wanted in one["title"].lower()]
        first = PAGE_SIZE * (int(query.get("page", "1")) - 1)
        following = "next" if first + PAGE_SIZE < len(found) else None
        return {"count": len(found), "next": following, "results": found[first:][:PAGE_SIZE]}

    def _storage(self, method: str, query: dict[str, str], content: Any) -> tuple[int, Any]:
        if method == "GET":
            number = int(query["project"])
            return 200, [one for one in self.storages if one["project"] == number]
        if not content["path"].startswith(self.document_root):
            text = f"Path {content['path']} must start with LOCAL_FILES_DOCUMENT_ROOT"
            return 400, {"detail": "Validation error", "validation_errors": {"path": [text]}}
        self.storages.append({"id": len(self.storages) + 1, **content})
        return 201, self.storages[-1]

    def _of_project(
        self, method: str, number: int, what: str, query: dict[str, str], content: Any
    ) -> tuple[int, Any]:
        if what == "/":
            self.projects[number] |= content if method == "PATCH" else {}
            return 200, self.projects[number]
        if what == "/import":
            for task in content:
                made = {"id": len(self.tasks) + 1, "project": number, "annotations": []}
                self.tasks.append(made | task)
            return 201, {"task_count": len(content), "annotation_count": 0}
        with_all = query.get("download_all_tasks") == "true"
        mine = [one for one in self.tasks if one["project"] == number]
        return 200, [one for one in mine if with_all or one["annotations"]]


@contextmanager
def running(state: LabelStudioStandIn) -> Iterator[str]:
    """Address of the server, in a thread of this process."""

    class Handler(BaseHTTPRequestHandler):
        def _reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            content = json.loads(body) if body else None
            authorization = self.headers.get("Authorization", "")
            status, answer = state.answer(self.command, self.path, authorization, content)
            encoded = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(encoded)))
            self.end_headers()
            self.wfile.write(encoded)

        do_GET = do_POST = do_PATCH = _reply

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)

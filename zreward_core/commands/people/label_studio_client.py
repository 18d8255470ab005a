"""Label Studio's API, as version 1.23 answers: tokens, projects, storages, tasks, export.

Reference: https://api.labelstud.io, https://labelstud.io/guide/access_tokens
"""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from zreward_core.config import UserError

TOKEN = "LABEL_STUDIO_API_KEY"
"""Environment variable of the token; other users of the machine could see an argument."""
TIMEOUT = 300.0
"""Seconds that a request may take; imports and exports are one request."""
LONGEST_REASON = 500
"""Characters of an answer that are shown."""
REMEDY = (
    f"create a personal access token in Label Studio (Account & Settings, Personal Access Token)"
    f" and set {TOKEN} to it"
)

Record = dict[str, Any]


class LabelStudio:
    """A server and the token of a user.

    A personal access token is a refresh token: it is exchanged for an access token, which expires
    within minutes and is then exchanged again. A legacy token is sent as it is.
    """

    def __init__(self, address: str) -> None:
        """
        Args:
            address: of the server, such as http://127.0.0.1:8080.

        Raises:
            UserError: the address is not one of a web server, or there is no token.
        """
        if not address.startswith(("http://", "https://")):
            raise UserError(f"--url {address} must begin with http:// or https://")
        self.address = address.rstrip("/")
        self._token = os.environ.get(TOKEN, "").strip()
        if not self._token:
            raise UserError(f"{TOKEN} is not set: {REMEDY}")
        self._is_personal = self._token.count(".") == 2  # a JWT
        self._access = ""

    def projects(self, title: str) -> Iterator[Record]:
        """The projects whose title contains a text."""
        page = 1
        while True:
            query = urlencode({"title": title, "page": page, "page_size": 100})
            answer = self.call("GET", f"/api/projects/?{query}")
            yield from answer["results"]
            if not answer.get("next"):
                return
            page += 1

    def export(self, project: int, with_unlabelled: bool = False) -> list[Record]:
        """The tasks of a project in the raw JSON format.

        Args:
            project: its id.
            with_unlabelled: also tasks without an annotation.
        """
        query = {"exportType": "JSON"} | ({"download_all_tasks": "true"} if with_unlabelled else {})
        return self.call("GET", f"/api/projects/{project}/export?{urlencode(query)}")

    def call(self, method: str, path: str, content: Any = None) -> Any:
        """Send a request, with a new access token where the last one has expired.

        Raises:
            UserError: the server does not answer, or refuses the request.
        """
        if self._is_personal and not self._access:
            self._refresh()
        try:
            return self._send(method, path, content, self._authorization())
        except urllib.error.HTTPError as error:
            if error.code != 401 or not self._is_personal:
                raise _refused(error, path) from None
        self._refresh()
        try:
            return self._send(method, path, content, self._authorization())
        except urllib.error.HTTPError as error:
            raise _refused(error, path) from None

    def _authorization(self) -> dict[str, str]:
        kind = f"Bearer {self._access}" if self._is_personal else f"Token {self._token}"
        return {"Authorization": kind}

    def _refresh(self) -> None:
        try:
            answer = self._send("POST", "/api/token/refresh/", {"refresh": self._token}, {})
        except urllib.error.HTTPError as error:
            raise _refused(error, "/api/token/refresh/") from None
        self._access = answer["access"]

    def _send(self, method: str, path: str, content: Any, headers: dict[str, str]) -> Any:
        body = None if content is None else json.dumps(content).encode()
        headers = headers | {"Content-Type": "application/json", "Accept": "application/json"}
        request = urllib.request.Request(self.address + path, body, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError:
            raise
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = getattr(error, "reason", error)
            raise UserError(
                f"Label Studio at {self.address} does not answer ({reason}): start it, or correct"
                " --url"
            ) from None
        except ValueError:
            raise UserError(
                f"{self.address}{path} did not answer with JSON: correct --url, which must be the"
                " address of Label Studio"
            ) from None


def _refused(error: urllib.error.HTTPError, path: str) -> UserError:
    reason = error.read().decode(errors="replace")
    try:
        content = json.loads(reason)
        reason = str(content.get("validation_errors") or content["detail"])
    except (ValueError, KeyError, AttributeError):
        pass
    remedy = f": {REMEDY}" if error.code == 401 else ""
    return UserError(
        f"Label Studio refused {path} (HTTP {error.code}: {reason[:LONGEST_REASON]}){remedy}"
    )

"""ASGI middleware of the servers behind `make ui`: requests from other sites and users are refused.

Any web page can send requests to servers of this machine, and any user of the machine can connect
to them. Dagster accepts mutations by GET from everywhere; MLflow accepts requests from all pages of
this machine. Neither asks for a token.
"""

import base64
import binascii
import re
import secrets

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d{1,5})?")
"""Hosts of own pages; an SSH tunnel has another port. Others are DNS rebinding."""
OWN_SITE = ("same-origin", "none")
"""Values of Sec-Fetch-Site: a request of the page itself, or an address that a user entered."""
POLICY = (
    "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; connect-src 'self' ws://{host};"
    " frame-ancestors 'self'; form-action 'self'"
)
"""Content-Security-Policy in addition to the server's own: nothing is loaded from the network."""
MARK = "refused: "
"""Start of the reason in an answer."""


class Guard:
    """Passes on what the pages of a server, or programs of its user, request.

    - Host is this machine (HTTP 403).
    - A browser's request comes from the page's own origin, by Origin and Sec-Fetch-Site; links to a
      page are followed from everywhere (403). WebSockets are requests, too.
    - GraphQL is not sent by GET (405).
    - The token, if there is one, is the password of HTTP Basic authentication (401).
    """

    def __init__(self, app: ASGIApp, token: str = "") -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request or a WebSocket."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        status, reason = self._refusal(scope, headers)
        if status and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
            return
        if status:
            asks = {"WWW-Authenticate": 'Basic realm="zreward"'} if status == 401 else None
            await PlainTextResponse(MARK + reason, status, asks)(scope, receive, send)
            return

        async def with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                policy = POLICY.format(host=headers["host"])
                MutableHeaders(scope=message).append("Content-Security-Policy", policy)
            await send(message)

        await self._app(scope, receive, with_policy)

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str]:
        """HTTP status and reason; the status is 0 for a request that is passed on."""
        host = headers.get("host", "")
        if not LOOPBACK.fullmatch(host):
            return 403, "the Host of the request is not this machine"
        method = scope.get("method", "")  # a WebSocket has none
        is_link = (
            method == "GET"
            and headers.get("sec-fetch-mode") == "navigate"
            and headers.get("sec-fetch-dest") == "document"
        )
        if headers.get("sec-fetch-site", "none") not in OWN_SITE and not is_link:
            return 403, "the request comes from another site"
        if headers.get("origin", f"http://{host}") != f"http://{host}":
            return 403, "the request comes from another origin"
        is_graphql = scope["path"].rstrip("/").endswith("/graphql")
        if is_graphql and method not in ("POST", "") and scope["query_string"]:
            return 405, "GraphQL is accepted by POST only"
        if self._token and not self._has_token(headers.get("authorization", "")):
            return 401, "the token is missing: enter it as password, with any user name"
        return 0, ""

    def _has_token(self, authorization: str) -> bool:
        kind, _, encoded = authorization.partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return False
        right = secrets.compare_digest(given, self._token.encode())
        return right and kind.lower() == "basic"

"""ASGI middleware that decides which requests the scoring server accepts."""

import base64
import binascii
import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

OPEN_PATHS = ("/health", "/ping", "/docs", "/docs/page.js", "/openapi.json")
"""Need no token: they neither score nor reveal anything."""


class Access:
    """Refuses requests without the token (401), and those of other sites' pages (403).

    The token is that of ``Authorization: Bearer TOKEN``, or the password of basic authentication:
    clients that take nothing but an address send it for ``http://any:TOKEN@host:port``.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            refusal = None
            if origin is not None and urlsplit(origin).netloc != headers.get("host"):
                refusal = _refusal(403, f"pages of {origin[:100]} may not use this server")
            elif scope["path"] not in OPEN_PATHS and not self._admits(headers):
                refusal = _refusal(401, "send the server's token: Authorization: Bearer TOKEN")
            if refusal:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _admits(self, headers: Headers) -> bool:
        given = _token(headers)
        return not self._token or hmac.compare_digest(given.encode(), self._token.encode())


def _token(headers: Headers) -> str:
    kind, _, value = headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


def _refusal(status: int, reason: str) -> JSONResponse:
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
    code = "UNAUTHORIZED" if status == 401 else "FORBIDDEN"
    return JSONResponse(
        {"error_code": code, "message": reason}, status, {**headers, "Connection": "close"}
    )

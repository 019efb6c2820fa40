"""What a page of another origin may do: nothing, unless the setting `cors_origins` names its origin. Pure.

Source: the Fetch standard, section 3.2 (CORS protocol).
"""

from __future__ import annotations

from collections.abc import Mapping

from towline.serve.contract import HttpRequest, HttpResponse, Reply
from towline.serve.protocols.table import Found

ALLOWED_HEADERS = (
    b"content-type",
    b"accept",
    b"authorization",
    b"x-api-key",
    b"x-request-id",
    b"x-request-timeout-ms",
    b"x-grpc-web",
    b"x-user-agent",
    b"grpc-timeout",
    b"traceparent",
    b"inference-header-content-length",
)
_EXPOSED = b"grpc-status, grpc-message, x-request-id, inference-header-content-length, retry-after"
_METHODS = b"GET, POST, OPTIONS"
_KEPT_S = b"3600"


class Cors:
    """`origins` as the setting has them: origins such as https://example.org separated by commas, `*` for all, nothing for none."""

    def __init__(self, origins: str) -> None:
        named = {origin.strip().encode() for origin in origins.split(",") if origin.strip()}
        self.is_on = bool(named)
        self._takes_all = b"*" in named
        self._origins = named
        self.preflight = Found("*", "", {}, self._answer_preflight, is_open=True)

    def line(self, origin: bytes) -> bytes:
        """The header lines by which an answer allows the page at `origin` to read it; nothing when it may not."""
        if not self._allows(origin):
            return b""
        return b"access-control-allow-origin: %b\r\naccess-control-expose-headers: %b\r\nvary: origin\r\n" % (self._shown(origin), _EXPOSED)

    def _allows(self, origin: bytes) -> bool:
        # A page of no origin says `null`, and so does anybody's sandboxed frame: it is never named.
        return origin in self._origins or (self._takes_all and origin != b"null")

    def _shown(self, origin: bytes) -> bytes:
        return b"*" if self._takes_all else origin

    def _answer_preflight(self, request: HttpRequest, names: Mapping[str, str], reply: Reply) -> None:
        """Says what may be sent. Whatever is asked for beyond that gets no allow headers at all, and the browser stops there."""
        origin = request.header(b"origin") or b""
        asked = request.header(b"access-control-request-headers") or b""
        wanted = {name.strip().lower() for name in asked.split(b",") if name.strip()}
        if not self._allows(origin) or not wanted.issubset(ALLOWED_HEADERS):
            reply(HttpResponse(403, b"", b"text/plain"))
            return
        allowed = (
            (b"access-control-allow-origin", self._shown(origin)),
            (b"access-control-allow-methods", _METHODS),
            (b"access-control-allow-headers", b", ".join(ALLOWED_HEADERS)),
            (b"access-control-max-age", _KEPT_S),
            (b"vary", b"origin, access-control-request-headers"),
        )
        reply(HttpResponse(200, b"", b"text/plain", allowed))

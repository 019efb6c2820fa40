"""`/openapi.json`, made from what is served, and `/docs`, a page that reads it, whose files are in this package: nothing is fetched."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import towline
from towline.core.errors import TowlineError
from towline.serve.codecs import json
from towline.serve.codecs.check import Limits
from towline.serve.contract import DataPlane, HttpRequest, HttpResponse, Reply, Route, Served
from towline.serve.openapi.document import describe
from towline.serve.protocols.errors import allowing, own_error, wrong_method

# Nothing from elsewhere, no inline script, no frame around it: a name that got into the page could not run.
_POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-cache"),
)
_FILES = {
    "/docs": ("docs.html", b"text/html; charset=utf-8"),
    "/docs/docs.js": ("docs.js", b"text/javascript; charset=utf-8"),
    "/docs/docs.css": ("docs.css", b"text/css; charset=utf-8"),
}


def routes(plane: DataPlane, limits: Limits) -> tuple[Route, ...]:
    """The page tells nothing of what is served, so it is open; what it reads asks for a key where there are keys."""
    paths = ("/openapi[.]json", *(path.replace(".", "[.]") for path in _FILES))
    return (
        Route("GET", "/openapi[.]json", Description(plane, limits).answer),
        *(Route("GET", path.replace(".", "[.]"), _file(*file), is_open=True) for path, file in _FILES.items()),
        *(Route("*", path, _only_get) for path in paths),
    )


class Description:
    """Written again when what is served has changed."""

    def __init__(self, plane: DataPlane, limits: Limits) -> None:
        self._plane, self._limits = plane, limits
        self._version = towline.__version__
        self._of: list[tuple[str, int, str]] | None = None
        self._written = b""

    def answer(self, request: HttpRequest, names: Mapping[str, str], reply: Reply) -> None:
        models = self._ready()
        seen = [(served.name, served.number, served.digest) for served in models]
        if seen != self._of:
            self._written = json.dumps(describe(models, version=self._version, max_batch=self._limits.max_batch))
            self._of = seen
        reply(HttpResponse(200, self._written, headers=((b"cache-control", b"no-cache"),)))

    def _ready(self) -> list[Served]:
        found = []
        for name in sorted(self._plane.names()):
            try:
                found.append(self._plane.find(name))
            except TowlineError:
                # It is still loading, or cannot be: not described until it answers.
                continue
        return found


def _file(name: str, content_type: bytes) -> Callable[[HttpRequest, Mapping[str, str], Reply], None]:
    def handler(request: HttpRequest, names: Mapping[str, str], reply: Reply) -> None:
        from importlib import resources

        body = (resources.files("towline.serve.openapi") / "page" / name).read_bytes()
        reply(HttpResponse(200, body, content_type, _HEADERS))

    return handler


def _only_get(request: HttpRequest, names: Mapping[str, str], reply: Reply) -> None:
    reply(allowing(own_error(wrong_method(request.method, ("GET", "HEAD")), request), ("GET", "HEAD")))

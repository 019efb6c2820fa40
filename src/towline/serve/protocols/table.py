"""Find the handler for a method and a target, and answer what has none. Pure, but for a bounded cache."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable, Mapping

import httptools
import msgspec

from towline.core.errors import InvalidRequest, NotFound, TowlineError
from towline.core.refs import clip
from towline.serve.contract import Handler, JsonSize, Route

# What clients may make us remember: at most so many targets, each at most so long, and only those that lead somewhere.
_CACHED_TARGETS = 1024
_CACHED_TARGET_BYTES = 256
MAX_TARGET_BYTES = 8192


class Found(msgspec.Struct, frozen=True, gc=False):
    """What a target leads to: a handler with its decoded path parameters, or the error that says why none."""

    path: str
    query: str
    params: dict[str, str]
    handler: Handler | None = None
    error: TowlineError | None = None
    allow: str = ""
    is_open: bool = False
    takes_buffer: bool = False
    json_size: JsonSize | None = None


class RouteTable:
    """All routes of a server. A method of "*" takes every method no other route of the same path takes."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = [(re.compile(route.pattern, re.IGNORECASE if route.ignore_case else 0), route) for route in routes]
        self._cache: dict[tuple[bytes, bytes], Found] = {}

    def find(self, method: bytes, target: bytes) -> Found:
        """`target` as it stood in the request line."""
        found = self._cache.get((method, target))
        if found is None:
            found = self._look_up(method.decode("ascii", "replace"), target)
            if found.handler is not None and len(target) <= _CACHED_TARGET_BYTES:
                if len(self._cache) >= _CACHED_TARGETS:
                    self._cache.clear()
                self._cache[(method, target)] = found
        return found

    def _look_up(self, method: str, target: bytes) -> Found:
        try:
            path, query = _split(target)
        except (httptools.HttpParserInvalidURLError, UnicodeDecodeError):
            return Found("", "", {}, error=InvalidRequest("The request target is not a path.", code="BAD_TARGET", field="target"))
        allowed: list[str] = []
        catch_all: tuple[Route, dict[str, str]] | None = None
        for pattern, route in self._routes:
            match = pattern.fullmatch(path)
            if match is None:
                continue
            try:
                params = _decoded(match.groupdict())
            except UnicodeDecodeError:
                return Found(path, query, {}, error=InvalidRequest("The path is not UTF-8.", code="BAD_ENCODING", field="path"))
            if route.method == method or (route.method == "GET" and method == "HEAD"):
                is_open, takes_buffer, json_size = route.is_open, route.takes_buffer, route.json_size
                return Found(path, query, params, route.handler, is_open=is_open, takes_buffer=takes_buffer, json_size=json_size)
            if route.method == "*":
                catch_all = catch_all or (route, params)
            else:
                allowed.append(route.method)
        if catch_all is not None:
            return Found(path, query, catch_all[1], catch_all[0].handler)
        if allowed:
            return Found(path, query, {}, allow=", ".join(sorted(set(allowed))))
        return Found(
            path, query, {}, error=NotFound(f"Nothing is at '{clip(path)}'; /docs lists what there is.", code="NO_SUCH_PATH", field="path")
        )


def _split(target: bytes) -> tuple[str, str]:
    """Path and query of `/path?query` or `http://host/path?query`."""
    if b"#" in target:
        # A fragment is the client's own; a server that cut it off would read another path than its proxy.
        raise httptools.HttpParserInvalidURLError
    url = httptools.parse_url(target)
    return (url.path or b"/").decode("ascii"), (url.query or b"").decode("ascii", "replace")


def _decoded(groups: Mapping[str, str | None]) -> dict[str, str]:
    """Percent-decoded exactly once, so that `%252e` stays what it is."""
    return {
        name: urllib.parse.unquote(value, errors="strict") if "%" in value else value for name, value in groups.items() if value is not None
    }

"""Fetch one file over HTTP: each redirect judged before it is followed, nothing larger than was allowed, nothing cut short."""

from __future__ import annotations

import base64
import http.client
import ipaddress
import netrc
import socket
import ssl
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from typing import IO, Any
from urllib.parse import SplitResult, urljoin, urlsplit

from towline import __version__
from towline.app.fetching.bounded import check_size, shown, write_bounded
from towline.core.errors import DeadlineExceeded, ImportRefused, NotFound, TowlineError, Unreachable

MAX_REDIRECTS = 5
# Between two pieces, not for the whole.
SILENCE_S = 60.0
_REDIRECTS = (301, 302, 303, 307, 308)


def fetch_http(source: str, into: Path, *, max_bytes: int) -> None:
    """Raises ImportRefused, NotFound, Unreachable, DeadlineExceeded."""
    first = url = urlsplit(source)
    for _ in range(MAX_REDIRECTS + 1):
        moved = _fetch(url, into, max_bytes, trusted=_is_trusted(url, first))
        if moved is None:
            return
        url = judged(url, moved, first)
    raise ImportRefused(f"{shown(first)} was redirected more than {MAX_REDIRECTS} times.", code="SOURCE_NOT_ALLOWED")


def judged(url: SplitResult, location: str, first: SplitResult) -> SplitResult:
    """Where a redirect leads, if it may be followed. Pure. Another origin must be asked over https: who it is, is then known, and what
    was typed was no name of a service of this machine's network (which `_Public` makes sure of).
    """
    try:
        target = urlsplit(urljoin(url.geturl(), location))
        target.port  # noqa: B018
    except ValueError:
        raise ImportRefused(f"{shown(url)} redirects to what is no URL.", code="SOURCE_NOT_ALLOWED") from None
    if "@" in target.netloc or not (target.scheme == "https" or _is_trusted(target, first)):
        raise _not_followed(url, target)
    return target


def is_public(address: str) -> bool:
    """Whether anybody on the internet has this address: not this machine, its network, or one that stands for those."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None) or getattr(found, "sixtofour", None) or found
    return mapped.is_global and not mapped.is_multicast


def _not_followed(url: SplitResult, target: SplitResult) -> ImportRefused:
    return ImportRefused(
        f"{shown(url)} redirects to {shown(target)}, which is not followed: another host must be public, and asked over https.",
        code="SOURCE_NOT_ALLOWED",
        hint="If you trust that address, fetch the file yourself (curl -L -o model.onnx URL), then import the file.",
    )


def _is_trusted(url: SplitResult, first: SplitResult) -> bool:
    """Whether it is the host that was typed: the same service of it, or that over https."""
    origins = [(one.scheme, one.hostname, one.port) for one in (url, first)]
    upgraded = url.scheme == "https" and url.hostname == first.hostname and url.port is None and first.port is None
    return origins[0] == origins[1] or upgraded


class _Public(http.client.HTTPSConnection):
    """Speaks only to a public address: looked at once connected, so that no second look-up of the name can give another."""

    def __init__(self, host: str, **words: Any) -> None:
        super().__init__(host, **words)
        self._tls = ssl.create_default_context()

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        # Behind a proxy, whom it connects to is the proxy's to judge.
        if getattr(self, "_tunnel_host", None) is None and not is_public(self.sock.getpeername()[0]):
            self.sock.close()
            raise _PrivateError
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=getattr(self, "_tunnel_host", None) or self.host)


class _PrivateError(Exception):
    """The name of another host stood for an address of this machine or its network."""


class _PublicHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Public, req)


class _StayHere(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other: it is judged before it is followed."""

    def http_error_302(self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message) -> None:
        return None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _fetch(url: SplitResult, into: Path, max_bytes: int, *, trusted: bool) -> str | None:
    """Write the file, or return where it is said to be."""
    opener = urllib.request.build_opener(_StayHere, *(() if trusted else (_PublicHandler,)))
    request = urllib.request.Request(url._replace(fragment="").geturl(), headers=_headers(url, trusted))
    try:
        with opener.open(request, timeout=SILENCE_S) as answer:
            _write(answer, into, max_bytes, shown(url))
        return None
    except urllib.error.HTTPError as error:
        with error:
            location = error.headers.get("Location")
            if error.code in _REDIRECTS and location:
                return str(location)
        raise _refused(url, error.code) from None
    except _PrivateError:
        raise _not_followed(url, url) from None
    except (TimeoutError, urllib.error.URLError, http.client.HTTPException, OSError) as error:
        raise _failed(url, error) from None


def _headers(url: SplitResult, trusted: bool) -> dict[str, str]:
    """Credentials go to the host that was typed, and to no other."""
    headers = {"User-Agent": f"towline/{__version__}", "Accept-Encoding": "identity"}
    known = _of_netrc(url.hostname or "") if trusted else None
    if known:
        headers["Authorization"] = "Basic " + base64.b64encode(known.encode()).decode("ascii")
    return headers


def _of_netrc(host: str) -> str | None:
    try:
        found = netrc.netrc().authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return f"{found[0]}:{found[2]}" if found else None


def _write(answer: http.client.HTTPResponse, into: Path, max_bytes: int, name: str) -> None:
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise ImportRefused(f"{name} was sent compressed, which nobody asked for.", code="SOURCE_REFUSED")
    told = answer.headers.get("Content-Length", "")
    size = int(told) if told.isascii() and told.isdigit() else None
    check_size(size or 0, max_bytes, into, name)
    written = write_bounded(answer.read, into, max_bytes, name)
    if size is not None and written != size:
        raise ImportRefused(f"{name} ended after {written:,} bytes of {size:,}.", code="TORN_FILE", hint="Try again.")


def _refused(url: SplitResult, status: int) -> TowlineError:
    if status in (404, 410):
        return NotFound(f"There is nothing at {shown(url)} ({status}).", hint="Check the URL.")
    if status in (401, 403, 407):
        hint = "If it needs a user and password, put them into ~/.netrc."
        return ImportRefused(f"{shown(url)} may not be read ({status}).", code="SOURCE_REFUSED", hint=hint)
    if status >= 500 or status == 429:
        return Unreachable(f"{shown(url)} cannot be had now ({status}).", hint="Try again later.")
    return ImportRefused(f"{shown(url)} was refused ({status}).", code="SOURCE_REFUSED", hint="Check the URL.")


def _failed(url: SplitResult, error: Exception) -> TowlineError:
    """Nothing that a library says is repeated: it may hold the whole URL."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return DeadlineExceeded(f"{shown(url)} was silent for {SILENCE_S:g} seconds.", hint="Try again.")
    if isinstance(reason, http.client.IncompleteRead):
        return ImportRefused(f"{shown(url)} ended early.", code="TORN_FILE", hint="Try again.")
    why = {
        socket.gaierror: "its name is not known",
        ConnectionRefusedError: "nobody answers there",
        ssl.SSLError: "its certificate is not trusted",
    }
    said = next((words for kind, words in why.items() if isinstance(reason, kind)), type(reason).__name__)
    return Unreachable(f"{shown(url)} cannot be reached: {said}.", hint="Check the URL, the network, and HTTPS_PROXY.")

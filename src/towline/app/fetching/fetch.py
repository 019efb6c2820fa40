"""Fetch a model or data that is named by a URL, to a place of its own, within bounds. For who types a command; no server follows a URL."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import SplitResult, unquote, urlsplit

from towline.app.fetching.bounded import shown
from towline.app.fetching.remote import REMOTE, fetch_remote
from towline.core.errors import UsageError
from towline.core.refs import clip

Progress = Callable[[str], None]

MAX_BYTES = 64 << 30
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://.*", re.DOTALL)
_NOT_IN_A_FILE_NAME = re.compile(r"[^A-Za-z0-9._-]+")


def is_url(source: str | Path) -> bool:
    return isinstance(source, str) and _URL.fullmatch(source) is not None


@contextmanager
def fetched(source: str | Path, *, max_bytes: int = MAX_BYTES, progress: Progress = lambda words: None) -> Iterator[Path]:
    """The file or folder that `source` names, for as long as the context lasts: a path as it is, a URL's content in a temporary folder.

    http and https follow a redirect within their host, and to another only where it is public and asked over https. Other schemes are
    fsspec's, with the credentials that each finds by itself. No message repeats credentials or a query.
    Raises UsageError, ImportRefused (too large, cut short, refused), NotFound, Unreachable, MissingExtra.
    """
    if not is_url(source):
        yield Path(source)
        return
    url = _checked(str(source))
    if url.scheme == "file":
        yield Path(unquote(url.path))
        return
    with tempfile.TemporaryDirectory(prefix="towline-fetch-") as folder:
        into = Path(folder) / _file_name(url)
        progress(f"Fetching {shown(url)}")
        if url.scheme in ("http", "https"):
            from towline.app.fetching.http import fetch_http

            fetch_http(str(source), into, max_bytes=max_bytes)
        else:
            fetch_remote(str(source), url, into, max_bytes)
        yield into


def _checked(source: str) -> SplitResult:
    scheme = source.partition("://")[0].lower()
    # `::` chains one file system of fsspec's to another.
    if scheme not in ("http", "https", "file", *REMOTE) or (scheme in REMOTE and "::" in source):
        known = ", ".join(("http", "https", "file", *(scheme for scheme in REMOTE if scheme != "memory")))
        raise UsageError(f"Nothing is fetched by {clip(scheme)}://.", code="SOURCE_NOT_ALLOWED", hint=f"There is: {known}.")
    try:
        url = urlsplit(source)
        # A port that is no number is found out when it is asked for.
        url.port  # noqa: B018
    except ValueError:
        # What it says may hold a piece of a password.
        message = "What was given is no URL: its host or port cannot be read."
        raise UsageError(message, code="BAD_URL", hint="A URL is written https://host/path.") from None
    if "@" in url.netloc and url.scheme not in ("abfs", "abfss"):
        raise UsageError(
            "A user and password in a URL can be read by every process of this machine.",
            code="SECRET_IN_ARGUMENTS",
            hint="Put them into ~/.netrc (http, https), or where the storage's own tools keep them.",
        )
    if url.scheme == "file" and url.netloc not in ("", "localhost"):
        raise UsageError(f"{shown(url)} names a file of another machine.", code="BAD_URL", hint="Write file:///path.")
    return url


def _file_name(url: SplitResult) -> str:
    """The last part of the path, as a file may be called anywhere; a model's name is made of it."""
    last = PurePosixPath(unquote(url.path) or unquote(url.netloc)).name
    return _NOT_IN_A_FILE_NAME.sub("-", last).lstrip(".-")[-128:] or "model"

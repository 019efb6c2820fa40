"""Fetch a model or data that is named by a URL, to a place of its own, within bounds. For who types a command; no server follows a URL."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from towline.app.machine import free_bytes
from towline.core.errors import ImportRefused, MissingExtra, NotFound, TowlineError, Unreachable, UsageError
from towline.core.refs import clip

Progress = Callable[[str], None]

MAX_BYTES = 64 << 30
MAX_FILES = 10_000
PIECE_BYTES = 1 << 20
# What fsspec opens for us, and the extra that brings what it needs. Its schemes that unpack, cache or run something are not among them.
REMOTE = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "azure"),
    "hdfs": "hdfs",
    "memory": "fsspec",
}
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
            _fetch_remote(str(source), url, into, max_bytes)
        yield into


def shown(url: SplitResult) -> str:
    """The URL without what may be secret: user, password, query, fragment."""
    return clip(f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path}")


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


def check_size(size_bytes: int, max_bytes: int, into: Path, name: str) -> None:
    """Raises ImportRefused for what is larger than an import may be, or than the disk has room for."""
    if size_bytes > max_bytes:
        raise ImportRefused(f"{name} has {size_bytes:,} bytes; at most {max_bytes:,} are fetched.", code="TOO_LARGE")
    free = free_bytes(into.parent)
    if size_bytes > free:
        hint = "Make room, or name another folder for temporary files: TMPDIR=/DIR"
        raise ImportRefused(f"{name} has {size_bytes:,} bytes, and {into.parent} room for {free:,}.", code="DISK_FULL", hint=hint)


def write_bounded(read: Callable[[int], bytes], into: Path, max_bytes: int, name: str) -> int:
    """Write what `read` gives until it gives nothing; the number of bytes. Raises ImportRefused past the limit, whatever was announced."""
    written = 0
    with open(into, "xb") as file:
        while piece := read(PIECE_BYTES):
            written += len(piece)
            if written > max_bytes:
                raise ImportRefused(f"{name} has more than {max_bytes:,} bytes, the most that is fetched.", code="TOO_LARGE")
            try:
                file.write(piece)
            except OSError as error:
                raise ImportRefused(f"{name} cannot be kept in {into.parent}: {error.strerror}.", code="DISK_FULL") from None
    return written


def _fetch_remote(source: str, url: SplitResult, into: Path, max_bytes: int) -> None:
    try:
        import fsspec
    except ImportError:
        raise _missing(REMOTE[url.scheme], url.scheme) from None
    try:
        system, path = fsspec.core.url_to_fs(source)
        _copy_all(system, path, into, max_bytes, shown(url))
    except TowlineError:
        raise
    except ImportError:
        raise _missing(REMOTE[url.scheme], url.scheme) from None
    except FileNotFoundError:
        raise NotFound(f"There is nothing at {shown(url)}.", hint="Check the bucket and the path.") from None
    except PermissionError:
        raise _not_allowed(url) from None
    except Exception as error:
        # A stranger's library, whose errors are of no kind that we know and may hold what is secret.
        if "Credentials" in type(error).__name__:
            raise _not_allowed(url) from None
        hint = "Check the URL, the network and the storage's credentials."
        raise Unreachable(f"{shown(url)} cannot be read: {type(error).__name__}.", hint=hint) from error


def _copy_all(system: Any, path: str, into: Path, max_bytes: int, name: str) -> None:
    files = _listing(system, path, name)
    check_size(sum(size or 0 for _, _, size in files), max_bytes, into, name)
    left = max_bytes
    for remote, relative, size in files:
        target = into.joinpath(*relative.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        with system.open(remote, "rb") as file:
            written = write_bounded(file.read, target, left, name)
        if size is not None and written != size:
            raise ImportRefused(f"{name} gave {written:,} bytes of {size:,}.", code="TORN_FILE", hint="Try again.")
        left -= written


def _listing(system: Any, path: str, name: str) -> list[tuple[str, PurePosixPath, int | None]]:
    """Each file below, where it goes beneath our folder, and its size if it is told; one file goes where the folder would."""
    if not system.isdir(path):
        return [(path, PurePosixPath(), system.info(path).get("size"))]
    found = []
    for remote, about in system.find(path, detail=True).items():
        relative = PurePosixPath(remote.removeprefix(path).lstrip("/"))
        if not relative.parts or any(part in (".", "..") or "\\" in part or "\0" in part for part in remote.split("/")):
            raise ImportRefused(f"{name} holds a file whose name leads elsewhere: '{clip(remote)}'.", code="SOURCE_NOT_ALLOWED")
        found.append((remote, relative, about.get("size")))
        if len(found) > MAX_FILES:
            raise ImportRefused(f"{name} holds more than {MAX_FILES:,} files, the most that are fetched.", code="TOO_LARGE")
    if not found:
        raise FileNotFoundError(path)
    return found


def _not_allowed(url: SplitResult) -> ImportRefused:
    hint = "Log in with the storage's own tools; what they keep, and what the environment says (AWS_ACCESS_KEY_ID, …), is used."
    return ImportRefused(f"{shown(url)} may not be read.", code="SOURCE_REFUSED", hint=hint)


def _missing(extra: str, scheme: str) -> MissingExtra:
    return MissingExtra(f"To fetch from {scheme}:// a package is missing.", hint=f"Run: pip install 'towline[{extra}]'")

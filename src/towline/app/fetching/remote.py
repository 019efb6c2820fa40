"""Files and folders of an object store, through fsspec."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import SplitResult

from towline.app.fetching.bounded import check_size, shown, write_bounded
from towline.core.errors import ImportRefused, MissingExtra, NotFound, TowlineError, Unreachable
from towline.core.refs import clip

MAX_FILES = 10_000
# What fsspec opens for us, and the extra that brings what it needs. Its schemes that unpack, cache or run something are not among them.
REMOTE = {
    **dict.fromkeys(("s3", "s3a"), "s3"),
    **dict.fromkeys(("gs", "gcs"), "gcs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "azure"),
    "hdfs": "hdfs",
    "memory": "fsspec",
}


def fetch_remote(source: str, url: SplitResult, into: Path, max_bytes: int) -> None:
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

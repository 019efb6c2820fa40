"""Keys that clients show, kept as digests in one small file: who holds the file can check a key, and cannot make one."""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from towline.core.errors import Conflict, NotFound, TowlineError, UsageError

log = logging.getLogger("towline.secure")

FILE_NAME = "keys.json"
FORMAT = 1
PREFIX = "tow_"
_MAX_FILE_BYTES = 4 << 20
_MAX_KEY_CHARS = 512
_NAME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-@")


@dataclass(frozen=True)
class Key:
    """One key without its secret. `sha256` is the hex digest of the whole key: 256 random bits need no slow hash."""

    name: str
    sha256: str
    created_s: float


@dataclass(frozen=True)
class KeyRing:
    """All keys of a home, in the order they were made."""

    keys: tuple[Key, ...] = ()

    def holder_of(self, key: str) -> str | None:
        """Whose key it is. A digest is looked up, so that the time taken tells nothing of how near a guess came."""
        return {one.sha256: one.name for one in self.keys}.get(digest_of(key)) if len(key) <= _MAX_KEY_CHARS else None


def digest_of(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def new_key(name: str, *, now_s: float) -> tuple[str, Key]:
    """A key to be shown once, and what is kept of it. Raises UsageError for a name that is none."""
    if not 0 < len(name) <= 64 or not _NAME_CHARS.issuperset(name):
        raise UsageError(f"{name[:64]!r} cannot name a key: 1 to 64 letters, digits and . _ - @.", field="name")
    # Imported here: a server only checks keys.
    import secrets

    key = PREFIX + secrets.token_urlsafe(32)
    return key, Key(name, digest_of(key), now_s)


def with_key(ring: KeyRing, key: Key) -> KeyRing:
    if any(one.name == key.name for one in ring.keys):
        raise Conflict(f"There is a key named '{key.name}' already.", hint=f"Take another name, or first: towline key {key.name} --revoke")
    return KeyRing((*ring.keys, key))


def without_key(ring: KeyRing, name: str) -> KeyRing:
    """The ring without one key. It may be empty then, and still nobody gets in without a key."""
    left = tuple(one for one in ring.keys if one.name != name)
    if len(left) == len(ring.keys):
        known = ", ".join(one.name for one in ring.keys[:8]) or "none"
        raise NotFound(f"There is no key named '{name[:64]}'; there are: {known}.", hint="See 'towline key'.")
    return KeyRing(left)


def read_ring(path: Path) -> KeyRing | None:
    """The ring in a file, None when there is no file. Raises TowlineError when it is not to be trusted or not to be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, f"it cannot be read: {error.strerror}") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise _unusable(path, "it is no regular file")
        if status.st_mode & 0o022:
            raise _unusable(path, "others than its owner may change it", f"Try: chmod 600 {path}")
        raw = file.read(_MAX_FILE_BYTES)
    try:
        return _decoded(json.loads(raw))
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _unusable(path, "it does not hold keys") from None


def _decoded(document: Any) -> KeyRing:
    """Raises ValueError, TypeError or KeyError for what is no ring of ours: half understood, a lock would be no lock."""
    if set(document) != {"format", "keys"} or document["format"] != FORMAT:
        raise ValueError
    keys = tuple(Key(**entry) for entry in document["keys"])
    if not all(isinstance(key.name, str) and isinstance(key.sha256, str) and len(key.sha256) == 64 for key in keys):
        raise ValueError
    return KeyRing(keys)


def change_ring(path: Path, change: Callable[[KeyRing], KeyRing]) -> KeyRing:
    """Replace the ring by what `change` makes of it: one changer at a time, and a reader sees the old ring or the new one."""
    with _locked(path):
        ring = change(read_ring(path) or KeyRing())
        fresh = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps({"format": FORMAT, "keys": [asdict(key) for key in ring.keys]}, indent=2).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    return ring


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _unusable(path: Path, why: str, hint: str = "") -> TowlineError:
    return TowlineError(f"The key file {path} is not used: {why}.", code="BAD_KEY_FILE", hint=hint)


class WatchedRing:
    """The keys a running server takes. Look again with `refresh`; a file that went or broke leaves the last good ring in place."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = self._look()
        try:
            self._ring = read_ring(path)
        except TowlineError as error:
            # A server that starts must not open its door because the lock is broken.
            log.error("%s Nobody gets in.", error)
            self._ring = KeyRing()

    @property
    def is_there(self) -> bool:
        """Whether keys are asked for: there is a ring, be it empty."""
        return self._ring is not None

    def holder_of(self, key: str) -> str | None:
        return self._ring.holder_of(key) if self._ring is not None else None

    def refresh(self) -> bool:
        """Whether the keys are others than before. Raises TowlineError, once for each change of the file, when it cannot be used."""
        seen = self._look()
        if seen == self._seen:
            return False
        self._seen = seen
        before, after = self._ring, read_ring(self._path)
        self._ring = after if after is not None else before
        return self._ring != before

    def _look(self) -> tuple[int, ...] | None:
        try:
            status = os.lstat(self._path)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino, status.st_mode

"""Look at a file named on a command line before anything opens it: one clear line for what is no readable file."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from towline.core.errors import UsageError

_HANDLER = re.compile(r".+\.py(:.*)?")
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def is_handler(text: str) -> bool:
    """Whether a word means a handler, `FILE.py:CLASS`, or was meant to: a Python file without its class."""
    return _HANDLER.fullmatch(text) is not None


def check_file(path: Path, what: str) -> None:
    """Raise UsageError unless `path` is a plain file that can be read. `what` says what it should be: "a model file"."""
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "not a path"
        raise UsageError(f"{path}: {reason}; expected {what}.", code="NO_SUCH_FILE", hint="Check the path.") from error
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        found = _KINDS.get(kind, "no plain file")
        raise UsageError(f"{path} is {found}; expected {what}.", code="NOT_A_FILE", hint=_hint(path, kind))
    if not os.access(path, os.R_OK):
        raise UsageError(f"{path}: Permission denied; expected {what}.", code="NOT_READABLE", hint=f"Allow reading: chmod u+r {path}")


def _hint(path: Path, kind: int) -> str:
    if kind != stat.S_IFDIR:
        return "Copy the content to a file first."
    if inside := sorted(path.glob("*.onnx")):
        return f"Give the file itself: {inside[0]}"
    if inside := sorted(path.glob("*/*.onnx")):
        return f"Give the file itself: {inside[-1]}. Or serve the versions of the folder as they appear: towline serve --watch {path}"
    return "Give the file itself."

"""The plain files below a path, opened without following any link: how whole folders are copied before anything reads them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from towline.convert import wording
from towline.convert.transfer import CopiedFile, copy_descriptor, make_folders, unreadable
from towline.core.errors import ImportRefused

MAX_FILES = 10_000
MAX_DEPTH = 32
# What Python and its tools leave behind and would only make equal sources differ.
_LEFT_OUT = frozenset({"__pycache__", ".git", ".ipynb_checkpoints"})
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def plain_files(path: Path) -> Iterator[tuple[str, int]]:
    """Names below the parent of `path`, sorted, each with a descriptor that is closed when the next is asked for.

    Raises ImportRefused for a link, a device or a pipe, and for what lies too deep.
    """
    try:
        parent = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise unreadable(wording.name(path.name), error) from None
    try:
        yield from _below(parent, path.absolute().name, path.absolute().name, 0)
    finally:
        os.close(parent)


def copy_tree(path: Path, into: Path, prefix: str, *, max_bytes: int, only: tuple[str, ...] = ()) -> tuple[CopiedFile, ...]:
    """Copy the file or folder `path` to `into`, which must not exist. The copies are called `prefix/…` in what is returned.

    `only` names the files directly in the folder that are taken; none: all, and all below.
    """
    copied: list[CopiedFile] = []
    for name, descriptor in plain_files(path):
        inner = name.partition("/")[2]
        if only and inner not in only:
            continue
        if len(copied) >= MAX_FILES:
            raise ImportRefused(f"{wording.name(path.name)} holds more than {MAX_FILES} files.", code="LIMIT_EXCEEDED")
        target, called = (into / inner, f"{prefix}/{inner}") if inner else (into, prefix)
        make_folders(target.parent, wording.name(name))
        left = max_bytes - sum(one.size_bytes for one in copied)
        copied.append(copy_descriptor(descriptor, target, called, wording.name(name), left))
    return tuple(copied)


def _below(folder: int, name: str, shown: str, depth: int) -> Iterator[tuple[str, int]]:
    label = wording.name(shown)
    if depth > MAX_DEPTH:
        raise ImportRefused(f"{label} lies too deep.", code="LIMIT_EXCEEDED", hint="Include less.")
    try:
        mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            what = "a link" if stat.S_ISLNK(mode) else "no plain file"
            raise ImportRefused(f"{label} is {what}: only plain files and folders are taken.", code="NOT_A_FILE")
        descriptor = os.open(name, _FOLDER if stat.S_ISDIR(mode) else _FILE, dir_fd=folder)
    except OSError as error:
        raise unreadable(label, error) from None
    try:
        if stat.S_ISDIR(mode):
            for inner in sorted(os.listdir(descriptor)):
                if inner not in _LEFT_OUT:
                    yield from _below(descriptor, inner, f"{shown}/{inner}", depth + 1)
        else:
            yield shown, descriptor
    finally:
        os.close(descriptor)

"""A user's handler file -> a staged version: copied with what it brings along, described by a process of its own, never imported here."""

from __future__ import annotations

import hashlib
import math
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from towline.convert import wording
from towline.convert.files import DEFAULT_MAX_BYTES, Copied, opened
from towline.convert.transfer import CopiedFile, copy_descriptor, make_folders
from towline.convert.tree import MAX_FILES, plain_files
from towline.convert.version import MANIFEST_NAME, RecordedGolden, write_golden, write_new
from towline.core.errors import ImportRefused, Kind
from towline.core.handler import HANDLER_FOLDER, Described
from towline.core.interpreter import command
from towline.core.manifest import DEFAULT_SIGNATURE, Facts, Golden, Manifest, Measured, Origin, Signature, encode_manifest

FORMAT = "python handler"
ENGINE = "python"
# Importing a deep-learning framework takes its time.
DEFAULT_TIMEOUT_S = 120.0
_MAX_REPORT_BYTES = 16 << 20
_SOURCE = re.compile(r"(?P<file>.+\.py):(?P<name>[A-Za-z_][A-Za-z0-9_]{0,127})")


def handler_source(text: str) -> tuple[Path, str] | None:
    """`handler.py:ClassName` as its file and its class; None when it is written otherwise. Pure."""
    match = _SOURCE.fullmatch(text)
    return (Path(match["file"]), match["name"]) if match else None


def source_digest(copied: Copied, class_name: str) -> str:
    """Names what was imported: one file may hold several handlers."""
    return "sha256:" + hashlib.sha256(f"{class_name} {copied.source_digest}".encode()).hexdigest()


def copy_handler(source: Path, include: Sequence[Path], into: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> Copied:
    """Copy the file and, beside it under their own names, the files and folders it brings along, into `handler/`. No link is followed.

    Raises ImportRefused for what is no plain file or folder, for too much of it, and for two of one name.
    """
    label = wording.name(source.name)
    target = into / HANDLER_FOLDER
    target.mkdir(mode=0o755)
    with opened(source, label) as descriptor:
        copied = [copy_descriptor(descriptor, target / source.name, f"{HANDLER_FOLDER}/{source.name}", label, max_bytes)]
    for path in include:
        for name, descriptor in plain_files(path):
            if len(copied) >= MAX_FILES:
                raise ImportRefused(f"More than {MAX_FILES} files come with the handler.", code="LIMIT_EXCEEDED", hint="Include less.")
            left = max_bytes - sum(one.size_bytes for one in copied)
            copied.append(_copied(descriptor, target, name, left))
    return Copied(into, f"{HANDLER_FOLDER}/{source.name}", tuple(copied), wording.name(source.name)[1:-1])


def handler_manifest(
    copied: Copied,
    described: Described,
    signature: Signature,
    measured: Measured,
    *,
    unbatchable_because: str,
    tools: Mapping[str, str],
    golden: tuple[Golden, ...] = (),
) -> Manifest:
    """What a version of this handler says of itself: rows of several requests share a run where nothing speaks against it."""
    return Manifest(
        format=1,
        engine=ENGINE,
        model_file=copied.model_file,
        signatures={DEFAULT_SIGNATURE: signature},
        batchable=not unbatchable_because,
        origin=Origin(FORMAT, source_digest(copied, described.handler.class_name), tools=dict(tools)),
        facts=Facts(parameters=0, operators={}, opset={}),
        measured=measured,
        golden=golden,
        handler=described.handler,
        unbatchable_because=unbatchable_because,
    )


def seal_handler(folder: Path, manifest: Manifest, goldens: Sequence[RecordedGolden]) -> Manifest:
    """Complete a staged folder: golden frames and, last, the manifest, which is returned."""
    manifest = msgspec.structs.replace(manifest, golden=write_golden(folder, goldens))
    write_new(folder / MANIFEST_NAME, encode_manifest(manifest))
    return manifest


def _copied(descriptor: int, target: Path, name: str, max_bytes: int) -> CopiedFile:
    label = wording.name(name)
    place = target / name
    if place.exists():
        raise ImportRefused(f"Two of the files that come with the handler are called {label}.", code="SAME_NAME", hint="Rename one.")
    make_folders(place.parent, label)
    return copy_descriptor(descriptor, place, f"{HANDLER_FOLDER}/{name}", label, max_bytes)


def describe_handler(copied: Copied, class_name: str, *, python: str = "", timeout_s: float = DEFAULT_TIMEOUT_S) -> Described:
    """Have the copied file imported by a process of its own, and return what its class declares. Raises ImportRefused."""
    report = os.memfd_create("towline-description", os.MFD_CLOEXEC)
    file = copied.folder / copied.model_file
    arguments = (str(file.absolute()), class_name, str(math.ceil(timeout_s)), str(report))
    try:
        process = subprocess.Popen(
            command("towline.engines.handlers.describe", *arguments, python=python),
            pass_fds=[report],
            stdin=subprocess.DEVNULL,
            # What the user's code prints goes to stderr.
            stdout=2,
            start_new_session=True,
        )
        try:
            if not _has_ended(process, timeout_s):
                raise ImportRefused(
                    f"Importing the handler took longer than {timeout_s:g} seconds.",
                    code="INSPECTION_TIMEOUT",
                    hint="What takes long belongs in setup(self, folder, device).",
                )
            code = process.wait()
        finally:
            _end(process)
        raw = os.pread(report, _MAX_REPORT_BYTES + 1, 0)
    finally:
        os.close(report)
    described = _accepted(raw, code, class_name)
    return msgspec.structs.replace(described, handler=msgspec.structs.replace(described.handler, python=python))


def _has_ended(process: subprocess.Popen[bytes], timeout_s: float) -> bool:
    until_s = time.monotonic() + timeout_s
    watch = os.pidfd_open(process.pid)
    try:
        return bool(select.select([watch], [], [], max(until_s - time.monotonic(), 0))[0])
    finally:
        os.close(watch)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Whatever the import has started goes with it: it is the leader of a session of its own."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _accepted(raw: bytes, code: int, class_name: str) -> Described:
    try:
        described = msgspec.json.decode(raw, type=Described) if code == 0 and len(raw) <= _MAX_REPORT_BYTES else None
    except msgspec.DecodeError:
        described = None
    if described is None or (not described.error and described.handler.class_name != class_name):
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with status {code}"
        raise ImportRefused(
            f"The process that imported the handler {how} without an answer.",
            code="INSPECTION_DIED",
            hint="Import the file with python to see why; at its top level it may only define things.",
        )
    if described.error:
        kind = Kind.MISSING_EXTRA if described.code == "MISSING_PACKAGE" else Kind.INVALID
        raise ImportRefused(described.error, code=described.code, hint=described.hint, kind=kind)
    return described

"""Copy a model and every file it names into a staged folder, as fresh plain files, before any library opens one of them."""

from __future__ import annotations

import errno
import hashlib
import mmap
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from towline.convert import wording
from towline.convert.external import ExternalFile, external_files, refused
from towline.convert.identify import CONVERTED, HEAD_BYTES, identify
from towline.convert.transfer import CopiedFile, copy_descriptor, make_folders, unreadable
from towline.convert.wire import MAX_MESSAGE_BYTES, check_whole, external_tensors
from towline.core.errors import ImportRefused, Kind

MODEL_FOLDER = "model"
MODEL_NAME = "model.onnx"
DEFAULT_MAX_BYTES = 64 << 30
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFLNK: "a link",
}


@dataclass(frozen=True)
class Copied:
    """A model in a staged folder. `model_file` and all names are relative to `folder`; `source_name` is for people."""

    folder: Path
    model_file: str
    files: tuple[CopiedFile, ...]
    source_name: str

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    @property
    def source_digest(self) -> str:
        """`sha256:…`: of the model file where it stands alone, else of the sorted list of files and their digests."""
        if len(self.files) == 1:
            return "sha256:" + self.files[0].digest
        listing = "".join(f"{file.digest} {file.name}\n" for file in sorted(self.files, key=lambda file: file.name))
        return "sha256:" + hashlib.sha256(listing.encode()).hexdigest()


def copy_source(source: Path, into: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> Copied:
    """Copy the ONNX model `source` and its external data into the folder `into`, under `model/`.

    The model itself may be reached through a link, as caches keep it; the files it names may not. Raises ImportRefused for
    whatever is no ONNX model, is torn, changes meanwhile, or names a file outside its folder or through any kind of link.
    """
    label = wording.name(source.name)
    target = into / MODEL_FOLDER
    target.mkdir(mode=0o755)
    with opened(source, label) as descriptor:
        _refuse_foreign(descriptor, label)
        copied = [
            copy_descriptor(descriptor, target / MODEL_NAME, f"{MODEL_FOLDER}/{MODEL_NAME}", label, min(max_bytes, MAX_MESSAGE_BYTES))
        ]
    try:
        outside = _named_files(target / MODEL_NAME)
    except ImportRefused as refusal:
        raise ImportRefused(f"{label}: {refusal.message}", code=refusal.code, hint=refusal.hint) from None
    for file in outside:
        left = max_bytes - sum(done.size_bytes for done in copied)
        copied.append(_copy_external(source.parent, file, target, left))
    return Copied(into, f"{MODEL_FOLDER}/{MODEL_NAME}", tuple(copied), wording.name(source.name)[1:-1])


def _named_files(model: Path) -> tuple[ExternalFile, ...]:
    """What our own copy of the model names, once it is known to be whole."""
    with model.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as raw:
        check_whole(raw)
        return external_files(external_tensors(raw))


@contextmanager
def opened(source: Path, label: str) -> Iterator[int]:
    """A descriptor of a regular file; anything else is refused before it is opened, since opening a device or pipe may act on it."""
    try:
        mode = os.stat(source).st_mode
        if stat.S_ISDIR(mode):
            raise _folder(source, label)
        if not stat.S_ISREG(mode):
            raise _no_file(label, mode)
        descriptor = os.open(source, _READ)
    except OSError as error:
        raise unreadable(label, error) from None
    except ValueError:
        # A path with a NUL character in it reaches no file.
        raise ImportRefused(f"There is no file {label}.", code="NO_SUCH_FILE", kind=Kind.NOT_FOUND, hint="Check the path.") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _no_file(label, os.fstat(descriptor).st_mode)
        yield descriptor
    finally:
        os.close(descriptor)


def _no_file(label: str, mode: int) -> ImportRefused:
    kind = _KINDS.get(stat.S_IFMT(mode), "no plain file")
    return ImportRefused(f"{label} is {kind}; a model is a plain file.", code="NOT_A_FILE", hint="Give the path of an .onnx file.")


def _folder(source: Path, label: str) -> ImportRefused:
    names = sorted(name for name in os.listdir(source) if name.endswith((".onnx", ".pb")))[:10]
    if "saved_model.pb" in names:
        return ImportRefused(
            f"{label} is the folder of a TensorFlow SavedModel, not an ONNX file.",
            code="SAVED_MODEL",
            hint=CONVERTED,
        )
    models = ", ".join(wording.name(name) for name in names if name.endswith(".onnx"))
    return ImportRefused(
        f"{label} is a folder; a model is a plain file.",
        code="NOT_A_FILE",
        hint=f"It holds {models}: give the path of one." if models else "Give the path of an .onnx file.",
    )


def refuse_foreign(source: Path) -> None:
    """Raise ImportRefused for a file that is no ONNX model, with what it is instead."""
    label = wording.name(source.name)
    with opened(source, label) as descriptor:
        _refuse_foreign(descriptor, label)


def _refuse_foreign(descriptor: int, label: str) -> None:
    foreign = identify(os.pread(descriptor, HEAD_BYTES, 0), os.fstat(descriptor).st_size)
    if foreign:
        raise ImportRefused(f"{label} is {foreign.what}.", code=foreign.code, hint=foreign.hint)


def _copy_external(base: Path, file: ExternalFile, target: Path, max_bytes: int) -> CopiedFile:
    """Copy one external file: every folder on the way and the file itself are opened without following links."""
    folder = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in file.parts[:-1]:
            inner = _beneath(folder, part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, file)
            os.close(folder)
            folder = inner
        status = _status(folder, file)
        if not stat.S_ISREG(status.st_mode):
            raise refused("LINK" if stat.S_ISLNK(status.st_mode) else "NOT_A_FILE", file, f"is {_KINDS.get(stat.S_IFMT(status.st_mode))}")
        descriptor = _beneath(folder, file.parts[-1], _READ | os.O_NOFOLLOW, file)
    finally:
        os.close(folder)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise refused("NOT_A_FILE", file, "is no plain file")
        if status.st_nlink != 1:
            raise refused("HARD_LINK", file, f"has {status.st_nlink} hard links, so it may be another file's content")
        if file.needs_bytes > status.st_size:
            raise refused("SHORT", file, f"has {status.st_size} bytes where {file.needs_bytes} are needed")
        place = target.joinpath(*file.parts)
        make_folders(place.parent, wording.name(file.location))
        return copy_descriptor(descriptor, place, "/".join((MODEL_FOLDER, *file.parts)), wording.name(file.location), max_bytes)
    finally:
        os.close(descriptor)


def _status(folder: int, file: ExternalFile) -> os.stat_result:
    try:
        return os.stat(file.parts[-1], dir_fd=folder, follow_symlinks=False)
    except OSError as error:
        raise _not_opened(error, file) from None


def _beneath(folder: int, part: str, flags: int, file: ExternalFile) -> int:
    try:
        return os.open(part, flags, dir_fd=folder)
    except OSError as error:
        raise _not_opened(error, file) from None


def _not_opened(error: OSError, file: ExternalFile) -> ImportRefused:
    # O_DIRECTORY with O_NOFOLLOW answers ENOTDIR for a link to a folder, O_NOFOLLOW alone ELOOP.
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return refused("LINK", file, "is reached through a link, or through something that is no folder")
    if error.errno == errno.ENOENT:
        return refused("MISSING", file, "is not beside the model")
    return refused("NOT_READABLE", file, f"cannot be read: {os.strerror(error.errno or 0)}")

"""Hand a version out as a file: its own, or one for devices that is proven to answer as the version does."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from towline.app.home import actor, opened_store
from towline.app.listing import existing_store
from towline.core.errors import Conflict, InvalidRequest, UsageError
from towline.core.event import Event
from towline.core.manifest import Manifest
from towline.core.refs import Ref, parse_ref
from towline.core.version import Version, check_sealed

if TYPE_CHECKING:
    from towline.verify.parity.compare import Parity

Progress = Callable[[str], None]

FORMATS = ("onnx", "tflite")
# What a version's own files are, by the engine that runs it.
_OWN = {"onnxruntime": "onnx", "litert": "tflite"}


@dataclass(frozen=True)
class Exported:
    """`path` is a file, or a folder where the model is several: `files` are relative to it. `parity` is the proof of what was converted."""

    version: Version
    format: str
    path: Path
    files: tuple[str, ...]
    size_bytes: int
    parity: Parity | None
    notes: tuple[str, ...]


def export(
    ref: str | Ref,
    *,
    to: str,
    out: str | Path,
    overwrite: bool = False,
    message: str = "",
    home: str | Path | None = None,
    progress: Progress = lambda words: None,
) -> Exported:
    """Write the version `ref` to `out` as `onnx` or `tflite`. `out` appears when it is whole; what is there already is left alone unless
    `overwrite`. A conversion is written only if its answers are those of the version.

    Raises UsageError, NotFound, Conflict, VersionError; InvalidRequest for a version that has no such file; ConversionFailed; MissingExtra.
    """
    asked = parse_ref(ref) if isinstance(ref, str) else ref
    target = _checked(to, Path(out), overwrite)
    with existing_store(home, asked) as store:
        version = store.version(asked)
    check_sealed(version.path, version.digest)
    manifest = version.manifest
    _check_exportable(version, manifest, to)
    with _beside(target) as folder:
        parity: Parity | None = None
        notes: tuple[str, ...] = ()
        if _OWN[manifest.engine] == to:
            whole = _own_files(version, manifest, folder, target.name)
        else:
            from towline.app.exporting.tflite import to_tflite

            whole = folder / "export"
            parity, notes = to_tflite(version, manifest, whole, progress)
        files = _listed(whole)
        size_bytes = sum((whole / name).stat().st_size for name in files)
        _put(whole, target)
    proof = {} if parity is None else {"parity": parity.as_json()}
    data = {"format": to, "size_bytes": size_bytes, **proof}
    with opened_store(home) as store:
        event = Event("version.exported", actor(), time.time(), name=version.name, digest=version.digest, why=message, data=data)
        store.append(event)
    return Exported(version, to, target, files, size_bytes, parity, (*notes, *_notes(manifest)))


def _checked(to: str, out: Path, overwrite: bool) -> Path:
    target = out.absolute()
    if to not in FORMATS:
        raise UsageError(f"A version is not exported to '{to[:64]}'.", hint=f"There is: {', '.join(FORMATS)}.")
    if not target.parent.is_dir():
        raise UsageError(f"{out}: there is no folder {target.parent}.", code="NO_SUCH_FOLDER", hint="Make it first.")
    if os.path.lexists(target) and not overwrite:
        raise Conflict(f"{out} is there already.", hint="Give another name, or --overwrite.")
    if target.is_dir() and not target.is_symlink():
        raise Conflict(f"{out} is a folder, and a folder is never replaced.", hint="Give another name, or remove it first.")
    return target


def _check_exportable(version: Version, manifest: Manifest, to: str) -> None:
    if manifest.handler is not None:
        raise InvalidRequest(f"{version} is a handler: code of your own, which no other program runs.", code="NOT_EXPORTABLE")
    own = _OWN.get(manifest.engine, "")
    if own == "onnx" or own == to:
        return
    hint = (
        f"Its own file can be exported: --to {own}" if own else "It is run by the framework it came from, because no route to ONNX passed."
    )
    raise InvalidRequest(f"{version} is run by {manifest.engine}, and there is no way from that to {to}.", code="NOT_EXPORTABLE", hint=hint)


def _own_files(version: Version, manifest: Manifest, folder: Path, name: str) -> Path:
    """The model as it is stored: one file, or the files of its folder and those of further signatures."""
    models = {manifest.model_file, *manifest.model_files.values()}
    tops = {Path(model).parent for model in models}
    whole = folder / "export"
    if len(models) == 1 and len(_listed(version.path / next(iter(tops)))) == 1:
        shutil.copyfile(version.path / manifest.model_file, whole)
        return whole
    default = Path(manifest.model_file).parent
    for top in sorted(tops):
        shutil.copytree(version.path / top, whole if top == default else whole / top)
    return whole


def _listed(whole: Path) -> tuple[str, ...]:
    """The files beneath, or `.` for a file."""
    if whole.is_file():
        return (".",)
    return tuple(sorted(str(file.relative_to(whole)) for file in whole.rglob("*") if file.is_file()))


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A folder on the target's own file system, from which it is renamed."""
    folder = Path(tempfile.mkdtemp(prefix=".towline-export-", dir=target.parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _put(whole: Path, target: Path) -> None:
    """Readable as any new file of this user is; on disk before it has its name."""
    mask = os.umask(0)
    os.umask(mask)
    for path in (whole, *(whole.rglob("*") if whole.is_dir() else ())):
        path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    if target.is_file() and whole.is_dir():
        target.unlink()
    whole.replace(target)


def _notes(manifest: Manifest) -> Iterator[str]:
    if manifest.processing:
        yield f"Only the graph was written; its processing ({manifest.processing.words()}) is Towline's."
    if manifest.labels is not None:
        yield "Its labels are not part of the file: towline show prints them."

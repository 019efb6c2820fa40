"""Copy a foreign source, and the code that goes with it, to a folder of the import's own: what is digested is what is converted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from towline.app.importing.given import Given
from towline.app.sources import check_file
from towline.convert.files import DEFAULT_MAX_BYTES
from towline.convert.recognise import Recognised
from towline.convert.transfer import CopiedFile
from towline.convert.tree import copy_tree
from towline.core.errors import UsageError


@dataclass(frozen=True)
class ForeignCopy:
    """`entry` is what the importer is given, `reads` are further files that it may read, `options` name the copies of those."""

    entry: Path
    reads: tuple[Path, ...]
    options: Mapping[str, str]
    digest: str


def copy_foreign(found: Recognised, given: Given, into: Path) -> ForeignCopy:
    """Raises ImportRefused for links, devices and what is too much, UsageError for code that is not there."""
    top = into / "source"
    target = top / found.path.name if found.path.is_file() else top
    files = [*copy_tree(found.path, target, "source", max_bytes=DEFAULT_MAX_BYTES, only=found.files)]
    entry = top / found.entry if found.entry else top
    options, code = _with_code(given, into / "code")
    # A checkpoint's entry is the common beginning of its files' names: the folder is what is read.
    reads = (top, into / "code") if code else (top,)
    return ForeignCopy(entry, reads, options, _digest([*files, *code]))


def _with_code(given: Given, folder: Path) -> tuple[Mapping[str, str], list[CopiedFile]]:
    """The file of `--arch FILE.py:CLASS` and what it needs, beside one another."""
    arch = given.options.get("arch", "")
    # The first: what stands behind it may hold words of its own, as in Net(names='a:b').
    stem, mark, name = arch.partition(".py:")
    if not mark:
        if given.include:
            raise UsageError("--include goes with code: --arch FILE.py:CLASS.", code="USAGE", field="include")
        return given.options, []
    file = f"{stem}.py"
    check_file(Path(file), "the Python file of the architecture")
    copied: list[CopiedFile] = []
    for path in (Path(file), *given.include):
        if not path.exists():
            raise UsageError(f"{path}: No such file or folder; it is to come with the code.", code="NO_SUCH_FILE", hint="Check the path.")
        copied += copy_tree(path, folder / path.name, f"code/{path.name}", max_bytes=DEFAULT_MAX_BYTES)
    return {**given.options, "arch": f"{folder / Path(file).name}:{name}"}, copied


def _digest(files: list[CopiedFile]) -> str:
    """Of the file where it stands alone, else of the sorted list of files and their digests."""
    if len(files) == 1:
        return "sha256:" + files[0].digest
    listing = "".join(f"{file.digest} {file.name}\n" for file in sorted(files, key=lambda file: file.name))
    return "sha256:" + hashlib.sha256(listing.encode()).hexdigest()

"""Say what a file of weights holds, by its table of contents alone: nothing is unpickled, and torch is not needed."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from towline.convert.torch.architectures import likely
from towline.convert.torch.pickled import MAX_BYTES, Made, Name, NotAPickle, Pickle, Stored, code_names, read_pickle
from towline.convert.torch.unwrapping import unwrap, without_prefix
from towline.convert.wording import name as quoted
from towline.core.errors import ImportRefused

MAX_HEADER_BYTES = 100 << 20
_TORN = "Copy or download the file again."
# Before the object itself an old checkpoint has its magic number, its version and facts of the machine, each pickled.
_LEGACY_PREFACE = 3


@dataclass(frozen=True)
class Contents:
    """`shapes` of the weights by name, as stored; `module` is the class of a whole module; `code` names what is no weight."""

    shapes: dict[str, tuple[int, ...]]
    module: Name | None = None
    code: tuple[Name, ...] = ()


def contents(path: Path, kind: str) -> Contents:
    """What a .pth, .pt, .bin or .safetensors file holds. Raises ImportRefused for what is torn or no such file."""
    if kind == "safetensors":
        return Contents(_safetensors(path))
    return described(stored(path))


def stored(path: Path) -> Pickle:
    """The main pickle of a checkpoint, zip or old, read without running it."""
    try:
        with path.open("rb") as file:
            if file.read(4) == b"PK\x03\x04":
                return _zipped(file)
            file.seek(0)
            return _legacy(file)
    except (NotAPickle, zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise ImportRefused("The checkpoint is torn, or no checkpoint of PyTorch.", code="TORN_FILE", hint=_TORN) from error


def described(pickle: Pickle) -> Contents:
    code = code_names(pickle.names)
    unwrapped = unwrap(pickle.root, lambda value: isinstance(value, Stored))
    if unwrapped is not None:
        return Contents({name: tensor.shape for name, tensor in unwrapped.tensors.items()}, code=code)
    return Contents({}, module=_module(pickle.root), code=code)


def refuse_without_code(path: Path, kind: str, source: str = "FILE") -> None:
    """Raise ImportRefused that says whose weights these seem to be and how to import them: to be called when no `arch` was given.

    Returns for what needs none: a pickled module made of PyTorch's own layers only.
    """
    found = contents(path, kind)
    if found.module is not None:
        if found.code:
            raise _module_refused(found, source)
        return
    if not found.shapes:
        raise ImportRefused("The file holds no weights.", code="NO_WEIGHTS", hint="Save model.state_dict(), or the exported model.")
    prefix = without_prefix(found.shapes)
    guess = likely({name.removeprefix(prefix): shape for name, shape in found.shapes.items()})
    raise ImportRefused(
        "The file holds weights only, without the code of the model"
        + (
            f"; from their names it is {guess.what}."
            if guess
            else f": {len(found.shapes)} tensors, the first is {quoted(next(iter(found.shapes)))}."
        ),
        code="ARCHITECTURE_NEEDED",
        field="arch",
        hint=guess.command_hint(source) if guess else f"Give the code: towline import {source} --name NAME --arch model.py:Class",
    )


def _module_refused(found: Contents, source: str) -> ImportRefused:
    # A wrapper of PyTorch's own, such as DataParallel, needs no code: what is in it does.
    needed = next((name for name in found.code if not name.module.startswith("torch.")), found.code[0])
    arch = f"FILE.py:{needed.name}"
    if needed.module.startswith("torchvision.models."):
        arch = f"torchvision:{needed.module.rpartition('.')[2]}"
    return ImportRefused(
        f"The file is a pickled object of class {quoted(str(needed))}, whose code is not in it.",
        code="ARCHITECTURE_NEEDED",
        field="arch",
        hint=f"Give the code: towline import {source} --name NAME --arch {arch}",
    )


def _module(root: Any) -> Name | None:
    """The class of the module that was pickled, itself or as the value of a checkpoint's dict."""
    if isinstance(root, Made):
        return root.what
    values = root.values() if isinstance(root, dict) else ()
    objects = [value.what for value in values if isinstance(value, Made) and isinstance(value.state, dict) and "_modules" in value.state]
    return objects[0] if objects else None


def _zipped(file: IO[bytes]) -> Pickle:
    with zipfile.ZipFile(file) as archive:
        names = [entry for entry in archive.infolist() if entry.filename.endswith("data.pkl")]
        if len(names) != 1 or names[0].file_size > MAX_BYTES:
            raise NotAPickle("it has no data.pkl, several, or one that is too large")
        with archive.open(names[0]) as inner:
            return read_pickle(inner)


def _legacy(file: IO[bytes]) -> Pickle:
    for _ in range(_LEGACY_PREFACE):
        read_pickle(file)
    return read_pickle(file)


def _safetensors(path: Path) -> dict[str, tuple[int, ...]]:
    """The header of a safetensors file: its length in 8 bytes, then JSON."""
    size_bytes = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(MAX_HEADER_BYTES, size_bytes - 8):
            raise ImportRefused(f"The header should have {length} bytes, the file has {size_bytes}.", code="TORN_FILE", hint=_TORN)
        raw = file.read(length)
    try:
        header = json.loads(raw)
        tensors = {str(name): entry for name, entry in header.items() if name != "__metadata__"}
        end = max((int(entry["data_offsets"][1]) for entry in tensors.values()), default=0)
        shapes = {name: tuple(int(size) for size in entry["shape"]) for name, entry in tensors.items()}
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise ImportRefused("The header of the safetensors file is no table of tensors.", code="TORN_FILE", hint=_TORN) from None
    if 8 + length + end != size_bytes:
        raise ImportRefused(f"The tensors need {8 + length + end} bytes, the file has {size_bytes}.", code="TORN_FILE", hint=_TORN)
    return shapes

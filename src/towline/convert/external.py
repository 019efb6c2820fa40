"""Decide which external-data files a model may name: plain paths beneath its own folder, with sane offsets. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from towline.convert import wording
from towline.convert.wire import ExternalTensor
from towline.core.errors import ImportRefused

MAX_FILES = 10_000
MAX_LOCATION_BYTES = 1024
_DECIMAL = re.compile(r"[0-9]{1,19}")
_HINTS = {
    "OUTSIDE": "External data must lie in the model's own folder: save the model again with a plain file name as location.",
    "LINK": "Replace links by the files themselves, as with 'cp -rL'.",
    "HARD_LINK": "Copy the model's folder with 'cp -r' and import the copy.",
    "MISSING": "Bring the model's data files along: they belong into the same folder.",
    "SHORT": "The file is torn or belongs to another model: copy or export it again.",
    "ENTRY": "Export the model again.",
}


@dataclass(frozen=True)
class ExternalFile:
    """One file a model names. `tensor` is the first that does; `needs_bytes` is the furthest end any of them reads."""

    location: str
    parts: tuple[str, ...]
    tensor: str
    needs_bytes: int


def refused(why: str, file: ExternalFile, what: str) -> ImportRefused:
    """`what` says what is wrong with the file: "is not beside the model"."""
    return _refusal(why, file.tensor, file.location, what)


def _refusal(why: str, tensor: str, location: str, what: str) -> ImportRefused:
    return ImportRefused(
        f"The external data of tensor {wording.name(tensor)}, {wording.name(location)}, {what}.",
        code=f"EXTERNAL_DATA_{why}",
        field="external_data",
        hint=_HINTS.get(why, "Put a plain, readable file in its place."),
    )


def external_files(tensors: Iterable[ExternalTensor]) -> tuple[ExternalFile, ...]:
    """The files to copy, in the order they are named. Raises ImportRefused for any location that is not a plain path."""
    files: dict[tuple[str, ...], ExternalFile] = {}
    for tensor in tensors:
        locations = tensor.values("location")
        if len(locations) != 1:
            raise _refusal("ENTRY", tensor.name, ", ".join(locations[:2]), f"has {len(locations)} locations, expected one")
        parts = _plain_parts(tensor, locations[0])
        end = _number(tensor, "offset", locations[0]) + _number(tensor, "length", locations[0])
        known = files.get(parts)
        if known is None or end > known.needs_bytes:
            files[parts] = ExternalFile(locations[0], parts, known.tensor if known else tensor.name, end)
        if len(files) > MAX_FILES:
            raise ImportRefused(f"The model names more than {MAX_FILES} files.", code="LIMIT_EXCEEDED")
    return tuple(files.values())


def _plain_parts(tensor: ExternalTensor, location: str) -> tuple[str, ...]:
    """The parts of a relative path that goes nowhere but down. `./` in front is what some exporters write."""
    parts = tuple(part for part in location.split("/") if part != ".")
    plain = (
        0 < len(location.encode("utf-8", "replace")) <= MAX_LOCATION_BYTES
        and location.isprintable()
        and "\ufffd" not in location
        and not any(char in location for char in '\\:"')
        and bool(parts)
        and not any(part in ("", "..") for part in parts)
    )
    if not plain:
        raise _refusal("OUTSIDE", tensor.name, location, "is not a plain path beneath the model's folder")
    return parts


def _number(tensor: ExternalTensor, key: str, location: str) -> int:
    values = tensor.values(key)
    if not values:
        return 0
    if len(values) > 1 or not _DECIMAL.fullmatch(values[0]) or int(values[0]) > 2**63 - 1:
        raise _refusal("ENTRY", tensor.name, location, f"has {key} {wording.name(values[0])}, expected one whole number of bytes")
    return int(values[0])

"""Read arrays from what people have: .npz, .npy or JSON. Never a pickle, and nothing is allocated for what a file only claims. Pure."""

from __future__ import annotations

import ast
import json
import math
import zipfile
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np

from towline.core.errors import TowlineError

MAX_ARRAYS = 1024
MAX_HEADER_BYTES = 10_000
SUFFIXES = (".npz", ".npy", ".json")
HINT = 'Arrays come as a .npz with one per input, as a .npy, or as JSON: {"inputs": {"x": [[…]]}}, or [[…]] for one input.'

# Makes an error of what is wrong, such as "it is a damaged .npz (BadZipFile)".
Refused = Callable[[str], TowlineError]


def read_arrays(raw: bytes, refused: Refused, *, max_bytes: int) -> Any:
    """Arrays by name, one array, or the nested lists of JSON, which may stand in `inputs`, `instances` or `input`.

    `max_bytes` bounds what an archive unpacks to. Raises what `refused` makes of the reason.
    """
    if raw.startswith(b"PK\x03\x04"):
        return read_npz(raw, refused, max_bytes=max_bytes)
    return _npy(raw, refused) if raw.startswith(b"\x93NUM") else _json(raw, refused)


def read_npz(raw: bytes, refused: Refused, *, max_bytes: int) -> dict[str, np.ndarray]:
    """The arrays of a .npz by name; none that is pickled, nor that unpacks to more than `max_bytes` in all."""
    try:
        with zipfile.ZipFile(BytesIO(raw)) as archive:
            members = archive.infolist()
            # What the directory claims is checked against what comes out: ZipFile reads no further than that.
            if len(members) > MAX_ARRAYS or sum(member.file_size for member in members) > max_bytes:
                raise refused(f"it unpacks to more than {MAX_ARRAYS} arrays or {max_bytes} bytes")
            return {member.filename.removesuffix(".npy"): _npy(archive.read(member), refused) for member in members}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise refused(f"it is a damaged .npz ({type(error).__name__})") from None


def _npy(raw: bytes, refused: Refused) -> np.ndarray:
    """An array from .npy bytes. numpy's own reader believes the header's shape before it looks at the data; this does not."""
    try:
        length_bytes = 2 if raw[6] == 1 else 4
        start = 8 + length_bytes
        end = start + int.from_bytes(raw[8:start], "little")
        header = ast.literal_eval(raw[start : min(end, start + MAX_HEADER_BYTES)].decode("latin-1"))
        dtype, shape, is_fortran = np.dtype(str(header["descr"])), tuple(map(int, header["shape"])), bool(header["fortran_order"])
    except (ValueError, SyntaxError, KeyError, TypeError, IndexError, RecursionError, MemoryError):
        raise refused("it is a damaged .npy file, or holds no plain array") from None
    if dtype.hasobject or dtype.fields:
        raise refused(f"it holds {dtype}, which would need pickle or is no plain array")
    count = math.prod(shape)
    if min(shape, default=0) < 0 or count * dtype.itemsize != len(raw) - end:
        raise refused("it is a torn .npy file")
    array = np.frombuffer(raw, dtype, count, end) if count else np.empty(0, dtype)
    return array.reshape(shape[::-1]).T if is_fortran else array.reshape(shape)


def _json(raw: bytes, refused: Refused) -> Any:
    try:
        given = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise refused(f"it is neither .npz, .npy nor JSON ({str(error)[:120]})") from None
    if given is None or isinstance(given, bool):
        raise refused(f"it holds {json.dumps(given)}, which is no array")
    if isinstance(given, dict) and len(given) == 1:
        given = next((given[key] for key in ("inputs", "instances", "input") if key in given), given)
    return given


def _no_constant(name: str) -> float:
    raise ValueError(f"JSON has no {name}; a .npy may hold it")

"""What a user's handler class says of itself, once a process of its own has imported it. Pure."""

from __future__ import annotations

import re

import msgspec

from towline.core import dtypes
from towline.core.errors import VersionError
from towline.core.manifest import Handler, Signature, TensorSpec

# The signature of a handler that declares none: bodies in, bodies out.
BODY = "body"
BODY_SIGNATURE = Signature((TensorSpec(BODY, "string", ("N",)),), (TensorSpec(BODY, "string", ("N",)),))
# Where its file and what it brought along lie in a version; what it is given as its folder.
HANDLER_FOLDER = "handler"
MAX_CONCURRENT = 64
_SPEC = re.compile(r"\s*([a-z0-9]+)\s*(?:\[\s*([^\]]*?)\s*\])?\s*")
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class Described(msgspec.Struct, frozen=True):
    """`sample` is a request's body that the handler gave as an example. With an `error` the rest says nothing."""

    handler: Handler
    signature: Signature
    max_batch: int = 1
    sample: bytes | None = None
    # The release of the Python that imported it.
    python_version: str = ""
    error: str = ""
    code: str = ""
    hint: str = ""


def parse_tensor(name: str, text: object) -> TensorSpec:
    """`"float32[N,10]"` as a spec; `"float32"` alone may have any shape. Raises VersionError."""
    match = _SPEC.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[1] not in dtypes.BY_NAME:
        raise VersionError(
            f"'{name}' is declared as {text!r:.80}, which is no type and shape.",
            code="BAD_HANDLER",
            hint=f'Write it as in "float32[N,10]"; types are {", ".join(dtypes.BY_NAME)}.',
        )
    return TensorSpec(
        name, match[1], None if match[2] is None else tuple(_dim(name, dim.strip()) for dim in match[2].split(",") if match[2])
    )


def _dim(name: str, dim: str) -> int | str:
    if dim.isascii() and dim.isdigit() and 0 < int(dim) < 1 << 31:
        return int(dim)
    if not _SYMBOL.fullmatch(dim):
        raise VersionError(
            f"'{name}' has a dim {dim!r:.80}: expected a size from 1, or a letter such as N.",
            code="BAD_HANDLER",
            hint='As in "float32[N,10]".',
        )
    return dim

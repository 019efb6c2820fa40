"""JSON quickly: msgspec decoders typed by a signature, and orjson for answers. What these refuse goes to exact.py. Pure."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import msgspec
import numpy as np
import orjson
from msgspec import Meta

from towline.core import dtypes
from towline.core.errors import InvalidRequest, Kind
from towline.core.inference import Merged
from towline.core.manifest import Signature, TensorSpec
from towline.serve.codecs.check import MAX_RANK
from towline.serve.codecs.nested import FLOAT_BOUNDS

# What a typed decoder or numpy raises for a body that is not in the plain form.
NOT_PLAIN = (ValueError, TypeError, OverflowError, RecursionError)
# What one body may make of objects: a list costs about half a microsecond, a number 32 bytes. Small bodies are not counted.
MAX_LISTS, MAX_NUMBERS = 1_000_000, 8_000_000
COUNTED_BYTES = 64 << 10
# From here on a second look at a body would be felt by other clients.
LARGE_BYTES = 1 << 20
# Rows larger than this are written one by one: cutting them out of a text of all would cost more than it saves.
_MAX_ROW_BYTES = 4096
# What `struct` calls the types whose bounds the decoder keeps to: those it could not refuse any more.
_PACKED = {"float32": "f", "float64": "d", "int32": "i", "int64": "q"}
# Compact JSON; arrays must come from `jsonable`. NaN and infinity become null. Raises TypeError for what orjson does not write.
dumps: Callable[[Any], bytes] = partial(orjson.dumps, option=orjson.OPT_SERIALIZE_NUMPY)


def element_type(dtype: str) -> Any:
    """The type of one element with its bounds, checked in C while parsing: no bool for a float, no 1.9 for an int."""
    if dtype == "bool":
        return bool
    if dtype == "float64":
        return float
    if dtype in FLOAT_BOUNDS:
        return Annotated[float, Meta(gt=-FLOAT_BOUNDS[dtype], lt=FLOAT_BOUNDS[dtype])]
    info = np.iinfo(dtype)
    if dtype == "uint64":
        # msgspec's bounds end at int64; numpy refuses what is above uint64.
        return Annotated[int, Meta(ge=0)]
    return Annotated[int, Meta(ge=int(info.min), le=int(info.max))]


def nested_type(spec: TensorSpec, dropped: int = 0) -> Any | None:
    """`list[list[…]]` as deep as the spec's rank less `dropped`; None when no typed decoder fits (strings, unknown rank)."""
    if spec.shape is None or spec.dtype == "string" or not 0 <= len(spec.shape) - dropped <= MAX_RANK:
        return None
    kind = element_type(spec.dtype)
    for _ in range(len(spec.shape) - dropped):
        kind = list[kind]  # type: ignore[valid-type]
    return kind


def record_type(signature: Signature, dropped: int = 0) -> type[msgspec.Struct] | None:
    """A struct with a field `f0`, `f1`, … per input, each as nested as its spec less `dropped`; None when one has no typed decoder."""
    kinds = [nested_type(spec, dropped) for spec in signature.inputs]
    if any(kind is None for kind in kinds):
        return None
    fields = [(f"f{index}", kind) for index, kind in enumerate(kinds)]
    names = {f"f{index}": spec.name for index, spec in enumerate(signature.inputs)}
    try:
        return msgspec.defstruct("Record", fields, rename=names, gc=False)
    except ValueError:
        # A name with a quote or backslash in it: left to the exact path.
        return None


def decoder(kind: Any | None) -> Callable[[bytes], Any] | None:
    return None if kind is None else msgspec.json.Decoder(kind).decode


def values_of(record: msgspec.Struct) -> list[Any]:
    return list(msgspec.structs.astuple(record))


def check_amount(body: bytes) -> None:
    """Refuse a body of more lists or values than are read in bounded time and memory."""
    if len(body) <= COUNTED_BYTES:
        return
    if body.count(b"[") + body.count(b"{") > MAX_LISTS or body.count(b",") > MAX_NUMBERS:
        raise InvalidRequest(
            f"The body has more than {MAX_LISTS} lists or {MAX_NUMBERS} values.",
            code="TOO_MANY_VALUES",
            kind=Kind.TOO_LARGE,
            hint="Send fewer rows, or binary tensors to /v2.",
        )


def has_strings(body: bytes, count: int) -> bool:
    """Whether the body holds exactly `count` strings, keys included, and no escaped quote.

    msgspec keeps the last of duplicate keys in silence. When every string in the body is one that was asked for,
    there is no room for a second.
    """
    return body.count(b'"') == 2 * count


def is_numeric(spec: TensorSpec) -> bool:
    """A typed decoder's lists of it become an array as they are."""
    return spec.dtype not in ("string", "bool")


def packer(spec: TensorSpec, width: int) -> Callable[..., bytes] | None:
    """Of as many numbers as a row has the bytes that numpy would make of them; None for no numbers, and for types of other rules."""
    code = _PACKED.get(spec.dtype)
    return struct.Struct(f"<{width}{code}").pack if code and width else None


def array_of(value: Any, spec: TensorSpec) -> np.ndarray:
    """A typed decoder's lists as an array. Raises one of NOT_PLAIN when they are ragged."""
    return np.array(value, dtypes.BY_NAME[spec.dtype].numpy)


class Rows(msgspec.Struct, frozen=True, gc=False):
    """The rows of one array as JSON: `texts` without the brackets around each, and what stands around and between them."""

    texts: list[bytes]
    opening: bytes
    between_two: bytes
    closing: bytes

    def between(self, start: int, stop: int) -> bytes:
        """Rows `start` to `stop`, separated by commas."""
        text = self.texts[start] if stop - start == 1 else self.between_two.join(self.texts[start:stop])
        return b"%b%b%b" % (self.opening, text, self.closing)


def rows_of(merged: Merged) -> Rows | None:
    """The rows of the one output of requests that ran as one, written once for all of them; None when each is to write its own."""
    if merged.made is None:
        # False: looked at, and not to be had.
        merged.made = _rows(merged.outputs) or False
    return merged.made or None


def _rows(outputs: dict[str, Any]) -> Rows | None:
    if len(outputs) != 1:
        return None
    (array,) = outputs.values()
    if not array.size or array.dtype.kind not in "fiu" or array.nbytes > _MAX_ROW_BYTES * len(array):
        return None
    try:
        text = dumps(array)
    except TypeError:
        return None
    if b"null" in text:
        # NaN or infinity, which each protocol writes in its own way.
        return None
    depth = array.ndim - 1
    opening, closing = b"[" * depth, b"]" * depth
    separator = closing + b"," + opening
    return Rows(text[depth + 1 : -depth - 1].split(separator), opening, separator, closing)


def jsonable(array: np.ndarray, text: Callable[[Any], Any]) -> Any:
    """What `dumps` can write for an array of any rank. `text` turns one element of a string array into JSON."""
    if array.dtype.kind in "OSU":
        return _nest([text(element) for element in array.reshape(-1)], array.shape)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.ndim == 0:
        return array[()]
    return array if array.flags.c_contiguous else np.ascontiguousarray(array)


def _nest(flat: list[Any], shape: tuple[int, ...]) -> Any:
    if not shape:
        return flat[0]
    if len(shape) == 1:
        return flat
    step = len(flat) // shape[0] if shape[0] else 0
    return [_nest(flat[start * step : (start + 1) * step], shape[1:]) for start in range(shape[0])]


def plain_text(element: Any) -> str:
    """One string element as JSON text. Raises InvalidRequest when its bytes are no UTF-8."""
    if isinstance(element, str):
        return element
    try:
        return bytes(element).decode()
    except UnicodeDecodeError:
        raise InvalidRequest(
            "An output holds bytes that are no UTF-8 text and cannot be written in JSON.",
            code="NOT_TEXT",
            hint="Ask for binary data: the Open Inference Protocol's binary_data_output.",
        ) from None


def is_non_finite(array: np.ndarray) -> bool:
    return array.dtype.kind == "f" and not np.isfinite(array).all()


def with_tokens(array: np.ndarray) -> orjson.Fragment:
    """A float array as JSON in which NaN, Infinity and -Infinity are bare words, as TF Serving writes them."""
    array = np.asarray(array)
    pieces = dumps(jsonable(array, plain_text)).split(b"null")
    flat = array.reshape(-1)
    written = bytearray(pieces[0])
    for value, piece in zip(flat[~np.isfinite(flat)].tolist(), pieces[1:], strict=True):
        written += b"NaN" if value != value else b"Infinity" if value > 0 else b"-Infinity"
        written += piece
    return orjson.Fragment(bytes(written))

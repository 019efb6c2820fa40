"""Plain prediction's other bodies for one signature: a form with files or values, and a file that is the whole body. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from towline.core.errors import InvalidRequest, Kind
from towline.core.manifest import TensorSpec
from towline.core.refs import clip
from towline.serve.codecs import check, exact, media, multipart, nested
from towline.serve.codecs.multipart import Part
from towline.serve.contract import HttpRequest, Served
from towline.serve.protocols.simple_body import Asked, PlainCodec
from towline.serve.protocols.simple_values import FILE_KEYS, KEYS

# Media types of a body that is one file, beside image/* and audio/*.
_BYTES, _TEXT = "application/octet-stream", "text/plain"
# What browsers and libraries append to a name that is sent several times.
_LIST_ENDING = "[]"
_FILE_NAMES = (*FILE_KEYS, *KEYS)
FORM = "multipart/form-data"
# Fields that say how to answer, and are no input.
PARAMETERS = ("top",)


def is_file(content_type: str) -> bool:
    """Whether a body of this media type is one file."""
    return content_type.startswith(("image/", "audio/")) or content_type in (_BYTES, _TEXT)


def json_size(served: Served, request: HttpRequest, size: int) -> int:
    """How much of a body of `size` bytes is JSON: nothing of a file, nor of what a handler reads itself. A form may hold numbers."""
    media = (request.header(b"content-type") or b"").decode("latin-1").partition(";")[0].strip().lower()
    if (served.manifest.handler is not None and served.manifest.handler.passes_body) or is_file(media):
        return 0
    reads_numbers = any(spec.dtype != "string" for spec in served.signature().inputs)
    return size if reads_numbers or media != FORM else 0


def decode_file(codec: PlainCodec, body: bytes, content_type: str, deadline: float | None) -> Asked:
    """A body that is one file: one item for a model whose only input reads files or text."""
    specs = codec.signature.inputs
    if len(specs) > 1 or specs[0].dtype != "string":
        raise _reads_no_files(content_type, specs, "content-type")
    kind = codec.kinds.get(specs[0].name)
    if kind is not None and content_type != _BYTES and not content_type.startswith(f"{kind}/"):
        raise InvalidRequest(
            f"Input '{specs[0].name}' reads {kind}, the body is {clip(content_type)}.",
            code="UNSUPPORTED_MEDIA_TYPE",
            kind=Kind.UNSUPPORTED_MEDIA,
            field="content-type",
        )
    if not body:
        raise InvalidRequest("The body is empty: expected a file.", code="EMPTY_BODY")
    array = np.empty((), dtype=object)
    array[()] = body
    return Asked(codec.request([_as_item(array, specs[0])], True, ["body"], deadline), True, is_plain=False)


def decode_parts(codec: PlainCodec, parts: Sequence[Part], deadline: float | None) -> Asked:
    """A form: a part is one item of the input it names, several parts of a name are a batch. Fields that name no input are ignored."""
    specs = codec.signature.inputs
    given = _by_input(parts, specs)
    sizes = {len(found) for found in given.values()}
    if sizes != {max(sizes)}:
        counts = ", ".join(f"{len(found)} of '{clip(name)}'" for name, found in given.items())
        raise InvalidRequest(f"Each input needs as many parts as the others, got {counts}.", code="DIM_MISMATCH")
    is_item = sizes == {1}
    arrays = [_array(given[spec.name], spec, codec, is_item) for spec in specs]
    are_batches = {is_item and spec.shape is not None and array.ndim == len(spec.shape) for array, spec in zip(arrays, specs, strict=True)}
    if are_batches == {True} and all(spec.dtype != "string" for spec in specs):
        # One field per input with a list of rows in each.
        is_item = False
    fields = [clip(given[spec.name][0].name) for spec in specs]
    return Asked(codec.request(arrays, is_item, fields, deadline), is_item, is_plain=False)


def _by_input(parts: Sequence[Part], specs: Sequence[TensorSpec]) -> dict[str, list[Part]]:
    """The parts of each input. A model with one input is sent files under any of the usual names."""
    given: dict[str, list[Part]] = {spec.name: [] for spec in specs}
    only = specs[0] if len(specs) == 1 else None
    for part in parts:
        name = part.name.removesuffix(_LIST_ENDING)
        if name in given:
            given[name].append(part)
        elif only is not None and name in _FILE_NAMES:
            given[only.name].append(part)
        elif part.is_file:
            known = check.list_names([spec.name for spec in specs] + (["file", "image", "data"] if only is not None else []))
            raise InvalidRequest(
                f"There is no input '{clip(part.name)}' for this file. Files are taken as {known}.",
                code="UNKNOWN_INPUT",
                field=clip(part.name),
            )
    missing = [name for name, found in given.items() if not found]
    if missing:
        hint = "Send it as a part named 'file'." if only is not None and only.dtype == "string" else "Send a part of that name."
        raise InvalidRequest(
            f"The form has no part for input {check.list_names(missing)}.", code="MISSING_INPUT", field=clip(missing[0]), hint=hint
        )
    return given


def _array(parts: list[Part], spec: TensorSpec, codec: PlainCodec, is_item: bool) -> np.ndarray:
    if spec.dtype == "string":
        contents = np.empty(len(parts), dtype=object)
        contents[:] = [part.content for part in parts]
        return _as_item(contents[0:1].reshape(()), spec) if is_item else _as_rows(contents, spec)
    for part in parts:
        if part.is_file:
            raise _reads_no_files(part.media, [spec], clip(part.name))
    values = [_number(part, spec, codec) for part in parts]
    field = clip(parts[0].name)
    return nested.to_array(values[0] if is_item else values, spec, field, codec.limits)


def _number(part: Part, spec: TensorSpec, codec: PlainCodec) -> Any:
    """The value of one field: JSON, as in `x=1.5` or `x=[1, 2]`."""
    if not part.content.strip() and codec.kinds.get(spec.name) == media.TABULAR:
        value: Any = exact.Token("nan")
    else:
        try:
            value = exact.parse(part.content)
        except InvalidRequest as error:
            raise InvalidRequest(
                f"Field '{clip(part.name)}' must be a number, or a list of numbers, in JSON.", code=error.code, field=clip(part.name)
            ) from None
    is_bare = spec.shape is not None and spec.shape[1:] == (1,) and not isinstance(value, list)
    return [value] if is_bare else value


def _as_item(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """A single string as an item of [N] or of [N, 1]."""
    return array.reshape((1,) * (len(spec.shape) - 1)) if spec.shape else array


def _as_rows(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    return array.reshape((len(array),) + (1,) * (len(spec.shape) - 1)) if spec.shape else array


def _reads_no_files(content_type: str, specs: Sequence[TensorSpec], field: str) -> InvalidRequest:
    names = check.list_names([spec.name for spec in specs])
    if len(specs) > 1:
        message, hint = f"This model has several inputs, {names}.", "Send multipart/form-data with a part for each, or application/json."
    else:
        kind = "image" if content_type.startswith("image/") else "audio" if content_type.startswith("audio/") else "such"
        message = f"Input {names} takes numbers ({specs[0].dtype}), and the version declares no {kind} processing: it reads no files."
        hint = "Send its numbers as application/json, or import it again with --processing FILE" + (
            " or --preset imagenet." if kind == "image" else "."
        )
    return InvalidRequest(message, code="UNSUPPORTED_MEDIA_TYPE", kind=Kind.UNSUPPORTED_MEDIA, field=field, hint=hint)


def parameters(parts: Sequence[Part]) -> dict[str, str]:
    """The fields that say how to answer."""
    return {part.name: part.content.decode("latin-1") for part in parts if part.name in PARAMETERS and not part.is_file}


def parts_of(body: bytes, content_type: str) -> list[Part]:
    return multipart.parse(body, multipart.boundary_of(content_type))

"""Between what travels and what a user's methods see: bodies and JSON values, tensors and whatever numpy can be made of. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from towline.core import dtypes
from towline.core.errors import EngineError, Kind
from towline.core.manifest import TensorSpec
from towline.core.refs import clip

_JSON_DECODER = msgspec.json.Decoder()


def parsed(body: bytes) -> Any:
    """The value of a JSON body. Raises EngineError of kind INVALID."""
    try:
        return _JSON_DECODER.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        said = "it is nested too deep" if isinstance(error, RecursionError) else clip(str(error), 120)
        raise EngineError(f"The body is not JSON: {said}.", code="INVALID_JSON", kind=Kind.INVALID) from None


def body_of(value: Any, media_type: str) -> bytes:
    """What a handler gave, as the body of an answer: bytes as they are, text where it is text that is promised, else JSON."""
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if isinstance(value, str) and not media_type.startswith("application/json"):
        return value.encode()
    try:
        return _JSON_ENCODER.encode(value)
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        raise bad_output(f"gave a {type(value).__name__} that cannot be written as JSON: {clip(str(error), 120)}") from None


def _plain(value: Any) -> Any:
    """What JSON has no word for: arrays and numbers of numpy, tensors of frameworks."""
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"there is no JSON for {type(value).__name__}")


_JSON_ENCODER = msgspec.json.Encoder(enc_hook=_plain)


def arrays_of(value: Any, specs: Sequence[TensorSpec]) -> list[np.ndarray]:
    """What a handler gave, as its outputs in order. Raises EngineError that names the output and says what was expected."""
    return [_array(one, spec) for one, spec in zip(_each(value, specs), specs, strict=True)]


def _each(value: Any, specs: Sequence[TensorSpec]) -> list[Any]:
    names = [spec.name for spec in specs]
    if isinstance(value, Mapping):
        missing, extra = [name for name in names if name not in value], [name for name in value if name not in names]
        if missing or extra:
            raise bad_output(f"gave the outputs {_listed(value)}, its signature has {_listed(names)}")
        return [value[name] for name in names]
    if len(specs) == 1:
        return [value]
    if isinstance(value, tuple | list) and len(value) == len(specs):
        return list(value)
    raise bad_output(f"gave a {type(value).__name__}, expected a dict with the outputs {_listed(names)}")


def _array(value: Any, spec: TensorSpec) -> np.ndarray:
    dtype = dtypes.BY_NAME[spec.dtype]
    try:
        array = np.asarray(value, dtype=None if dtype.size else object)
    except (ValueError, TypeError, RuntimeError) as error:
        raise bad_output(f"gave an output '{spec.name}' that is no array: {clip(str(error), 120)}") from None
    if not dtype.size:
        array = _strings(array, spec)
    elif isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__"):
        if dtypes.of_array(array) != dtype:
            raise bad_output(f"gave output '{spec.name}' as {array.dtype}, its signature says {spec.dtype}")
    elif not _fits(array, dtype):
        raise bad_output(f"gave output '{spec.name}' as {array.dtype}, its signature says {spec.dtype}")
    array = np.ascontiguousarray(array, dtype=dtype.numpy).reshape(array.shape)
    if spec.shape is not None and not _has_shape(array, spec.shape):
        raise bad_output(
            f"gave output '{spec.name}' with shape {list(array.shape)}, its signature says [{', '.join(map(str, spec.shape))}]"
        )
    return array


def _fits(array: np.ndarray, dtype: dtypes.DType) -> bool:
    """Whether the numbers of a list are of the declared kind. Whole ones are int64 to numpy, whatever they are meant to be."""
    if not array.size:
        return True
    if not dtype.is_integer:
        return array.dtype.kind in ("iuf" if dtype.is_float else "b")
    limits = np.iinfo(dtype.numpy)
    return array.dtype.kind in "iu" and bool(int(array.min()) >= limits.min and int(array.max()) <= limits.max)


def _strings(array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    plain = np.empty(array.shape, dtype=object)
    for index, element in np.ndenumerate(array):
        if not isinstance(element, str | bytes):
            raise bad_output(f"gave a {type(element).__name__} in output '{spec.name}', expected strings")
        plain[index] = element.encode() if isinstance(element, str) else element
    return plain


def _has_shape(array: np.ndarray, shape: tuple[int | str, ...]) -> bool:
    return array.ndim == len(shape) and all(isinstance(dim, str) or dim == size for dim, size in zip(shape, array.shape, strict=True))


def joined(parts: Sequence[Sequence[np.ndarray]], specs: Sequence[TensorSpec]) -> list[np.ndarray]:
    """The parts of an answer as one: along their first dim, where they have one."""
    if len(parts) == 1:
        return list(parts[0])
    whole = []
    for place, spec in enumerate(specs):
        arrays = [np.atleast_1d(part[place]) for part in parts]
        try:
            whole.append(np.concatenate(arrays) if arrays else np.empty(_empty(spec), dtypes.BY_NAME[spec.dtype].numpy))
        except ValueError:
            raise bad_output(f"gave parts of output '{spec.name}' whose shapes do not fit together") from None
    return whole


def _empty(spec: TensorSpec) -> tuple[int, ...]:
    return (0, *(dim if isinstance(dim, int) else 0 for dim in (spec.shape or ())[1:]))


def size_bytes(arrays: Sequence[np.ndarray]) -> int:
    return sum(sum(map(len, array.reshape(-1))) + 4 * array.size if array.dtype == object else array.nbytes for array in arrays)


def bad_output(what: str) -> EngineError:
    return EngineError(f"The handler {what}.", code="HANDLER_BAD_OUTPUT")


def _listed(names: Any) -> str:
    return ", ".join(repr(clip(str(name))) for name in list(names)[:8]) or "none"

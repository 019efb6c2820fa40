"""TensorProto <-> array, and one signature's PredictRequest -> Request, by TensorFlow's rules. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from towline.core import dtypes
from towline.core.errors import InvalidRequest, Kind
from towline.core.inference import Request, Response
from towline.core.manifest import DEFAULT_SIGNATURE, TensorSpec
from towline.core.refs import clip
from towline.serve.codecs import binary, check
from towline.serve.codecs.check import InputCheck, Limits
from towline.serve.contract import Served
from towline.serve.protocols.grpc import lifting
from towline.serve.protocols.grpc.descriptors_tf import TENSORFLOW
from towline.serve.protocols.grpc.elements import FEW, array_from, listed, packed
from towline.serve.protocols.grpc.lifting import NONE, Lifted, Lists
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.wire import delimited, nested

_Request = MESSAGES["tensorflow.serving.PredictRequest"]
_Tensor = MESSAGES["tensorflow.TensorProto"]
_NUMBERS = {field.name: field.number for field in _Tensor.DESCRIPTOR.fields}
_Response = MESSAGES["tensorflow.serving.PredictResponse"]
# Of a PredictResponse.
_OUTPUTS_FIELD = 1
# Inputs, by name, and the value of each.
_TENSORS = lifting.place(2, 2, TENSORFLOW.messages["TensorProto"])
_TYPE_NUMBERS = TENSORFLOW.enums["DataType"]
_TYPE_NAMES = {number: name for name, number in _TYPE_NUMBERS.items()}
# Where each type's elements are when they are not in tensor_content; an int_val is four bytes wide for all the small ones.
_VALUES = {
    "float32": "float_val",
    "float64": "double_val",
    "float16": "half_val",
    "bool": "bool_val",
    "string": "string_val",
    **dict.fromkeys(("int8", "int16", "int32", "uint8", "uint16"), "int_val"),
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
}


class PredictCodec:
    """Decodes and encodes for one signature of one version; built once per slot."""

    def __init__(self, served: Served, limits: Limits, name: str) -> None:
        self.signature = served.signature(name)
        self._name = "" if self.signature is served.signature() else name
        self._limits = limits
        self._check = InputCheck(self.signature, limits)
        self._inputs = {spec.name: spec for spec in self.signature.inputs}
        self._outputs = tuple(spec.name for spec in self.signature.outputs)

    def decode(self, inputs: Mapping[str, Any], lifted: Lifted, output_filter: Sequence[str], deadline: float | None) -> Request:
        """`inputs` are TensorProtos by name, without what was lifted. Raises InvalidRequest, in TF Serving's words where it has any."""
        if inputs.keys() != self._inputs.keys():
            raise _wrong_names(list(inputs), list(self._inputs))
        fields = [f"inputs.{clip(name)}" for name in self._inputs]
        shapes = [_shape_of(inputs[name], spec, field) for (name, spec), field in zip(self._inputs.items(), fields, strict=True)]
        rows = self._check.rows(shapes, fields)
        arrays = {
            name: _array_of(inputs[name], lifted.lists.get(name, NONE), spec, shape, field, self._limits)
            for (name, spec), shape, field in zip(self._inputs.items(), shapes, fields, strict=True)
        }
        return Request(arrays, rows, deadline, outputs=self._filtered(output_filter), signature=self._name)

    def _filtered(self, names: Sequence[str]) -> tuple[str, ...]:
        seen: set[str] = set()
        for index, name in enumerate(names):
            field = f"output_filter[{index}]"
            if name not in self._outputs:
                expected = ",".join(map(clip, self._outputs[:8]))
                raise InvalidRequest(
                    f"output tensor alias not found in signature: {clip(name)} Outputs expected to be in the set {{{expected}}}.",
                    code="UNKNOWN_OUTPUT",
                    field=field,
                )
            if name in seen:
                raise InvalidRequest(f"duplicate output tensor alias: {clip(name)}", code="DUPLICATE_OUTPUT", field=field)
            seen.add(name)
        return tuple(names)

    def encode(self, response: Response, signature_name: str) -> bytes:
        """The whole PredictResponse, with the version that answered."""
        message = _Response(model_spec=spec_of(response.name, response.number, signature_name or DEFAULT_SIGNATURE))
        parts: list[bytes] = []
        for name, array in response.outputs.items():
            if array.size > FEW and array.dtype.kind not in "OSU":
                # An entry of a map: its key and its value.
                parts += nested(_OUTPUTS_FIELD, (delimited(1, name.encode()), *nested(2, _long_tensor(array))))
            else:
                _write_tensor(array, message.outputs[name])
        # Joined once: what is long is copied once.
        return b"".join((message.SerializeToString(), *parts))


def read(raw: bytes) -> tuple[Any, Lifted]:
    """A PredictRequest but for its long lists, and these. Raises InvalidRequest."""
    return lifting.read_request(_Request, raw, _TENSORS)


def codec_for(served: Served, limits: Limits, name: str) -> PredictCodec:
    """The codec of a signature, built once per slot. Raises InvalidRequest in TF Serving's words for a name there is not."""
    key = ("tfserving-grpc", name)
    codec: PredictCodec | None = served.codecs.get(key)
    if codec is None:
        codec = served.codecs[key] = PredictCodec(served, limits, signature_called(served, name))
    return codec


def signature_called(served: Served, name: str) -> str:
    """The name as `served.signature` takes it. The default is found under its own name too, whatever the only signature is called."""
    if name in ("", DEFAULT_SIGNATURE):
        return ""
    if name not in served.manifest.signatures:
        raise InvalidRequest(f'Serving signature key "{clip(name)}" not found.', code="UNKNOWN_SIGNATURE", field="signature_name")
    return name


def asked(request: Any) -> tuple[str, str | None, str]:
    """Name, version and label of a request's model_spec."""
    if not request.HasField("model_spec"):
        raise InvalidRequest("Missing ModelSpec", code="MISSING_NAME", field="model_spec")
    spec = request.model_spec
    if not spec.name:
        raise InvalidRequest("Missing model name in request.", code="MISSING_NAME", field="model_spec.name")
    which = spec.WhichOneof("version_choice")
    if which == "version" and spec.version.value < 0:
        raise InvalidRequest("The version must not be negative.", code="BAD_VERSION", field="model_spec.version")
    return spec.name, str(spec.version.value) if which == "version" else None, spec.version_label


def spec_of(name: str, number: int, signature_name: str = "") -> Any:
    return MESSAGES["tensorflow.serving.ModelSpec"](name=name, version={"value": number}, signature_name=signature_name)


def _wrong_names(given: list[str], wanted: list[str]) -> InvalidRequest:
    def listed(names: list[str]) -> str:
        return "{" + ",".join(map(clip, sorted(names)[:8])) + "}"

    extra = [name for name in given if name not in wanted]
    missing = [name for name in wanted if name not in given]
    return InvalidRequest(
        f"input size does not match signature: {len(given)}!={len(wanted)} len({listed(given)}) != len({listed(wanted)})."
        f" Sent extra: {listed(extra)}. Missing but required: {listed(missing)}.",
        code="MISSING_INPUT" if missing else "UNKNOWN_INPUT",
        field="inputs",
    )


def _shape_of(tensor: Any, spec: TensorSpec, field: str) -> tuple[int, ...]:
    wanted = dtypes.BY_NAME[spec.dtype].tf
    if tensor.dtype != _TYPE_NUMBERS[wanted]:
        got = _TYPE_NAMES.get(tensor.dtype, str(tensor.dtype))
        raise InvalidRequest(f"Input '{spec.name}' takes dtype {wanted}, got {got}.", code="DATATYPE_MISMATCH", field=f"{field}.dtype")
    if tensor.tensor_shape.unknown_rank:
        raise InvalidRequest(f"Input '{spec.name}' has a shape of unknown rank.", code="SHAPE_MISMATCH", field=f"{field}.tensor_shape")
    return tuple(dim.size for dim in tensor.tensor_shape.dim)


def _array_of(tensor: Any, lifted: Lists, spec: TensorSpec, shape: tuple[int, ...], field: str, limits: Limits) -> np.ndarray:
    """The elements, from `tensor_content` or from the type's own list, whose last value stands for all that are left out."""
    content, place = lifted.get("tensor_content") or tensor.tensor_content, _VALUES[spec.dtype]
    dtype, count = dtypes.BY_NAME[spec.dtype], check.element_count(shape)
    if content and dtype.size:
        return binary.decode_tensor(memoryview(content), spec, shape, f"{field}.tensor_content", limits)
    values = lifted.get(place) or getattr(tensor, place)
    if len(values) > count:
        raise InvalidRequest(
            f"Input '{spec.name}' needs {count} elements for shape {check.show_shape(shape)}, got {len(values)}.",
            code="WRONG_SIZE",
            field=f"{field}.{place}",
        )
    check_repeated_size(spec, count, len(values), field, limits)
    if spec.dtype == "float16":
        bits = array_from(values, TensorSpec(spec.name, "uint16", None), f"{field}.{place}")
        return _repeated(bits, count).view(np.float16).reshape(shape)
    return _repeated(array_from(values, spec, f"{field}.{place}"), count).reshape(shape)


def check_repeated_size(spec: TensorSpec, count: int, given: int, field: str, limits: Limits) -> None:
    """A few bytes may stand for a tensor of any size; it must still be one that could have been sent in full."""
    size = dtypes.BY_NAME[spec.dtype].size
    if size == 0:
        check.check_string_count(count, limits, field)
    elif given < count and count * size > limits.max_request_bytes:
        raise InvalidRequest(
            f"Input '{spec.name}' comes to {count * size} bytes; the limit is {limits.max_request_bytes}.",
            code="BODY_TOO_LARGE",
            kind=Kind.TOO_LARGE,
            field=field,
        )


def _repeated(values: np.ndarray, count: int) -> np.ndarray:
    """`values` and then the last of them again until there are `count`; zeros when there is none, as TensorFlow fills."""
    if len(values) == count:
        return values
    if values.dtype == object:
        full = np.empty(count, object)
        full[:] = values[-1] if len(values) else b""
    else:
        full = np.full(count, values[-1] if len(values) else 0, values.dtype)
    full[: len(values)] = values
    return full


def _write_tensor(array: np.ndarray, tensor: Any) -> None:
    """Fill an empty TensorProto. Elements go into the type's own list, as TF Serving's do: many a client reads `.float_val` only."""
    getattr(tensor, _describe(array, tensor)).extend(listed(_numbers_of(array)))


def _long_tensor(array: np.ndarray) -> tuple[bytes, ...]:
    """The same of numbers, written, in parts."""
    tensor = _Tensor()
    place = _describe(array, tensor)
    return tensor.SerializeToString(), *nested(_NUMBERS[place], (packed(_numbers_of(array)),))


def _describe(array: np.ndarray, tensor: Any) -> str:
    """Write type and shape; returns the name of the list for the elements."""
    dtype = dtypes.of_array(array)
    assert dtype is not None
    tensor.dtype = _TYPE_NUMBERS[dtype.tf]
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    return _VALUES[dtype.name]


def _numbers_of(array: np.ndarray) -> np.ndarray:
    """Half floats are listed as the numbers that their bits are."""
    return array.reshape(-1).view(np.uint16) if array.dtype == np.float16 else array

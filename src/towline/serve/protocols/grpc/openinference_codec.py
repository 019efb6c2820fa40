"""Open Inference Protocol over gRPC: ModelInferRequest -> Asked, Response -> ModelInferResponse, raw or typed contents. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from towline.core import dtypes
from towline.core.errors import InvalidRequest
from towline.core.inference import Response
from towline.core.manifest import TensorSpec
from towline.core.refs import clip
from towline.serve.codecs import binary, check
from towline.serve.codecs.check import Limits
from towline.serve.protocols.grpc import lifting, wire
from towline.serve.protocols.grpc.descriptors_v2 import OPEN_INFERENCE
from towline.serve.protocols.grpc.elements import FEW, array_from, listed, packed
from towline.serve.protocols.grpc.lifting import NONE, Lifted, Lists
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.openinference_body import Output
from towline.serve.protocols.openinference_parameters import checked_parameters
from towline.serve.protocols.openinference_request import Asked, InferCodec
from towline.serve.protocols.openinference_response import array_of, datatype_of

_Request = MESSAGES["inference.ModelInferRequest"]
_Response = MESSAGES["inference.ModelInferResponse"]

_Output = MESSAGES["inference.ModelInferResponse.InferOutputTensor"]
_Contents = MESSAGES["inference.InferTensorContents"]
_OUTPUTS_FIELD = _CONTENTS_FIELD = 5
_RAW_FIELD = 6
_NUMBERS = {field.name: field.number for field in _Contents.DESCRIPTOR.fields}
# Inputs, what they contain, and raw contents.
_TENSORS = lifting.place(5, 5, OPEN_INFERENCE.messages["InferTensorContents"], raws=7)

# Where each type's elements are in InferTensorContents. float16 has no place there: it travels raw.
_CONTENTS = {
    "bool": "bool_contents",
    "float32": "fp32_contents",
    "float64": "fp64_contents",
    "string": "bytes_contents",
    **dict.fromkeys(("int8", "int16", "int32"), "int_contents"),
    **dict.fromkeys(("uint8", "uint16", "uint32"), "uint_contents"),
    "int64": "int64_contents",
    "uint64": "uint64_contents",
}


def read(raw: bytes) -> tuple[Any, Lifted]:
    """A ModelInferRequest but for its long lists, and these. Raises InvalidRequest."""
    return lifting.read_request(_Request, raw, _TENSORS)


def decode(
    message: Any, lifted: Lifted, codec: InferCodec, limits: Limits, deadline: float | None, received_s: float
) -> tuple[Asked, bool]:
    """What a ModelInferRequest asks for, and whether its tensors came raw. Raises InvalidRequest."""
    inputs, raws = message.inputs, message.raw_input_contents
    parameters = checked_parameters(_plain(message.parameters), "parameters")
    codec = codec.meant(inputs, parameters)
    rows = codec.check_inputs(inputs)
    for index, given in enumerate(inputs):
        if given.parameters:
            checked_parameters(_plain(given.parameters), f"inputs[{index}].parameters")
    found = _from_raw(inputs, raws, lifted, codec, limits) if len(raws) else _from_contents(inputs, lifted, codec, limits)
    arrays = {name: found[name] for name in codec.specs}
    outputs = [Output(output.name, _plain(output.parameters)) for output in message.outputs]
    return codec.asked(arrays, rows, parameters, message.id, outputs, deadline, received_s, as_binary=bool(len(raws))), bool(len(raws))


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """InferParameters as the values they hold."""
    plain = {}
    for name, value in parameters.items():
        which = value.WhichOneof("parameter_choice")
        plain[name] = getattr(value, which) if which else None
    return plain


def _from_raw(inputs: Sequence[Any], raws: Sequence[bytes], lifted: Lifted, codec: InferCodec, limits: Limits) -> dict[str, np.ndarray]:
    for index, given in enumerate(inputs):
        if given.HasField("contents"):
            raise InvalidRequest(
                f"Input '{clip(given.name)}' has 'contents' beside 'raw_input_contents': a message has either.",
                code="AMBIGUOUS_DATA",
                field=f"inputs[{index}].contents",
            )
    if len(raws) != len(inputs):
        index = min(len(raws), len(inputs))
        raise InvalidRequest(
            f"There are {len(inputs)} inputs but {len(raws)} raw_input_contents: raw_input_contents[{index}] is"
            f" {'missing' if len(raws) < len(inputs) else 'nobody’s'}.",
            code="MISSING_DATA" if len(raws) < len(inputs) else "TRAILING_BYTES",
            field=f"raw_input_contents[{index}]",
        )
    return {
        given.name: binary.decode_tensor(
            lifted.raws.get(index) or memoryview(raw),
            codec.specs[given.name],
            tuple(given.shape),
            f"raw_input_contents[{index}]",
            limits,
        )
        for index, (given, raw) in enumerate(zip(inputs, raws, strict=True))
    }


def _from_contents(inputs: Sequence[Any], lifted: Lifted, codec: InferCodec, limits: Limits) -> dict[str, np.ndarray]:
    return {
        given.name: _typed(given, lifted.lists.get(given.name, NONE), codec.specs[given.name], f"inputs[{index}].contents", limits)
        for index, given in enumerate(inputs)
    }


def _typed(given: Any, lifted: Lists, spec: TensorSpec, field: str, limits: Limits) -> np.ndarray:
    place = _CONTENTS.get(spec.dtype)
    if place is None:
        raise InvalidRequest(
            f"Input '{spec.name}' is {dtypes.BY_NAME[spec.dtype].v2}, which has no typed contents.",
            code="MISSING_DATA",
            field=field,
            hint="Send it in raw_input_contents.",
        )
    for used in (*lifted, *(descriptor.name for descriptor, _ in given.contents.ListFields())):
        if used != place:
            raise InvalidRequest(
                f"Input '{spec.name}' is {given.datatype}: its elements belong into {place}, not {used}.",
                code="WRONG_TYPE",
                field=f"{field}.{used}",
            )
    values, shape = lifted.get(place) or getattr(given.contents, place), tuple(given.shape)
    count = check.element_count(shape)
    if len(values) != count:
        raise InvalidRequest(
            f"Input '{spec.name}' needs {count} elements for shape {check.show_shape(shape)}, got {len(values)}.",
            code="WRONG_SIZE",
            field=f"{field}.{place}",
        )
    if spec.dtype == "string":
        check.check_string_count(count, limits, field)
    return array_from(values, spec, f"{field}.{place}").reshape(shape)


def encode(response: Response, asked: Asked, labels: Sequence[str], *, as_raw: bool) -> bytes:
    """The whole ModelInferResponse. Typed contents answer typed ones, unless an output's type has none."""
    arrays = [array_of(response, wanted, labels, has_batch=asked.has_batch) for wanted in asked.outputs]
    as_raw = as_raw or any(array.dtype == np.float16 for array in arrays)
    message = _Response(model_name=response.name, model_version=str(response.number), id=asked.request.id)
    if not as_raw and any(array.size > FEW for array in arrays):
        outputs = [_output(wanted.name, array) for wanted, array in zip(asked.outputs, arrays, strict=True)]
        # Joined once: what is long is copied once.
        return b"".join((message.SerializeToString(), *chain.from_iterable(outputs)))
    raws: list[bytes] = []
    for wanted, array in zip(asked.outputs, arrays, strict=True):
        output = message.outputs.add(name=wanted.name, datatype=datatype_of(array), shape=array.shape)
        if as_raw:
            raws += wire.nested(_RAW_FIELD, (binary.encode_tensor(array),))
        else:
            getattr(output.contents, _place_of(array)).extend(listed(array))
    return b"".join((message.SerializeToString(), *raws))


def _output(name: str, array: np.ndarray) -> Sequence[bytes]:
    """One output of an answer, in parts."""
    output = _Output(name=name, datatype=datatype_of(array), shape=array.shape).SerializeToString()
    place = _place_of(array)
    if place == "bytes_contents":
        contents: Sequence[bytes] = (_Contents(bytes_contents=listed(array)).SerializeToString(),)
    else:
        contents = wire.nested(_NUMBERS[place], (packed(array),))
    return wire.nested(_OUTPUTS_FIELD, (output, *wire.nested(_CONTENTS_FIELD, contents)))


def _place_of(array: np.ndarray) -> str:
    dtype = dtypes.of_array(array)
    return _CONTENTS[dtype.name if dtype else ""]

"""The two scalars, and tensors between GraphQL and the Open Inference Protocol's codec, which checks them. Pure."""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from graphql import GraphQLError, GraphQLSchema
from graphql.language import BooleanValueNode, FloatValueNode, IntValueNode, ListValueNode, StringValueNode, ValueNode, VariableNode

from towline.core import dtypes
from towline.core.frames import pack_strings
from towline.core.manifest import Signature
from towline.serve.codecs import json

_MAX_RANK = 32
_MIN_LONG, _MAX_LONG = -(1 << 63), (1 << 64) - 1


def teach(schema: GraphQLSchema) -> None:
    """Give the scalars of the schema their meaning."""
    data: Any = schema.get_type("TensorData")
    data.serialize = lambda value: value
    data.parse_value = _checked_data
    data.parse_literal = _literal
    long: Any = schema.get_type("Long")
    long.serialize = int


def _checked_data(value: Any, depth: int = 0) -> Any:
    if depth > _MAX_RANK:
        raise GraphQLError(f"TensorData is nested deeper than {_MAX_RANK} lists.")
    if isinstance(value, list):
        return [_checked_data(one, depth + 1) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise GraphQLError("TensorData, the `data` of an input, takes finite numbers: NaN, infinity and 1e400 are sent as b64.")
    if isinstance(value, int) and not isinstance(value, bool) and not _MIN_LONG <= value <= _MAX_LONG:
        raise GraphQLError("TensorData, the `data` of an input, takes whole numbers of up to 64 bits.")
    if not isinstance(value, bool | int | float | str):
        raise GraphQLError(f"TensorData, the `data` of an input, is a list of numbers, booleans or strings, and holds {_word(value)}.")
    return value


def _word(value: Any) -> str:
    return "null" if value is None else "an object" if isinstance(value, dict) else type(value).__name__


def _literal(node: ValueNode, variables: Mapping[str, Any] | None = None, depth: int = 0) -> Any:
    if depth > _MAX_RANK:
        raise GraphQLError(f"TensorData is nested deeper than {_MAX_RANK} lists.", node)
    if isinstance(node, ListValueNode):
        return [_literal(one, variables, depth + 1) for one in node.values]
    if isinstance(node, VariableNode):
        return _checked_data((variables or {}).get(node.name.value))
    if isinstance(node, StringValueNode | BooleanValueNode):
        return node.value
    if isinstance(node, IntValueNode):
        # int() of thousands of digits takes long, and is refused anyway.
        return _checked_data(int(node.value) if len(node.value) <= 24 else float("inf"))
    if isinstance(node, FloatValueNode):
        return _checked_data(float(node.value))
    raise GraphQLError("TensorData, the `data` of an input, takes numbers, booleans, strings and lists of them.", node)


def infer_body(inputs: Sequence[Mapping[str, Any]], outputs: Sequence[str] | None, signature: Signature) -> tuple[bytes, bytes]:
    """The same request as the Open Inference Protocol writes it: its JSON and the binary tensors after it. Raises GraphQLError."""
    datatypes = {spec.name: dtypes.BY_NAME[spec.dtype].v2 for spec in signature.inputs}
    tensors: list[dict[str, Any]] = []
    binary = []
    for given in inputs:
        name = given["name"]
        tensor = {"name": name, "datatype": given.get("datatype") or datatypes.get(name, ""), "shape": given.get("shape")}
        data, b64 = given.get("data"), given.get("b64")
        if (data is None) == (b64 is None):
            raise GraphQLError(f"Input {name[:64]!r} needs either data or b64.", extensions={"code": "BAD_INPUT"})
        if b64 is None:
            tensor["data"] = data if isinstance(data, list) else [data]
            tensor["shape"] = _shape_of(data) if tensor["shape"] is None else tensor["shape"]
        else:
            if tensor["shape"] is None:
                raise GraphQLError(f"Input {name[:64]!r} comes as b64 and needs a shape.", extensions={"code": "BAD_INPUT"})
            binary.append(_decoded(name, b64))
            tensor["parameters"] = {"binary_data_size": len(binary[-1])}
        tensors.append(tensor)
    document: dict[str, Any] = {"inputs": tensors}
    if outputs is not None:
        document["outputs"] = [{"name": name} for name in outputs]
    return json.dumps(document), b"".join(binary)


def _shape_of(data: Any) -> list[int]:
    """By the first element of each level; whether the others agree is the codec's to find out."""
    shape = []
    while isinstance(data, list):
        shape.append(len(data))
        data = data[0] if data else None
    return shape


def _decoded(name: str, b64: str) -> bytes:
    try:
        return base64.b64decode(b64, validate=True)
    except (binascii.Error, ValueError):
        raise GraphQLError(f"The b64 of input {name[:64]!r} is no base64.", extensions={"code": "BAD_BASE64"}) from None


def tensor(name: str, array: np.ndarray) -> dict[str, Any]:
    """One output, copied: the array is only lent."""
    dtype = dtypes.of_array(array)
    flat = np.array(array).reshape(-1)
    raw = pack_strings(flat) if array.dtype == object else flat.tobytes()
    return {
        "name": name,
        "datatype": dtype.v2 if dtype else str(array.dtype),
        "shape": list(array.shape),
        "data": lambda _: json.jsonable(flat, json.plain_text),
        "b64": lambda _: base64.b64encode(raw).decode(),
    }

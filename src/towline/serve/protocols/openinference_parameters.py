"""Open Inference Protocol: the parameters of a request, its inputs and its outputs, each within its bounds. Pure."""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from towline.core.errors import InvalidRequest
from towline.core.refs import clip
from towline.serve.protocols.openinference_body import Input, Parameters

MAX_ID = 256
MAX_CLASSES = 65_536
MAX_PRIORITY = (1 << 32) - 1
MAX_TIMEOUT_US = 86_400_000_000
_SHARED_MEMORY = ("shared_memory_region", "shared_memory_offset", "shared_memory_byte_size")


def checked_parameters(parameters: Parameters, field: str) -> dict[str, Any]:
    """The parameters of a request, an input or an output, unless they name memory of this machine."""
    if not parameters:
        return {}
    for name in _SHARED_MEMORY:
        if name in parameters:
            raise InvalidRequest(
                "Shared memory regions are not supported: clients may not name memory of this machine.",
                code="UNSUPPORTED",
                field=f"{field}.{name}",
                hint="Send the tensor in the body.",
            )
    return parameters


def binary_size(given: Input, field: str) -> int | None:
    """The tensor's bytes after the JSON, None when its data is in the JSON."""
    parameters = checked_parameters(given.parameters, f"{field}.parameters")
    size = parameters.get("binary_data_size")
    if (size is None) == (given.data is UNSET):
        problem = "needs 'data', or 'binary_data_size' in its parameters" if size is None else "has both 'data' and 'binary_data_size'"
        raise InvalidRequest(
            f"Input '{clip(given.name)}' {problem}.", code="MISSING_DATA" if size is None else "AMBIGUOUS_DATA", field=field
        )
    if size is not None and (type(size) is not int or size < 0):
        raise InvalidRequest(
            "binary_data_size must be a whole number of bytes.", code="WRONG_TYPE", field=f"{field}.parameters.binary_data_size"
        )
    return size


def number(parameters: dict[str, Any], name: str, highest: int) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or not 0 <= value <= highest:
        raise InvalidRequest(f"'{name}' must be a whole number from 0 to {highest}.", code="WRONG_TYPE", field=f"parameters.{name}")
    return value


def flag(parameters: dict[str, Any], name: str, field: str, default: bool = False) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise InvalidRequest(f"'{name}' must be true or false.", code="WRONG_TYPE", field=f"{field}.{name}")
    return value


def classes(parameters: dict[str, Any], field: str) -> int:
    if "classification" not in parameters:
        return 0
    count = parameters["classification"]
    if type(count) is not int or not 1 <= count <= MAX_CLASSES:
        raise InvalidRequest(f"'classification' must be from 1 to {MAX_CLASSES}.", code="OUT_OF_RANGE", field=f"{field}.classification")
    return count


def checked_id(value: str) -> str:
    if len(value) > MAX_ID or any(char < " " or char == "\x7f" for char in value):
        raise InvalidRequest(f"'id' must be at most {MAX_ID} characters and hold no control characters.", code="BAD_ID", field="id")
    return value

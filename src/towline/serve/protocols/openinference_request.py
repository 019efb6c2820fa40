"""Open Inference Protocol: an infer request's bytes -> Request, JSON tensors and binary ones mixed as the client likes. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from towline.core import dtypes
from towline.core.errors import InvalidRequest
from towline.core.inference import Request
from towline.core.manifest import TensorSpec
from towline.core.refs import clip
from towline.serve.codecs import binary, check, exact, json, nested, numbers
from towline.serve.codecs.check import InputCheck, Limits
from towline.serve.contract import Served
from towline.serve.protocols.openinference_body import Input, Output, header_size, parse
from towline.serve.protocols.openinference_parameters import (
    MAX_PRIORITY,
    MAX_TIMEOUT_US,
    binary_size,
    checked_id,
    checked_parameters,
    classes,
    flag,
    number,
)

_NESTED = re.compile(rb"[ \t\r\n]*\[[ \t\r\n]*\[")


class Tensor(Protocol):
    """What an input says of itself, in JSON and in gRPC alike."""

    name: str
    datatype: str

    @property
    def shape(self) -> Sequence[int]: ...


@dataclass(frozen=True)
class Wanted:
    """One output of the answer. `classes` > 0 asks for its best classes as text instead of its values."""

    name: str
    binary: bool = False
    classes: int = 0


@dataclass(frozen=True)
class Asked:
    """A decoded infer request and how to answer it."""

    request: Request
    outputs: tuple[Wanted, ...]
    has_batch: bool


class InferCodec:
    """Decodes infer requests for one signature of a version; built once per slot."""

    def __init__(self, served: Served, limits: Limits, name: str = "") -> None:
        self._signature = served.signature(name)
        self._name = "" if self._signature is served.signature() else name
        self._served = served
        self._limits = limits
        # The protocol knows no signatures: the names of its inputs tell which one a request means.
        self._by_inputs = {frozenset(spec.name for spec in one.inputs): name for name, one in served.manifest.signatures.items()}
        self._has_choice = len(served.manifest.signatures) > 1
        self._check = InputCheck(self._signature, limits)
        self._specs = {spec.name: spec for spec in self._signature.inputs}
        self._flat = {name: json.decoder(_flat_type(spec)) for name, spec in self._specs.items()}
        self._nested = {name: json.decoder(json.nested_type(spec)) for name, spec in self._specs.items()}
        self._outputs = {spec.name for spec in self._signature.outputs}
        self._all = {as_binary: tuple(Wanted(spec.name, as_binary) for spec in self._signature.outputs) for as_binary in (False, True)}

    def decode(self, body: bytes, header_length: bytes | None, deadline: float | None, received_s: float) -> Asked:
        """`header_length` is the value of Inference-Header-Content-Length, None without one. Raises InvalidRequest."""
        size = len(body) if header_length is None else header_size(header_length, len(body))
        if size == 0 and header_length is not None:
            return Asked(self._decode_raw(body, deadline), self._all[True], self._check.has_batch)
        head = body if header_length is None else bytes(body[:size])
        parsed = parse(head)
        parameters = checked_parameters(parsed.parameters, "parameters")
        codec = self.meant(parsed.inputs, parameters)
        arrays, rows = codec._arrays(parsed.inputs, memoryview(body)[size:])
        as_binary = flag(parameters, "binary_data_output", "parameters")
        return codec.asked(arrays, rows, parameters, parsed.id or "", parsed.outputs or [], deadline, received_s, as_binary=as_binary)

    def asked(
        self,
        arrays: dict[str, np.ndarray],
        rows: int,
        parameters: dict[str, Any],
        id: str,
        outputs: list[Output],
        deadline: float | None,
        received_s: float,
        *,
        as_binary: bool,
    ) -> Asked:
        """What every transport's request comes to: id, `timeout`, `priority` and outputs are checked and read here."""
        timeout_us = number(parameters, "timeout", MAX_TIMEOUT_US)
        if timeout_us:
            until = received_s + timeout_us / 1e6
            deadline = until if deadline is None else min(deadline, until)
        wanted = self._wanted(outputs, as_binary)
        names = tuple(output.name for output in wanted) if outputs else ()
        priority = number(parameters, "priority", MAX_PRIORITY)
        request = Request(arrays, rows, deadline, checked_id(id), priority, names, self._name)
        return Asked(request, wanted, self._check.has_batch)

    def meant(self, inputs: Sequence[Tensor], parameters: dict[str, Any]) -> InferCodec:
        """The codec of the signature that a request names, or whose inputs it names exactly; else this one."""
        if not self._has_choice:
            return self
        name = parameters.get("signature_name", "")
        if not isinstance(name, str):
            raise InvalidRequest("'signature_name' must be text.", code="WRONG_TYPE", field="parameters.signature_name")
        names = {given.name for given in inputs}
        if not name and names != set(self._specs):
            name = self._by_inputs.get(frozenset(names), "")
        return codec_for(self._served, self._limits, name) if name else self

    def check_inputs(self, inputs: Sequence[Tensor]) -> int:
        """Names, datatypes and shapes, before any data is read; returns the rows."""
        check.check_names([given.name for given in inputs], self._signature, "inputs")
        given = {item.name: (f"inputs[{index}]", item) for index, item in enumerate(inputs)}
        ordered = [(spec, *given[spec.name]) for spec in self._signature.inputs]
        for spec, field, item in ordered:
            check.check_datatype(spec, item.datatype, f"{field}.datatype")
        return self._check.rows([tuple(item.shape) for _, _, item in ordered], [f"{field}.shape" for _, field, _ in ordered])

    @property
    def specs(self) -> dict[str, TensorSpec]:
        """The inputs by name, in the signature's order."""
        return self._specs

    def _arrays(self, inputs: list[Input], tail: memoryview) -> tuple[dict[str, np.ndarray], int]:
        """The inputs in the signature's order, and the rows."""
        rows = self.check_inputs(inputs)
        found: dict[str, np.ndarray] = {}
        offset = 0
        for index, item in enumerate(inputs):
            field, spec = f"inputs[{index}]", self._specs[item.name]
            size = binary_size(item, field)
            if size is None:
                found[item.name] = self._from_json(bytes(item.data), spec, tuple(item.shape), f"{field}.data")  # type: ignore[arg-type]
                continue
            if offset + size > len(tail):
                raise InvalidRequest(
                    f"Input '{clip(item.name)}' says it has {size} bytes, but only {len(tail) - offset} are left in the body.",
                    code="SHORT_BODY",
                    field=f"{field}.parameters.binary_data_size",
                )
            found[item.name] = binary.decode_tensor(tail[offset : offset + size], spec, tuple(item.shape), field, self._limits)
            offset += size
        if offset != len(tail):
            raise InvalidRequest(f"{len(tail) - offset} bytes are left after the last tensor.", code="TRAILING_BYTES", field="inputs")
        return {name: found[name] for name in self._specs}, rows

    def _from_json(self, raw: bytes, spec: TensorSpec, shape: tuple[int, ...], field: str) -> np.ndarray:
        """Row-major data, nested or flat; how it is nested does not matter, how many elements there are does."""
        count = check.element_count(shape)
        if spec.dtype == "string":
            check.check_string_count(count, self._limits, field)
        if len(raw) >= numbers.MIN_BYTES and numbers.FloatReader.takes(spec) and not _NESTED.match(raw):
            array = numbers.FloatReader(spec, ()).read(raw)
            if array is not None and array.size == count:
                return array.reshape(shape)
        decode = self._nested[spec.name] if _NESTED.match(raw) else self._flat[spec.name]
        try:
            if decode is None:
                raise TypeError
            array = json.array_of(decode(raw), spec)
        except json.NOT_PLAIN:
            array = nested.to_array(exact.parse(raw), spec, field, self._limits)
        if array.size != count:
            raise InvalidRequest(
                f"Input '{spec.name}' needs {count} elements for shape {check.show_shape(shape)}, got {array.size}.",
                code="WRONG_SIZE",
                field=field,
            )
        return array.reshape(shape)

    def _decode_raw(self, body: bytes, deadline: float | None) -> Request:
        """The whole body is the one input: batch 1, at most one other dim that varies."""
        if len(self._specs) != 1:
            raise InvalidRequest(f"A raw body needs a model with one input; this one has {len(self._specs)}.", code="MISSING_INPUT")
        (spec,) = self._specs.values()
        raw = memoryview(body)
        if spec.shape is None:
            raise InvalidRequest(f"A raw body needs a known rank; input '{spec.name}' has none.", code="SHAPE_MISMATCH")
        shape = list(spec.shape)
        if self._check.has_batch:
            shape[0] = 1
        variable = [index for index, dim in enumerate(shape) if isinstance(dim, str)]
        known = check.element_count(dim for dim in shape if isinstance(dim, int))
        item_bytes = dtypes.BY_NAME[spec.dtype].size
        if item_bytes == 0:
            # The body is one string, without a length before it.
            if known != 1:
                raise InvalidRequest(f"A raw body is one string; input '{spec.name}' takes more.", code="SHAPE_MISMATCH")
            array = np.empty((1,) * len(shape), dtype=object)
            array[...] = bytes(body)
            return Request({spec.name: array}, 1, deadline)
        if len(variable) > 1 or (variable and (not known or len(raw) % (known * item_bytes))):
            raise InvalidRequest(
                f"A body of {len(raw)} bytes does not tell the shape of input '{spec.name}' {check.show_shape(spec.shape)}.",
                code="WRONG_SIZE",
                field="inference-header-content-length",
            )
        sizes = tuple(dim if isinstance(dim, int) else len(raw) // (known * item_bytes) for dim in shape)
        rows = self._check.rows((sizes,), ("body",))
        return Request({spec.name: binary.decode_tensor(raw, spec, sizes, "body", self._limits)}, rows, deadline)

    def _wanted(self, outputs: list[Output], all_binary: bool) -> tuple[Wanted, ...]:
        if not outputs:
            return self._all[all_binary]
        seen: set[str] = set()
        wanted = []
        for index, output in enumerate(outputs):
            field = f"outputs[{index}]"
            if output.name not in self._outputs or output.name in seen:
                problem = "is asked for twice" if output.name in seen else "is not an output of this model"
                raise InvalidRequest(
                    f"'{clip(output.name)}' {problem}. Outputs: {check.list_names(sorted(self._outputs))}.",
                    code="UNKNOWN_OUTPUT" if output.name not in seen else "DUPLICATE_OUTPUT",
                    field=f"{field}.name",
                )
            seen.add(output.name)
            parameters = checked_parameters(output.parameters, f"{field}.parameters")
            as_binary = flag(parameters, "binary_data", f"{field}.parameters", all_binary)
            wanted.append(Wanted(output.name, as_binary, classes(parameters, f"{field}.parameters")))
        return tuple(wanted)


def codec_for(served: Served, limits: Limits, name: str = "") -> InferCodec:
    """The codec of the named signature; without a name that of the default one, which finds the others."""
    key = ("openinference", name) if name else "openinference"
    codec: InferCodec | None = served.codecs.get(key)
    if codec is None:
        codec = InferCodec(served, limits, name)
        served.codecs[key] = codec
    return codec


def _flat_type(spec: TensorSpec) -> Any:
    return None if spec.dtype == "string" else list[json.element_type(spec.dtype)]  # type: ignore[misc]

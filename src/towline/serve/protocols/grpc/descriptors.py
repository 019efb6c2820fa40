"""Tables of messages -> descriptors in a pool of our own, so that no protobuf of a client or a framework can clash with them.

A table names its messages as a .proto does, one field per line: `"repeated int64 shape = 3"`, `"map<string, TensorProto> inputs = 2"`;
`"oneof choice: bool bool_param = 1"` puts a field into a oneof. Nested messages are named `Outer.Inner`. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2  # type: ignore[import-untyped]
from google.protobuf.internal import api_implementation  # type: ignore[import-untyped]

_Field = descriptor_pb2.FieldDescriptorProto
_LINE = re.compile(
    r"(?:oneof (?P<oneof>\w+): )?(?P<repeated>repeated )?(?P<type>map<string, [\w.]+>|[\w.]+) (?P<name>\w+) = (?P<number>\d+)"
)
_SCALARS = {
    word: getattr(_Field, f"TYPE_{word.upper()}")
    for word in ("double", "float", "int64", "uint64", "int32", "bool", "string", "bytes", "uint32")
}


@dataclass(frozen=True)
class Table:
    """One file. `services` map a service to {method: (request, response)}; a response of `stream X` is streamed, and so is a request."""

    package: str
    file: str
    messages: Mapping[str, Sequence[str]]
    enums: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    services: Mapping[str, Mapping[str, tuple[str, str]]] = field(default_factory=dict)
    imports: tuple[str, ...] = ()


class Messages:
    """The messages of some tables, by their full names, from one private pool.

    Raises RuntimeError where protobuf is not upb: its pure Python parser is a hundred times slower, and never meant for a server.
    """

    def __init__(self, *tables: Table) -> None:
        if api_implementation.Type() != "upb":
            raise RuntimeError(
                f"protobuf runs on '{api_implementation.Type()}', expected 'upb'."
                " Unset PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION, or install protobuf again."
            )
        self.pool = descriptor_pool.DescriptorPool()
        for known in (any_pb2, wrappers_pb2):
            self.pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
        for table in tables:
            self.pool.AddSerializedFile(file_of(table).SerializeToString())
        self.services = tuple(f"{table.package}.{name}" for table in tables for name in table.services)

    def __getitem__(self, name: str) -> Any:
        """The class of the message with this full name."""
        return message_factory.GetMessageClass(self.pool.FindMessageTypeByName(name))


def file_of(table: Table) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=table.file, package=table.package, syntax="proto3", dependency=table.imports)
    made: dict[str, descriptor_pb2.DescriptorProto] = {}
    for name, lines in table.messages.items():
        outer, _, own = name.rpartition(".")
        message = made[outer].nested_type.add(name=own) if outer else file.message_type.add(name=own)
        made[name] = message
        for line in lines:
            _add_field(message, line, table, name)
    for name, values in table.enums.items():
        outer, _, own = name.rpartition(".")
        enum = made[outer].enum_type.add(name=own) if outer else file.enum_type.add(name=own)
        for label, number in values.items():
            enum.value.add(name=label, number=number)
    for name, methods in table.services.items():
        service = file.service.add(name=name)
        for method, (request, response) in methods.items():
            service.method.add(
                name=method,
                input_type=_full(request.removeprefix("stream "), table),
                output_type=_full(response.removeprefix("stream "), table),
                client_streaming=request.startswith("stream "),
                server_streaming=response.startswith("stream "),
            )
    return file


def _add_field(message: descriptor_pb2.DescriptorProto, line: str, table: Table, owner: str) -> None:
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(f"{owner}: '{line}' is no field; expected: [oneof NAME: ][repeated ]TYPE NAME = NUMBER")
    kind, name = match["type"], match["name"]
    new = message.field.add(name=name, number=int(match["number"]), label=_Field.LABEL_OPTIONAL)
    if kind.startswith("map<"):
        entry = message.nested_type.add(name="".join(word.capitalize() for word in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _add_field(entry, "string key = 1", table, owner)
        _add_field(entry, f"{kind.removeprefix('map<string, ').removesuffix('>')} value = 2", table, owner)
        new.label, new.type = _Field.LABEL_REPEATED, _Field.TYPE_MESSAGE
        new.type_name = f"{_full(owner, table)}.{entry.name}"
        return
    if match["repeated"]:
        new.label = _Field.LABEL_REPEATED
    if match["oneof"]:
        names = [oneof.name for oneof in message.oneof_decl]
        if match["oneof"] not in names:
            message.oneof_decl.add(name=match["oneof"])
            names.append(match["oneof"])
        new.oneof_index = names.index(match["oneof"])
    if kind in _SCALARS:
        new.type = _SCALARS[kind]
    else:
        # The pool finds out by itself whether a name is a message or an enum.
        new.type_name = _full(kind, table)


def _full(name: str, table: Table) -> str:
    """`.package.Name` for a name of this table; a name of another package is written with it."""
    return f".{table.package}.{name}" if name in table.messages or name in table.enums else f".{name}"

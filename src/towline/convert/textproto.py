"""Parse other servers' text protos with protobuf's own parser, against messages that a table names, in a pool of our own.

A table names messages as a .proto does, one field per line: `"repeated int64 dims"`, `"map<string, int64> version_labels"`;
`"oneof policy_choice: Latest latest"` puts a field into a oneof. Nested messages are named `Outer.Inner`. Numbers of fields, of which
text knows nothing, are their places.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from google.protobuf import (  # type: ignore[import-untyped]
    any_pb2,
    descriptor_pb2,
    descriptor_pool,
    json_format,
    message_factory,
    text_format,
    wrappers_pb2,
)

_KINDS = descriptor_pb2.FieldDescriptorProto
_LINE = re.compile(
    r"(?:oneof (?P<oneof>\w+): )?(?P<repeated>repeated )?(?:map<(?P<key>\w+), (?P<value>[\w.]+)>|(?P<type>[\w.]+)) (?P<name>\w+)"
)


@dataclass(frozen=True)
class Table:
    package: str
    messages: Mapping[str, Sequence[str]]
    enums: Mapping[str, Sequence[str]] = field(default_factory=dict)


def classes_of(table: Table, *roots: str) -> dict[str, Any]:
    """The message classes named `roots`."""
    pool = descriptor_pool.DescriptorPool()
    for known in (any_pb2, wrappers_pb2):
        pool.AddSerializedFile(known.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(_file(table).SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{table.package}.{name}")) for name in roots}


def parse_text(kind: Any, text: str) -> Any:
    """A message of the class `kind`. Raises ValueError, which names line and column, for what is no such message."""
    message = kind()
    try:
        with warnings.catch_warnings():
            # An escape that there is not: the servers whose files these are refuse it, protobuf's Python parser only wonders.
            warnings.simplefilter("error", DeprecationWarning)
            text_format.Parse(text, message)
    except (text_format.ParseError, RecursionError, UnicodeError, DeprecationWarning) as error:
        raise ValueError(str(error) or type(error).__name__) from None
    return message


def as_mapping(message: Any) -> dict[str, Any]:
    """The fields that are set, by the names they have in the text; 64-bit integers are text, as protobuf's JSON has them."""
    found: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return found


def _file(table: Table) -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name=f"towline/{table.package}.proto",
        package=table.package,
        syntax="proto3",
        dependency=["google/protobuf/any.proto", "google/protobuf/wrappers.proto"],
    )
    made: dict[str, Any] = {}
    for name, lines in table.messages.items():
        outer, _, own = name.rpartition(".")
        made[name] = made[outer].nested_type.add(name=own) if outer else file.message_type.add(name=own)
        for number, line in enumerate(lines, 1):
            _add_field(made[name], f".{table.package}.{name}", line, number, table.package)
    for name, labels in table.enums.items():
        outer, _, own = name.rpartition(".")
        enum = made[outer].enum_type.add(name=own) if outer else file.enum_type.add(name=own)
        for number, label in enumerate(labels):
            enum.value.add(name=label, number=number)
    return file


def _add_field(message: Any, owner: str, line: str, number: int, package: str) -> None:
    found = _LINE.fullmatch(line)
    assert found is not None, line
    name = found["name"]
    is_many = found["repeated"] or found["key"]
    new = message.field.add(name=name, number=number, label=_KINDS.LABEL_REPEATED if is_many else _KINDS.LABEL_OPTIONAL)
    if found["oneof"]:
        new.oneof_index = _oneof(message, found["oneof"])
    if found["key"]:
        entry = message.nested_type.add(name="".join(word.capitalize() for word in name.split("_")) + "Entry")
        entry.options.map_entry = True
        _add_field(entry, "", f"{found['key']} key", 1, package)
        _add_field(entry, "", f"{found['value']} value", 2, package)
        new.type, new.type_name = _KINDS.TYPE_MESSAGE, f"{owner}.{entry.name}"
        return
    scalar = getattr(_KINDS, f"TYPE_{found['type'].upper()}", None)
    if scalar is not None:
        new.type = scalar
    else:
        # The pool finds out by itself whether a name is a message or an enum.
        new.type_name = f".{found['type']}" if found["type"].startswith("google.") else f".{package}.{found['type']}"


def _oneof(message: Any, name: str) -> int:
    names = [one.name for one in message.oneof_decl]
    if name not in names:
        message.oneof_decl.add(name=name)
        names.append(name)
    return names.index(name)

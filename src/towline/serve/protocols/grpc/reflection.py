"""`grpc.reflection.v1` and `v1alpha`: tells tools such as grpcurl which services there are and what their messages look like."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from google.protobuf import descriptor_pb2  # type: ignore[import-untyped]

from towline.serve.protocols.errors import printable
from towline.serve.protocols.grpc.calls import read, refused
from towline.serve.protocols.grpc.contract import Call, Code, Refused, Stream
from towline.serve.protocols.grpc.descriptors_grpc import REFLECTION
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.serve.protocols.grpc.status import TF_SERVING as STATUSES


def streams() -> dict[str, Stream]:
    """Both names of the one method, by path."""
    packages = [f"grpc.reflection.{version}" for version in REFLECTION]
    return {f"/{package}.ServerReflection/ServerReflectionInfo": _stream(package) for package in packages}


def _stream(package: str) -> Stream:
    kind = MESSAGES[f"{package}.ServerReflectionRequest"]
    answer = MESSAGES[f"{package}.ServerReflectionResponse"]

    async def info(requests: AsyncIterator[bytes], call: Call) -> AsyncGenerator[bytes, None]:
        async for raw in requests:
            try:
                request = read(kind, raw)
                response = answer(valid_host=request.host, original_request=request)
                _fill(response, request)
            except Exception as error:
                raise Refused(refused(error, STATUSES)) from None
            yield response.SerializeToString()

    return Stream(info, many_requests=True)


def _fill(response: Any, request: Any) -> None:
    asked = request.WhichOneof("message_request")
    try:
        match asked:
            case "list_services":
                for name in MESSAGES.services:
                    response.list_services_response.service.add(name=name)
            case "file_by_filename":
                _add_files(response, MESSAGES.pool.FindFileByName, request.file_by_filename)
            case "file_containing_symbol":
                _add_files(response, MESSAGES.pool.FindFileContainingSymbol, request.file_containing_symbol)
            case "all_extension_numbers_of_type":
                MESSAGES.pool.FindMessageTypeByName(request.all_extension_numbers_of_type)
                response.all_extension_numbers_response.base_type_name = request.all_extension_numbers_of_type
            case _:
                # proto3 has no extensions to be asked for.
                _fail(response, Code.NOT_FOUND if asked else Code.INVALID_ARGUMENT, asked or "nothing")
    except KeyError:
        _fail(response, Code.NOT_FOUND, str(getattr(request, asked)))


def _add_files(response: Any, find: Callable[[str], Any], name: str) -> None:
    """The file and all it imports, those first that are imported."""
    found: dict[str, bytes] = {}

    def add(file: Any) -> None:
        for dependency in file.dependencies:
            add(dependency)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        found[file.name] = proto.SerializeToString()

    add(find(name))
    response.file_descriptor_response.file_descriptor_proto.extend(found.values())


def _fail(response: Any, code: Code, what: str) -> None:
    response.error_response.error_code = code
    response.error_response.error_message = f"There is no '{printable(what)}' here."

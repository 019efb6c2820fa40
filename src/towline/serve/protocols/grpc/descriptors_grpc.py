"""The messages of gRPC's own services: health checking and server reflection, in both its names. Pure."""

from __future__ import annotations

from towline.serve.protocols.grpc.descriptors import Table

HEALTH = Table(
    package="grpc.health.v1",
    file="towline/grpc_health.proto",
    messages={
        "HealthCheckRequest": ("string service = 1",),
        "HealthCheckResponse": ("HealthCheckResponse.ServingStatus status = 1",),
    },
    enums={"HealthCheckResponse.ServingStatus": {"UNKNOWN": 0, "SERVING": 1, "NOT_SERVING": 2, "SERVICE_UNKNOWN": 3}},
    services={
        "Health": {
            "Check": ("HealthCheckRequest", "HealthCheckResponse"),
            "Watch": ("HealthCheckRequest", "stream HealthCheckResponse"),
        }
    },
)


def _reflection(version: str) -> Table:
    return Table(
        package=f"grpc.reflection.{version}",
        file=f"towline/grpc_reflection_{version}.proto",
        messages={
            "ExtensionRequest": ("string containing_type = 1", "int32 extension_number = 2"),
            "ServerReflectionRequest": (
                "string host = 1",
                "oneof message_request: string file_by_filename = 3",
                "oneof message_request: string file_containing_symbol = 4",
                "oneof message_request: ExtensionRequest file_containing_extension = 5",
                "oneof message_request: string all_extension_numbers_of_type = 6",
                "oneof message_request: string list_services = 7",
            ),
            "FileDescriptorResponse": ("repeated bytes file_descriptor_proto = 1",),
            "ExtensionNumberResponse": ("string base_type_name = 1", "repeated int32 extension_number = 2"),
            "ServiceResponse": ("string name = 1",),
            "ListServiceResponse": ("repeated ServiceResponse service = 1",),
            "ErrorResponse": ("int32 error_code = 1", "string error_message = 2"),
            "ServerReflectionResponse": (
                "string valid_host = 1",
                "ServerReflectionRequest original_request = 2",
                "oneof message_response: FileDescriptorResponse file_descriptor_response = 4",
                "oneof message_response: ExtensionNumberResponse all_extension_numbers_response = 5",
                "oneof message_response: ListServiceResponse list_services_response = 6",
                "oneof message_response: ErrorResponse error_response = 7",
            ),
        },
        services={"ServerReflection": {"ServerReflectionInfo": ("stream ServerReflectionRequest", "stream ServerReflectionResponse")}},
    )


REFLECTION = {version: _reflection(version) for version in ("v1alpha", "v1")}

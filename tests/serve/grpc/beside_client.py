"""Run by test_grpc_descriptors.py: imports a client beside our messages and compares them; prints how many fields were compared."""

import importlib
import sys
import warnings

# ovmsclient's generated code is older than the protobuf it runs on, and says so.
warnings.simplefilter("ignore")

MODULES = {
    "tritonclient": ["tritonclient.grpc.service_pb2"],
    "open_inference": ["open_inference.grpc.protocol"],
    "ovmsclient": [
        "ovmsclient.tfs_compat.protos.tensorflow_serving.apis.predict_pb2",
        "ovmsclient.tfs_compat.protos.tensorflow_serving.apis.get_model_metadata_pb2",
        "ovmsclient.tfs_compat.protos.tensorflow_serving.apis.get_model_status_pb2",
    ],
}
# What a client's file has and ours leaves out, or the other way round.
ABSENT_THERE = {"properties", "double_param", "uint64_param", "client_id", "request_options"}
# An enum there.
SAME_ON_THE_WIRE = {"tensorflow.serving.StatusProto.error_code"}

client = sys.argv[1]
theirs = [importlib.import_module(name).DESCRIPTOR for name in MODULES[client]]

from towline.serve.protocols.grpc.messages import MESSAGES  # noqa: E402


def messages(descriptor):
    yield descriptor
    for nested in descriptor.nested_types:
        yield from messages(nested)


def files(file):
    yield file
    for dependency in file.dependencies:
        yield from files(dependency)


def label(field):
    # `optional` of proto3 is a oneof of one, whose name begins with _; on the wire it is no different.
    oneof = field.containing_oneof.name if field.containing_oneof else ""
    return field.is_repeated, field.type, "" if oneof.startswith("_") else oneof


compared = 0
seen = set()
for file in (one for root in theirs for one in files(root)):
    for top in file.message_types_by_name.values():
        for message in messages(top):
            if message.full_name in seen or message.full_name.startswith("google."):
                continue
            seen.add(message.full_name)
            try:
                # ovmsclient keeps TensorFlow's messages under its own name.
                ours = MESSAGES.pool.FindMessageTypeByName(message.full_name.replace("ovmsclient.", "tensorflow.", 1))
            except KeyError:
                continue
            for field in ours.fields:
                other = message.fields_by_name.get(field.name)
                if other is None:
                    assert field.name in ABSENT_THERE, f"{message.full_name}.{field.name} is unknown to {client}"
                    continue
                assert (field.number, label(field)) == (other.number, label(other)) or field.full_name in SAME_ON_THE_WIRE, (
                    f"{message.full_name}.{field.name}"
                )
                compared += 1
print(compared)

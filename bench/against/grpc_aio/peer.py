"""The floor of the gRPC table: grpc.aio with a plain handler."""

from __future__ import annotations

from against.peer import MODEL_INFER, Peer, Setting, Start, environment


def start(setting: Setting) -> Start:
    return Start([str(setting.python), str(PEER.home / "app.py")], environment(setting, "grpc_aio"))


PEER = Peer(
    name="grpc.aio, plain handler",
    folder="grpc_aio",
    packages=("grpcio", "protobuf", "open-inference-grpc"),
    start=start,
    requests={},
    grpc_path=MODEL_INFER,
    note="the floor of gRPC: no checks, no isolation, no batching",
)

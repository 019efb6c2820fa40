"""Every message this server speaks over gRPC, by its full name: `MESSAGES["inference.ModelInferRequest"]`."""

from __future__ import annotations

from towline.serve.protocols.grpc.descriptors import Messages
from towline.serve.protocols.grpc.descriptors_control import CONTROL
from towline.serve.protocols.grpc.descriptors_grpc import HEALTH, REFLECTION
from towline.serve.protocols.grpc.descriptors_tf import TENSORFLOW, TF_SERVING
from towline.serve.protocols.grpc.descriptors_v2 import OPEN_INFERENCE

MESSAGES = Messages(CONTROL, OPEN_INFERENCE, TENSORFLOW, TF_SERVING, HEALTH, *REFLECTION.values())

"""Run by test_grpc_clients.py: stubs generated from the Open Inference Protocol's own file. Prints JSON."""

import json
import sys

import grpc
import numpy as np
from open_inference.grpc.protocol import InferParameter, ModelInferRequest, ModelReadyRequest, ServerLiveRequest
from open_inference.grpc.service import GRPCInferenceServiceStub

x = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)
with grpc.insecure_channel(sys.argv[1]) as channel:
    client = GRPCInferenceServiceStub(channel)
    request = ModelInferRequest(model_name="mlp", id="seven")
    request.inputs.add(name="x", datatype="FP32", shape=x.shape).contents.fp32_contents.extend(x.ravel())
    request.parameters["priority"].CopyFrom(InferParameter(int64_param=1))
    answer = client.ModelInfer(request)
    print(
        json.dumps(
            {
                "live": client.ServerLive(ServerLiveRequest()).live,
                "model ready": client.ModelReady(ModelReadyRequest(name="mlp")).ready,
                "infer": list(answer.outputs[0].contents.fp32_contents),
                "shape": list(answer.outputs[0].shape),
                "id": answer.id,
            }
        )
    )

"""The reference for CPU per gRPC call: grpc.aio with a plain handler over the published stubs, ONNX Runtime in the process.

No batching, no checks and no limits: what one writes by hand in an afternoon.
"""

from __future__ import annotations

import asyncio

import grpc
from open_inference.grpc.protocol import ModelInferRequest, ModelInferResponse
from open_inference.grpc.service import GRPCInferenceServiceServicer, add_GRPCInferenceServiceServicer_to_server
from served import GRPC_PORT, Served


class Servicer(GRPCInferenceServiceServicer):
    def __init__(self) -> None:
        self._served = Served()

    async def ModelInfer(self, request: ModelInferRequest, context: grpc.aio.ServicerContext) -> ModelInferResponse:
        answers = self._served.run(self._served.from_bytes(request.raw_input_contents[0]))
        response = ModelInferResponse(model_name=request.model_name, id=request.id, raw_output_contents=[answers.tobytes()])
        response.outputs.add(name="y", datatype="FP32", shape=answers.shape)
        return response


async def main() -> None:
    server = grpc.aio.server()
    add_GRPCInferenceServiceServicer_to_server(Servicer(), server)
    server.add_insecure_port(f"127.0.0.1:{GRPC_PORT}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())

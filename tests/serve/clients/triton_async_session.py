"""Run by test_extension_clients.py: tritonclient's clients for asyncio, over HTTP and gRPC. Prints JSON.

python triton_async_session.py HTTP_ADDRESS GRPC_ADDRESS
"""

import asyncio
import json
import sys

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.grpc.aio as grpc_client
import tritonclient.http as triton_http
import tritonclient.http.aio as http_client

AT_ONCE = 16
x = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)


def given(kind):
    tensor = kind.InferInput("x", list(x.shape), "FP32")
    tensor.set_data_from_numpy(x)
    return [tensor]


async def over_http(address):
    async with http_client.InferenceServerClient(address) as client:
        answers = await asyncio.gather(*(client.infer("mlp", given(triton_http)) for _ in range(AT_ONCE)))
        return {"live": await client.is_server_live(), "at once": [answer.as_numpy("y").tolist() for answer in answers]}


async def over_grpc(address):
    async def requests():
        for number in range(AT_ONCE):
            yield {"model_name": "mlp", "inputs": given(triton_grpc), "request_id": str(number)}

    async with grpc_client.InferenceServerClient(address) as client:
        answers = await asyncio.gather(*(client.infer("mlp", given(triton_grpc)) for _ in range(AT_ONCE)))
        streamed = [(result.get_response().id, error) async for result, error in client.stream_infer(requests())]
        return {
            "live": await client.is_server_live(),
            "at once": [answer.as_numpy("y").tolist() for answer in answers],
            "streamed": streamed,
        }


async def main():
    print(json.dumps({"http": await over_http(sys.argv[1]), "grpc": await over_grpc(sys.argv[2])}))


asyncio.run(main())

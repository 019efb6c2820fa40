"""Run by test_kserve_client.py in the environment of kserve: its two clients, over REST and over gRPC, at their defaults. Prints JSON."""

import asyncio
import json
import logging
import sys

import grpc
import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

# The client logs every refusal with its traceback; stderr is for what goes wrong here.
logging.disable(logging.ERROR)
url, grpc_address = sys.argv[1:]
x = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)
words = np.array([["a", "你好"]], dtype=object)


def asked(model, tensor, datatype, *, binary, outputs=None, **more):
    given = InferInput("x", list(tensor.shape), datatype)
    given.set_data_from_numpy(tensor, binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[given], request_outputs=outputs, request_id="seven", **more)


async def refusal(call):
    try:
        await call
    except httpx.HTTPStatusError as error:
        return f"{error.response.status_code} {error}"
    except grpc.aio.AioRpcError as error:
        return f"{error.code()} {error.details()}"
    return "was not refused"


def told(answer):
    (output,) = answer.outputs
    tensor = output.as_numpy()
    return {"id": answer.id, "model": answer.model_name, "shape": list(tensor.shape), "y": tensor.tolist()}


def text(answer):
    return [word.decode() if isinstance(word, bytes) else word for word in answer.outputs[0].as_numpy().reshape(-1)]


async def over_rest():
    wanted = [RequestedOutput("y", parameters={"binary_data": True})]
    async with InferenceRESTClient(RESTConfig(protocol="v2")) as client:

        def infer(*request, **more):
            return client.infer(url, asked(*request, **more), model_name=request[0])

        return {
            "live": await client.is_server_live(url),
            "ready": await client.is_server_ready(url),
            "model ready": await client.is_model_ready(url, "mlp"),
            "nobody ready": await client.is_model_ready(url, "nobody"),
            "json": told(await infer("mlp", x, "FP32", binary=False)),
            "binary": told(await infer("mlp", x, "FP32", binary=True, outputs=wanted)),
            "text": text(await infer("text", words, "BYTES", binary=False)),
            "binary text": text(await infer("text", words, "BYTES", binary=True, outputs=wanted)),
            "short": await refusal(infer("mlp", x[:, :9], "FP32", binary=False)),
            "nobody": await refusal(infer("nobody", x, "FP32", binary=False)),
        }


async def over_grpc():
    async with InferenceGRPCClient(grpc_address) as client:

        def infer(*request, **more):
            return client.infer(asked(*request, **more))

        return {
            "live": await client.is_server_live(),
            "ready": await client.is_server_ready(),
            "model ready": await client.is_model_ready("mlp"),
            "typed": told(await infer("mlp", x, "FP32", binary=False)),
            "raw": told(await infer("mlp", x, "FP32", binary=True)),
            "text": text(await infer("text", words, "BYTES", binary=False)),
            "raw text": text(await infer("text", words, "BYTES", binary=True)),
            "short": await refusal(infer("mlp", x[:, :9], "FP32", binary=True)),
            "nobody": await refusal(infer("nobody", x, "FP32", binary=True)),
            "late": await refusal(client.infer(asked("slow", np.ones((1, 8), np.float32), "FP32", binary=True), timeout=0.001)),
        }


async def main():
    print(json.dumps({"rest": await over_rest(), "grpc": await over_grpc()}))


asyncio.run(main())

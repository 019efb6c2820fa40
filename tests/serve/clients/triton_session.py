"""Run by test_clients.py: tritonclient[http] at its defaults (binary tensors both ways, no Content-Type). Prints JSON."""

import json
import sys

import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient(sys.argv[1])
x = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)
tensor = triton.InferInput("x", [2, 10], "FP32")
tensor.set_data_from_numpy(x)
plain = triton.InferInput("x", [2, 10], "FP32")
plain.set_data_from_numpy(x, binary_data=False)


def refusal() -> str:
    short = triton.InferInput("x", [2, 9], "FP32")
    short.set_data_from_numpy(x[:, :9])
    try:
        client.infer("mlp", [short])
    except triton.InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return "was not refused"


print(
    json.dumps(
        {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model ready": client.is_model_ready("mlp"),
            "metadata": client.get_model_metadata("mlp"),
            "binary": client.infer("mlp", [tensor], request_id="seven").as_numpy("y").tolist(),
            "id": client.infer("mlp", [tensor], request_id="seven").get_response()["id"],
            "json": client.infer("mlp", [plain], outputs=[triton.InferRequestedOutput("y", binary_data=False)]).as_numpy("y").tolist(),
            "gzip": client.infer("mlp", [tensor], request_compression_algorithm="gzip").as_numpy("y").tolist(),
            "refusal": refusal(),
        }
    )
)

"""Run by test_grpc_clients.py: tritonclient[grpc] at its defaults. Prints JSON."""

import json
import sys

import numpy as np
import tritonclient.grpc as triton

client = triton.InferenceServerClient(sys.argv[1])
x = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)
tensor = triton.InferInput("x", [2, 10], "FP32")
tensor.set_data_from_numpy(x)
text = triton.InferInput("x", [1, 2], "BYTES")
text.set_data_from_numpy(np.array([["a", "你好"]], dtype=object))


def refusal(model: str, given: triton.InferInput) -> str:
    try:
        client.infer(model, [given])
    except triton.InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return "was not refused"


short = triton.InferInput("x", [2, 9], "FP32")
short.set_data_from_numpy(x[:, :9])
answer = client.infer("mlp", [tensor], request_id="seven", outputs=[triton.InferRequestedOutput("y")], client_timeout=60)
best = client.infer("mlp", [tensor], outputs=[triton.InferRequestedOutput("y", class_count=2)])

print(
    json.dumps(
        {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model ready": client.is_model_ready("mlp"),
            "server": client.get_server_metadata(as_json=True)["name"],
            "metadata": client.get_model_metadata("mlp", as_json=True),
            "infer": answer.as_numpy("y").tolist(),
            "id": answer.get_response().id,
            "best": [word.decode() for word in best.as_numpy("y").reshape(-1)],
            "text": [word.decode() for word in client.infer("text", [text]).as_numpy("y").reshape(-1)],
            "gzip": client.infer("mlp", [tensor], compression_algorithm="gzip").as_numpy("y").tolist(),
            "short": refusal("mlp", short),
            "nobody": refusal("nobody", tensor),
        }
    )
)

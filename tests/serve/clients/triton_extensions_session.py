"""Run by test_extension_clients.py: tritonclient[http] with what goes beyond plain inference. Prints JSON."""

import json
import sys

import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient(sys.argv[1], concurrency=4)
x = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)
said = {}


def given(array, datatype="FP32", **more):
    tensor = triton.InferInput("x", list(array.shape), datatype)
    tensor.set_data_from_numpy(array, **more)
    return [tensor]


def refusal(act):
    try:
        act()
    except triton.InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return "was not refused"


def words(answer):
    return [word.decode() if isinstance(word, bytes) else word for word in answer.as_numpy("y").reshape(-1)]


text = np.array([["a", "你好"]], dtype=object)
for how in (True, False):
    wanted = [triton.InferRequestedOutput("y", binary_data=how)]
    said[f"text, binary {how}"] = words(client.infer("text", given(text, "BYTES", binary_data=how), outputs=wanted))
    best = [triton.InferRequestedOutput("y", binary_data=how, class_count=2)]
    said[f"best, binary {how}"] = words(client.infer("mlp", given(x), outputs=best))
said["urgent"] = client.infer("mlp", given(x), priority=1, timeout=20_000_000).as_numpy("y").tolist()
said["late"] = refusal(lambda: client.infer("slow", given(np.ones((1, 8), np.float32)), timeout=1000))
said["at once"] = [one.get_result().as_numpy("y").tolist() for one in [client.async_infer("mlp", given(x)) for _ in range(8)]]
said["version"] = client.infer("mlp", given(x), model_version="1").as_numpy("y").tolist()
said["version 9"] = refusal(lambda: client.infer("mlp", given(x), model_version="9"))
said["deflate"] = (
    client.infer("mlp", given(x), request_compression_algorithm="deflate", response_compression_algorithm="gzip").as_numpy("y").tolist()
)
said["config"] = client.get_model_config("mlp")
said["before"] = client.get_inference_statistics("mlp")["model_stats"][0]["inference_stats"]["success"]["count"]
client.infer("mlp", given(x))
said["after"] = client.get_inference_statistics("mlp", "1")["model_stats"][0]["inference_stats"]["success"]["count"]
client.close()
print(json.dumps(said))

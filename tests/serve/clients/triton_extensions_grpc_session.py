"""Run by test_extension_clients.py: tritonclient[grpc] with what goes beyond plain inference. Prints JSON."""

import json
import queue
import sys

import numpy as np
import tritonclient.grpc as triton

WAIT_S = 30
client = triton.InferenceServerClient(sys.argv[1])
x = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)
said = {}


def given(array, datatype="FP32"):
    tensor = triton.InferInput("x", list(array.shape), datatype)
    tensor.set_data_from_numpy(array)
    return [tensor]


def refusal(act):
    try:
        act()
    except triton.InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return "was not refused"


def words(answer):
    return [word.decode() for word in answer.as_numpy("y").reshape(-1)]


def counted(version=""):
    return int(client.get_inference_statistics("mlp", version, as_json=True)["model_stats"][0]["inference_stats"]["success"]["count"])


slow = given(np.ones((1, 8), np.float32))
said["text"] = words(client.infer("text", given(np.array([["a", "你好"]], dtype=object), "BYTES")))
said["best"] = words(client.infer("mlp", given(x), outputs=[triton.InferRequestedOutput("y", class_count=2)]))
said["urgent"] = client.infer("mlp", given(x), priority=1, timeout=20_000_000).as_numpy("y").tolist()
said["late"] = refusal(lambda: client.infer("slow", slow, timeout=1000))
said["late for the client"] = refusal(lambda: client.infer("slow", slow, client_timeout=0.001))
heard = queue.Queue()
for _ in range(8):
    client.async_infer("mlp", given(x), callback=lambda result, error: heard.put((result, error)))
said["at once"] = []
for _ in range(8):
    result, error = heard.get(timeout=WAIT_S)
    assert error is None, error
    said["at once"].append(result.as_numpy("y").tolist())
client.start_stream(callback=lambda result, error: heard.put((result, error)))
client.async_stream_infer("slow", slow, request_id="late", timeout=1000)
client.async_stream_infer("mlp", given(x), request_id="first", outputs=[triton.InferRequestedOutput("y", class_count=1)], priority=1)
_, error = heard.get(timeout=WAIT_S)
result, none = heard.get(timeout=WAIT_S)
said["streamed"] = [str(error), result.get_response().id, words(result)]
client.stop_stream()
said["version"] = client.infer("mlp", given(x), model_version="1").as_numpy("y").tolist()
said["version 9"] = refusal(lambda: client.infer("mlp", given(x), model_version="9"))
said["config"] = client.get_model_config("mlp", as_json=True)["config"]
said["before"] = counted()
client.infer("mlp", given(x))
said["after"] = counted("1")
print(json.dumps(said))
# Left to the end of the interpreter, the client's own __del__ may wait for a lock that a thread which is gone holds.
client.close()

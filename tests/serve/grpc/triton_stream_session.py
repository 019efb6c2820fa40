"""Run by test_grpc_clients.py: tritonclient's stream, as its examples use it. Prints JSON."""

import json
import queue
import re
import sys

import numpy as np
import tritonclient.grpc as triton

WAIT_S = 30
client = triton.InferenceServerClient(sys.argv[1])
heard = queue.Queue()


def given(width: int) -> list:
    x = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)[:, :width]
    tensor = triton.InferInput("x", list(x.shape), "FP32")
    tensor.set_data_from_numpy(np.ascontiguousarray(x))
    return [tensor]


def answer() -> list:
    result, error = heard.get(timeout=WAIT_S)
    if error is not None:
        return [re.search(r"\[N, 10\]|$", error.message())[0], None]
    return [result.get_response().id, result.as_numpy("y").tolist()]


client.start_stream(callback=lambda result, error: heard.put((result, error)))
for number in range(100):
    client.async_stream_infer("mlp", given(10), request_id=str(number))
answers = [answer() for _ in range(100)]

client.async_stream_infer("mlp", given(9), request_id="wrong")
client.async_stream_infer("mlp", given(10), request_id="right", enable_empty_final_response=True)
after_an_error = [answer()[0]]
last, error = heard.get(timeout=WAIT_S)
after_an_error.append(last.get_response().id)
final = last.get_response().parameters["triton_final_response"].bool_param

# This one never ends by itself.
endless = triton.InferInput("rounds", [1], "INT64")
endless.set_data_from_numpy(np.array([np.iinfo(np.int64).max], np.int64))
client.async_stream_infer("loop", [endless])
client.stop_stream(cancel_requests=True)
_, error = heard.get(timeout=WAIT_S)

print(json.dumps({"answers": answers, "after an error": after_an_error, "final": final, "cancelled": str(error.status())}))
# Left to the end of the interpreter, the client's own __del__ may wait for a lock that a thread which is gone holds.
client.close()

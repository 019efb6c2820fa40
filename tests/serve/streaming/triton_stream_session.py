"""Triton's own gRPC client asks a handler that answers in parts: python triton_stream_session.py ADDRESS. Prints what it got as JSON."""

from __future__ import annotations

import json
import queue
import sys

import numpy as np
import tritonclient.grpc as triton

answers: queue.Queue = queue.Queue()


def parts(client: triton.InferenceServerClient, model: str, *, asks_for_the_end: bool) -> list:
    tensor = triton.InferInput("n", [1], "INT64")
    tensor.set_data_from_numpy(np.array([3], np.int64))
    client.async_stream_infer(model, [tensor], request_id="seven", enable_empty_final_response=asks_for_the_end)
    found = []
    while len(found) < 3 + asks_for_the_end:
        result, error = answers.get(timeout=60)
        if error is not None:
            return [*found, str(error)]
        response = result.get_response()
        final = response.parameters["triton_final_response"].bool_param if "triton_final_response" in response.parameters else None
        value = result.as_numpy("y")
        found.append([None if value is None else value.tolist(), response.id, final])
    return found


with triton.InferenceServerClient(sys.argv[1]) as client:
    client.start_stream(callback=lambda result, error: answers.put((result, error)))
    told = {"plain": parts(client, "Steps", asks_for_the_end=False), "ended": parts(client, "Steps", asks_for_the_end=True)}
    client.stop_stream()
print(json.dumps(told))

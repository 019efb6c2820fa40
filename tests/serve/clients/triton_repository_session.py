"""Run by test_repository_clients.py: what tritonclient[http] sees and changes of a server. Prints JSON."""

import json
import sys

import numpy as np
import tritonclient.http as triton

client = triton.InferenceServerClient(sys.argv[1], network_timeout=60.0)
with open(sys.argv[2], "rb") as file:
    sent = file.read()
x = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)
said = {}


def infer(name):
    tensor = triton.InferInput("x", [2, 10], "FP32")
    tensor.set_data_from_numpy(x)
    return client.infer(name, [tensor]).as_numpy("y").tolist()


def refusal(act):
    try:
        act()
    except triton.InferenceServerException as error:
        return f"{error.status()} {error.message()}"
    return "was not refused"


said["extensions"] = client.get_server_metadata()["extensions"]
said["index"] = client.get_model_repository_index()
said["first"] = infer("mlp")
client.unload_model("mlp")
said["unloaded"] = refusal(lambda: infer("mlp"))
said["ready"] = client.is_model_ready("mlp")
client.load_model("mlp")
said["again"] = infer("mlp")
client.load_model("mlp", config='{"max_batch_size": 3}')
said["limited"] = client.get_model_config("mlp")["max_batch_size"]
client.load_model("sent", config='{"max_batch_size": 4}', files={"file:1/model.onnx": sent})
said["sent"] = infer("sent")
said["config"] = client.get_model_config("sent")
said["statistics"] = client.get_inference_statistics("sent")
said["all statistics"] = [one["name"] for one in client.get_inference_statistics()["model_stats"]]
said["trace"] = client.get_trace_settings()
said["logging"] = client.get_log_settings()
said["log_file"] = refusal(lambda: client.update_log_settings({"log_file": "/tmp/x"}))
said["unknown"] = refusal(lambda: client.load_model("nobody"))
said["broken"] = refusal(lambda: client.load_model("broken", config="{}", files={"file:1/model.onnx": sent[: len(sent) // 2]}))
said["last index"] = client.get_model_repository_index()
print(json.dumps(said))

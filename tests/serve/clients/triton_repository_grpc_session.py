"""Run by test_repository_clients.py: what tritonclient[grpc] sees and changes of a server. Prints JSON."""

import json
import sys

import numpy as np
import tritonclient.grpc as triton

client = triton.InferenceServerClient(sys.argv[1])
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


client.load_model("over-grpc", config='{"max_batch_size": 4}', files={"file:1/model.onnx": sent})
said["sent"] = infer("over-grpc")
said["index"] = [one.get("name") for one in client.get_model_repository_index(as_json=True)["models"] if one["state"] == "READY"]
said["config"] = client.get_model_config("over-grpc", as_json=True)["config"]
said["statistics"] = client.get_inference_statistics("over-grpc", as_json=True)["model_stats"]
client.unload_model("over-grpc")
said["unloaded"] = refusal(lambda: infer("over-grpc"))
client.load_model("over-grpc")
said["again"] = infer("over-grpc")
said["trace"] = client.get_trace_settings(as_json=True)["settings"]["trace_level"]["value"]
said["logging"] = sorted(client.get_log_settings(as_json=True)["settings"])
said["log_file"] = refusal(lambda: client.update_log_settings({"log_file": "/tmp/x"}))
said["unknown"] = refusal(lambda: client.load_model("nobody"))
client.unload_model("over-grpc")
print(json.dumps(said))

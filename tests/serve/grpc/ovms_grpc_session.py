"""Run by test_grpc_clients.py: ovmsclient over gRPC, which speaks TensorFlow Serving's. Prints JSON."""

import json
import sys
import warnings

# Its generated code is older than the protobuf it runs on, and says so.
warnings.simplefilter("ignore")

import numpy as np  # noqa: E402
from ovmsclient import make_grpc_client  # noqa: E402

client = make_grpc_client(sys.argv[1])
x = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)


def refusal(model: str, given: np.ndarray) -> str:
    try:
        client.predict({"x": given}, model)
    except Exception as error:
        return f"{type(error).__name__} {error}"
    return "was not refused"


metadata = client.get_model_metadata("mlp")
print(
    json.dumps(
        {
            "predict": client.predict({"x": x}, "mlp").tolist(),
            "version 1": client.predict({"x": x}, "mlp", model_version=1).tolist(),
            "status": {str(number): status for number, status in client.get_model_status("mlp").items()},
            "metadata": {key: metadata[key] for key in ("model_version", "inputs", "outputs")},
            "wrong width": refusal("mlp", x[:, :9]),
            "nobody": refusal("nobody", x),
        }
    )
)

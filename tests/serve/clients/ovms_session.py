"""Run by test_clients.py in the environment of ovmsclient: a TF Serving REST client, at its defaults. Prints JSON."""

import json
import sys

import numpy as np
from ovmsclient import make_http_client

client = make_http_client(sys.argv[1])
x = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)


def said(call):
    try:
        return repr(call())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


print(
    json.dumps(
        {
            "status": client.get_model_status("mlp"),
            "predict": np.asarray(client.predict({"x": x}, "mlp")).tolist(),
            "wrong width": said(lambda: client.predict({"x": x[:, :9]}, "mlp")),
            "nobody": said(lambda: client.get_model_status("nobody")),
        },
        default=str,
    )
)

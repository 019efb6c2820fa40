"""The tiny model behind Flask, as its users write it: get_json, jsonify, ONNX Runtime in the process."""

from __future__ import annotations

import os

import numpy as np
import onnxruntime
from flask import Flask, Response, jsonify, request

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
app = Flask(__name__)


@app.post("/v1/models/mlp:predict")
def predict() -> Response:
    answers = session.run(None, {"x": np.array(request.get_json()["instances"], np.float32)})[0]
    return jsonify(predictions=answers.tolist())

"""The model behind Flask, as its users write it: get_json, jsonify, ONNX Runtime in the process."""

from __future__ import annotations

from flask import Flask, Response, jsonify, request
from served import Served

app = Flask(__name__)
served = Served()


@app.post("/predict")
def predict() -> Response:
    return jsonify(predictions=served.run(served.from_lists(request.get_json()["instances"])).tolist())


@app.post("/raw")
def raw() -> Response:
    return jsonify(predictions=served.run(served.from_bytes(request.get_data())).tolist())

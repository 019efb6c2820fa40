"""The tiny model behind FastAPI, as its users write it: a pydantic body, a plain `def` handler, ONNX Runtime in the process."""

from __future__ import annotations

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options)
app = FastAPI()


class Body(BaseModel):
    instances: list[list[float]]


@app.post("/v1/models/mlp:predict")
def predict(body: Body) -> dict[str, list[list[float]]]:
    answers = session.run(None, {"x": np.array(body.instances, np.float32)})[0]
    return {"predictions": answers.tolist()}

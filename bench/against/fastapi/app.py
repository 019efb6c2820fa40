"""The model behind FastAPI, as its users write it: a pydantic body, a plain `def` handler, ONNX Runtime in the process."""

from __future__ import annotations

from fastapi import FastAPI, Request
from pydantic import BaseModel
from served import Served

app = FastAPI()
served = Served()


class Body(BaseModel):
    instances: list[list[float]]


@app.post("/predict")
def predict(body: Body) -> dict[str, list[list[float]]]:
    return {"predictions": served.run(served.from_lists(body.instances)).tolist()}


@app.post("/raw")
async def raw(request: Request) -> dict[str, list[list[float]]]:
    return {"predictions": served.run(served.from_bytes(await request.body())).tolist()}

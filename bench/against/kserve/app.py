"""The model behind KServe's Python model server, outside a cluster."""

from __future__ import annotations

import kserve
import numpy as np
from served import GRPC_PORT, PORT, Served


class Model(kserve.Model):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._served = Served()
        self.ready = True

    def predict(
        self, payload: kserve.InferRequest, headers: dict[str, str] | None = None, response_headers: dict[str, str] | None = None
    ) -> kserve.InferResponse:
        answers = self._served.run(payload.inputs[0].as_numpy().astype(np.float32, copy=False))
        output = kserve.InferOutput(name="y", shape=list(answers.shape), datatype="FP32")
        output.set_data_from_numpy(answers, binary_data=payload.use_binary_outputs)
        return kserve.InferResponse(response_id=payload.id or "0", model_name=self.name, infer_outputs=[output])


if __name__ == "__main__":
    kserve.ModelServer(http_port=PORT, grpc_port=GRPC_PORT, workers=1, access_log_format=None).start([Model("m")])

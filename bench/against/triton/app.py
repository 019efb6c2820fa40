"""The model in Triton's Python backend: one run for all requests that Triton hands over at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as triton
from served import Served


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        self._served = Served()

    def execute(self, requests: list[Any]) -> list[Any]:
        rows = [triton.get_input_tensor_by_name(request, "x").as_numpy() for request in requests]
        answers = self._served.run(np.concatenate(rows) if len(rows) > 1 else rows[0])
        responses, start = [], 0
        for mine in rows:
            answer = np.ascontiguousarray(answers[start : start + len(mine)])
            responses.append(triton.InferenceResponse(output_tensors=[triton.Tensor("y", answer)]))
            start += len(mine)
        return responses

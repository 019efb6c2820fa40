"""A Runner over ONNX Runtime in this very process, for tests that need no worker."""

from __future__ import annotations

import resource
from collections.abc import Mapping

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from towline.core.dtypes import BY_ORT
from towline.core.errors import EngineError
from towline.core.manifest import Signature, TensorSpec

onnxruntime.set_default_logger_severity(4)


class DirectRunner:
    """`runs` counts the rows of each run."""

    def __init__(self, model: bytes) -> None:
        self._session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.runs: list[int] = []

    def run(self, inputs: Mapping[str, np.ndarray], *, timeout_s: float = 60.0) -> dict[str, np.ndarray]:
        first = next(iter(inputs.values()))
        self.runs.append(len(first) if first.ndim else 1)
        feeds = {name: array.astype(str).astype(object) if array.dtype == object else array for name, array in inputs.items()}
        try:
            answers = self._session.run(None, feeds)
        except (ort_errors.InvalidArgument, ort_errors.Fail, ort_errors.RuntimeException) as error:
            raise EngineError(str(error)[:100]) from error
        return dict(zip((output.name for output in self._session.get_outputs()), answers, strict=True))

    def memory_bytes(self) -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * resource.getpagesize()

    def peak_memory_bytes(self) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def signature(self) -> Signature:
        def specs(values):
            return tuple(TensorSpec(value.name, BY_ORT[value.type].name, tuple(value.shape)) for value in values)

        return Signature(specs(self._session.get_inputs()), specs(self._session.get_outputs()))

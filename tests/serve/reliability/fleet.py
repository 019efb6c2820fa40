"""Models that each break a careless server in a way of their own, questions to them in every protocol, and the direct answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import numpy as np
import onnxruntime
from hypothesis import strategies as st
from known_models import INT64_MIN, session_of

from towline.testing import tiny_models

Arrays = dict[str, np.ndarray]

V2_TYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "int8": "INT8", "bool": "BOOL", "object": "BYTES"}
NUMPY_TYPES = {word: name for name, word in V2_TYPES.items()}
# What a right server may say instead of an answer, and when: status, code -> a reason the question gives it.
REFUSALS = {(504, "DEADLINE_EXCEEDED"): "deadline", (500, "ENGINE_CRASHED"): "crash", (400, "ENGINE_REFUSED"): "refused"}


@dataclass(frozen=True)
class Model:
    """`draw` makes inputs of a number of rows. Several files are versions 1, 2, …, of which an alias is served."""

    name: str
    files: tuple[bytes, ...]
    draw: Callable[[np.random.Generator, int], Arrays]
    rows: tuple[int, ...] = (1, 2, 3, 5)


def _floats(width: int) -> Callable[[np.random.Generator, int], Arrays]:
    # Rows of very different size: a scale that is shared by a batch would show.
    return lambda rng, rows: {"x": (rng.normal(0, 1, (rows, width)) * 10.0 ** rng.integers(-2, 3, (rows, 1))).astype(np.float32)}


def _identity(dtype: str) -> Callable[[np.random.Generator, int], Arrays]:
    def draw(rng: np.random.Generator, rows: int) -> Arrays:
        if dtype == "string":
            texts = np.empty((rows, 2), dtype=object)
            texts[...] = [[f"text {value} ä" for value in row] for row in rng.integers(0, 99, (rows, 2))]
            return {"x": texts}
        if dtype == "bool":
            return {"x": rng.integers(0, 2, (rows, 2)).astype(bool)}
        if dtype == "float64":
            return {"x": rng.normal(0, 1e12, (rows, 2))}
        return {"x": rng.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, (rows, 2), dtype=dtype, endpoint=True)}

    return draw


def _division(rng: np.random.Generator, rows: int) -> Arrays:
    a, b = rng.integers(-1000, 1000, rows), rng.integers(1, 9, rows)
    if rng.random() < 0.05:
        a[0], b[0] = INT64_MIN, -1
    return {"a": a, "b": b}


MODELS = (
    Model("mlp", (tiny_models.mlp(seed=1), tiny_models.mlp(seed=2)), _floats(10)),
    Model("softmax", (tiny_models.softmax_over_rows(),), _floats(3)),
    Model("quantized", (tiny_models.dynamic_int8(),), _floats(16)),
    Model("add", (tiny_models.add_two(),), lambda rng, rows: {"a": _floats(2)(rng, rows)["x"], "b": _floats(2)(rng, rows)["x"]}),
    Model("fixed", (tiny_models.fixed_shape(),), _floats(4), (1,)),
    # The last id is out of range.
    Model("embedding", (tiny_models.embedding(rows=9),), lambda rng, rows: {"ids": rng.integers(0, 10, rows)}),
    Model("division", (tiny_models.integer_division("int64"),), _division),
    *(Model(f"same-{dtype}", (tiny_models.identity(dtype),), _identity(dtype)) for dtype in ("float64", "int8", "bool", "string")),
)
BY_NAME = {model.name: model for model in MODELS}
PROTOCOLS = ("v1 rows", "v1 columns", "v2 json", "v2 binary", "predict")


@dataclass(frozen=True)
class Question:
    model: str
    seed: int
    rows: int
    protocol: str
    # Milliseconds it may wait; 0: as long as it takes.
    timeout_ms: int = 0

    def inputs(self) -> Arrays:
        return BY_NAME[self.model].draw(np.random.default_rng(self.seed), self.rows)


@st.composite
def questions(draw: st.DrawFn) -> Question:
    model = draw(st.sampled_from(MODELS))
    timeout_ms = draw(st.sampled_from([0, 0, 0, 0, 0, 1, 2, 5, 50]))
    return Question(
        model.name, draw(st.integers(0, 2**20)), draw(st.sampled_from(model.rows)), draw(st.sampled_from(PROTOCOLS)), timeout_ms
    )


# Asking


def ask(connection: HTTPConnection, question: Question) -> tuple[int, Any, Arrays]:
    """Status, the version named or the code of the error, and the outputs by name ("" when the protocol does not tell)."""
    path, body, headers = encoded(question)
    if question.timeout_ms:
        headers["X-Request-Timeout-Ms"] = str(question.timeout_ms)
    connection.request("POST", path, body, headers)
    answer = connection.getresponse()
    raw = answer.read()
    if answer.status != 200:
        said = json.loads(raw)
        return answer.status, said["error"]["code"] if isinstance(said["error"], dict) else said["code"], {}
    version, outputs = decoded(question.protocol, raw, int(answer.headers.get("Inference-Header-Content-Length", len(raw))))
    return 200, version, outputs


def encoded(question: Question) -> tuple[str, bytes, dict[str, str]]:
    name, inputs = question.model, question.inputs()
    plain = {key: array.tolist() for key, array in inputs.items()}
    match question.protocol:
        case "v1 rows":
            rows = (
                next(iter(plain.values()))
                if len(plain) == 1
                else [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]
            )
            return f"/v1/models/{name}:predict", json.dumps({"instances": rows}).encode(), {}
        case "v1 columns":
            return f"/v1/models/{name}:predict", json.dumps({"inputs": plain}).encode(), {}
        case "predict":
            value = next(iter(plain.values())) if len(plain) == 1 else plain
            return f"/models/{name}/predict", json.dumps({"input": value}).encode(), {}
        case "v2 json":
            tensors = [_described(key, array) | {"data": array.reshape(-1).tolist()} for key, array in inputs.items()]
            return f"/v2/models/{name}/infer", json.dumps({"inputs": tensors}).encode(), {}
        case _:
            blobs = {key: _packed(array) for key, array in inputs.items()}
            tensors = [_described(key, array) | {"parameters": {"binary_data_size": len(blobs[key])}} for key, array in inputs.items()]
            head = json.dumps({"inputs": tensors, "parameters": {"binary_data_output": True}}).encode()
            return f"/v2/models/{name}/infer", head + b"".join(blobs.values()), {"Inference-Header-Content-Length": str(len(head))}


def _described(name: str, array: np.ndarray) -> dict[str, Any]:
    return {"name": name, "datatype": V2_TYPES[array.dtype.name], "shape": list(array.shape)}


def _packed(array: np.ndarray) -> bytes:
    if array.dtype != object:
        return array.tobytes()
    return b"".join(len(text.encode()).to_bytes(4, "little") + text.encode() for text in array.reshape(-1))


def _unpacked(blob: bytes) -> list[str]:
    texts = []
    while blob:
        size = int.from_bytes(blob[:4], "little")
        texts.append(blob[4 : 4 + size].decode())
        blob = blob[4 + size :]
    return texts


def decoded(protocol: str, raw: bytes, head_bytes: int) -> tuple[str, Arrays]:
    """The version an answer names, "" when it names none, and its outputs."""
    document, blob = json.loads(raw[:head_bytes]), raw[head_bytes:]
    if protocol.startswith("v2"):
        outputs = {}
        for tensor in document["outputs"]:
            size = tensor.get("parameters", {}).get("binary_data_size", 0)
            dtype = NUMPY_TYPES[tensor["datatype"]]
            if "data" in tensor:
                values = tensor["data"]
            elif dtype == "object":
                values = _unpacked(blob[:size])
            else:
                values = np.frombuffer(blob[:size], dtype)
            blob = blob[size:]
            outputs[tensor["name"]] = np.asarray(values, dtype).reshape(tensor["shape"])
        return document["model_version"], outputs
    key = {"v1 rows": "predictions", "v1 columns": "outputs", "predict": "output"}[protocol]
    return "", {"": np.asarray(document[key])}


# Judging


class Judge:
    """Answers questions by a session of its own, one at a time, and says what is wrong with a server's answer."""

    def __init__(self, bounds: Mapping[tuple[str, str], tuple[float, float]]) -> None:
        # (model, output) -> absolute and relative bound, as import recorded them.
        self._bounds = bounds
        self._sessions: dict[str, list[onnxruntime.InferenceSession]] = {
            model.name: [session_of(file) for file in model.files] for model in MODELS
        }

    def problem(self, question: Question, status: int, told: Any, outputs: Arrays) -> str:
        """Nothing when the answer is the direct one, or a refusal that this question may meet."""
        if status != 200:
            reason = REFUSALS.get((status, told), "undocumented")
            return "" if reason in self._excuses(question) else f"{question}: {status} {told}"
        if "crash" in self._excuses(question) or "refused" in self._excuses(question):
            return f"{question}: answered, although it has no answer"
        versions = range(len(self._sessions[question.model])) if told == "" else [int(told) - 1]
        if any(self._is_answer(question, version, outputs) for version in versions):
            return ""
        return f"{question}: version {told or 'any'} does not answer { ({name: array.tolist() for name, array in outputs.items()}) }"

    def _excuses(self, question: Question) -> set[str]:
        excuses = {"deadline"} if question.timeout_ms else set()
        inputs = question.inputs()
        if question.model == "division" and (inputs["a"] == INT64_MIN).any():
            excuses.add("crash")
        if question.model == "embedding" and (inputs["ids"] > 8).any():
            excuses.add("refused")
        return excuses

    def _is_answer(self, question: Question, version: int, outputs: Arrays) -> bool:
        (expected,) = self._sessions[question.model][version].run(None, question.inputs())
        (got,) = outputs.values()
        if expected.shape != got.shape:
            return False
        if expected.dtype.kind not in "f":
            return bool((expected == got).all())
        absolute, relative = self._bounds[question.model, "y"]
        return bool((np.abs(got.astype(np.float64) - expected) <= absolute + relative * np.abs(expected) + 1e-12).all())

"""Tiny ONNX models for tests: each as bytes, each with one property worth testing. onnx is imported on first use only."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

OPSET = 17
IR_VERSION = 8
INT64_MAX = 2**63 - 1
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def write(folder: Path, model: bytes, name: str = "model.onnx") -> Path:
    """Put a model into `folder` and return its path."""
    path = folder / name
    path.write_bytes(model)
    return path


def mlp(*, width: int = 64, seed: int = 0) -> bytes:
    """10-`width`-10: x float32 [N, 10] -> y float32 [N, 10], rows are softmax probabilities."""
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.normal(0, 0.5, (10, width)).astype(np.float32),
        "b1": rng.normal(0, 0.1, width).astype(np.float32),
        "w2": rng.normal(0, 0.5, (width, 10)).astype(np.float32),
        "b2": rng.normal(0, 0.1, 10).astype(np.float32),
    }
    nodes = [
        node("Gemm", ["x", "w1", "b1"], ["h"], name="hidden"),
        node("Relu", ["h"], ["a"], name="relu"),
        node("Gemm", ["a", "w2", "b2"], ["z"], name="logits"),
        node("Softmax", ["z"], ["y"], name="probabilities", axis=-1),
    ]
    return make_model(nodes, [("x", "float32", ("N", 10))], [("y", "float32", ("N", 10))], weights)


def softmax_over_rows() -> bytes:
    """Softmax over axis 0: x [N, 3] -> y [N, 3]. A row alone is all ones, in a batch it is not: must never be merged."""
    return make_model([node("Softmax", ["x"], ["y"], axis=0)], [("x", "float32", ("N", 3))], [("y", "float32", ("N", 3))])


def dynamic_int8(*, seed: int = 0) -> bytes:
    """x [N, 16] -> y [N, 4] through DynamicQuantizeLinear: the scale, hence each row's answer, depends on its batch-mates."""
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {
        "w": rng.integers(-127, 127, (16, 4)).astype(np.int8),
        "w_zero": np.array(0, np.int8),
        "w_scale": np.array(0.01, np.float32),
    }
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "scale", "zero"]),
        node("MatMulInteger", ["q", "w", "zero", "w_zero"], ["i"]),
        node("Cast", ["i"], ["f"], to=1),
        node("Mul", ["scale", "w_scale"], ["s"]),
        node("Mul", ["f", "s"], ["y"]),
    ]
    return make_model(nodes, [("x", "float32", ("N", 16))], [("y", "float32", ("N", 4))], weights)


def integer_division(dtype: str = "int32") -> bytes:
    """a / b -> y, all [N]. The lowest integer divided by -1 kills ONNX Runtime with SIGFPE: the standing engine-crash fixture."""
    return make_model([node("Div", ["a", "b"], ["y"])], [("a", dtype, ("N",)), ("b", dtype, ("N",))], [("y", dtype, ("N",))])


def counted_loop(rounds: int | None = None) -> bytes:
    """rounds int64 [1] -> y float32 [1], how often the Loop went round. Send INT64_MAX for a run that never ends.

    With `rounds` given the count is in the model and the input is x float32 [1], added to y.
    """
    from onnx import helper

    body = helper.make_graph(
        [node("Identity", ["on"], ["still_on"]), node("Add", ["sum", "one"], ["next"])],
        "body",
        [_value("i", "int64", ()), _value("on", "bool", ()), _value("sum", "float32", (1,))],
        [_value("still_on", "bool", ()), _value("next", "float32", (1,))],
    )
    weights: dict[str, np.ndarray] = {"always": np.array(True), "zero": np.zeros(1, np.float32), "one": np.ones(1, np.float32)}
    if rounds is None:
        nodes = [node("Squeeze", ["rounds"], ["count"]), node("Loop", ["count", "always", "zero"], ["y"], name="loop", body=body)]
        return make_model(nodes, [("rounds", "int64", (1,))], [("y", "float32", (1,))], weights)
    weights["count"] = np.array(rounds, np.int64)
    nodes = [node("Loop", ["count", "always", "x"], ["y"], name="loop", body=body)]
    return make_model(nodes, [("x", "float32", (1,))], [("y", "float32", (1,))], weights)


def slow(*, rounds: int = 100, width: int = 64) -> bytes:
    """x [N, width] -> y [N, width]: `rounds` times y = tanh(y @ W). 100 rounds of width 64 are well under a millisecond a row."""
    from onnx import helper

    body = helper.make_graph(
        [node("Identity", ["on"], ["still_on"]), node("MatMul", ["state", "w"], ["m"]), node("Tanh", ["m"], ["next"])],
        "body",
        [_value("i", "int64", ()), _value("on", "bool", ()), _value("state", "float32", None)],
        [_value("still_on", "bool", ()), _value("next", "float32", None)],
    )
    weights: dict[str, np.ndarray] = {
        "w": np.random.default_rng(0).normal(0, 0.1, (width, width)).astype(np.float32),
        "count": np.array(rounds, np.int64),
        "always": np.array(True),
    }
    nodes = [node("Loop", ["count", "always", "x"], ["y"], name="loop", body=body)]
    return make_model(nodes, [("x", "float32", ("N", width))], [("y", "float32", ("N", width))], weights)


def memory_bomb() -> bytes:
    """shape int64 [2] -> y float32 of that shape: sixteen bytes ask for any amount of memory."""
    return make_model([node("ConstantOfShape", ["shape"], ["y"], name="bomb")], [("shape", "int64", (2,))], [("y", "float32", ("A", "B"))])


def add_two() -> bytes:
    """a + b -> y, all float32 [N, 2] with one symbol N. ONNX Runtime would broadcast sizes 2 and 1 without a word."""
    return make_model(
        [node("Add", ["a", "b"], ["y"])], [("a", "float32", ("N", 2)), ("b", "float32", ("N", 2))], [("y", "float32", ("N", 2))]
    )


def sum_and_product() -> bytes:
    """x float32 [N, 2] -> sum float32 [N, 1] and product float32 [N, 1]: one graph for several signatures."""
    nodes = [
        node("ReduceSum", ["x", "axis"], ["sum"], keepdims=1),
        node("ReduceProd", ["x"], ["product"], axes=[1], keepdims=1),
    ]
    outputs = [("sum", "float32", ("N", 1)), ("product", "float32", ("N", 1))]
    return make_model(nodes, [("x", "float32", ("N", 2))], outputs, {"axis": np.array([1], np.int64)})


def identity(dtype: str = "float32", shape: Sequence[int | str] | None = ("N", 2)) -> bytes:
    """x -> y unchanged, for any dtype of core/dtypes.py, `string` included."""
    return make_model([node("Identity", ["x"], ["y"])], [("x", dtype, shape)], [("y", dtype, shape)])


def fixed_shape() -> bytes:
    """x float32 [1, 4] -> y [1, 4] = 2x: no symbolic dim, so never batchable."""
    weights = {"two": np.array(2, np.float32)}
    return make_model([node("Mul", ["x", "two"], ["y"])], [("x", "float32", (1, 4))], [("y", "float32", (1, 4))], weights)


def logarithm() -> bytes:
    """x float32 [N, 2] -> y = log(x): NaN for negative values."""
    return make_model([node("Log", ["x"], ["y"])], [("x", "float32", ("N", 2))], [("y", "float32", ("N", 2))])


def embedding(*, rows: int = 2) -> bytes:
    """ids int64 [N] -> y float32 [N, 3] from a table of `rows` rows: an id out of range is refused by the engine."""
    table = np.arange(rows * 3, dtype=np.float32).reshape(rows, 3)
    return make_model([node("Gather", ["table", "ids"], ["y"])], [("ids", "int64", ("N",))], [("y", "float32", ("N", 3))], {"table": table})


def mean_colour(*, height: int | str = 8, width: int | str = 8, layout: str = "NCHW", dtype: str = "float32") -> bytes:
    """x [N, 3, height, width] (or NHWC) -> logits float32 [N, 3]: the mean of each channel; which colour a picture mostly has."""
    sides: dict[str, int | str] = {"N": "N", "C": 3, "H": height, "W": width}
    axes = [layout.index("H"), layout.index("W")]
    nodes = [node("Cast", ["x"], ["f"], to=1), node("ReduceMean", ["f"], ["logits"], axes=axes, keepdims=0)]
    return make_model(nodes, [("x", dtype, [sides[axis] for axis in layout])], [("logits", "float32", ("N", 3))])


def convolutions(*, epsilon: float = 1e-3, batch_norm: bool = True, swapped: bool = False, kept: float = 1.0, seed: int = 0) -> bytes:
    """image float32 [N, 3, 8, 8] -> y float32 [N, 4]: twice convolution, batch norm and ReLU, then a mean and a dense layer.

    Each argument but the seed is a way to convert such a model wrongly: another `epsilon`, no second `batch_norm`, the input's channels
    `swapped`, and only the first part `kept` of the second convolution's weights.
    """
    rng = np.random.default_rng(seed)
    weights: dict[str, np.ndarray] = {}
    for layer, taken, made in (("1", 3, 8), ("2", 8, 8)):
        weights[f"conv{layer}.weight"] = rng.normal(0, 0.3, (made, taken, 3, 3)).astype(np.float32)
        for name, low, high in (("scale", 0.5, 1.5), ("bias", -0.5, 0.5), ("mean", -0.5, 0.5), ("var", 0.2, 1.5)):
            weights[f"bn{layer}.{name}"] = rng.uniform(low, high, made).astype(np.float32)
    weights["dense.weight"] = rng.normal(0, 0.5, (8, 4)).astype(np.float32)
    weights["dense.bias"] = rng.normal(0, 0.5, 4).astype(np.float32)
    if swapped:
        weights["conv1.weight"] = np.ascontiguousarray(weights["conv1.weight"][:, ::-1])
    short = weights["conv2.weight"].reshape(-1)
    short[round(kept * short.size) :] = 0
    nodes, last = [], "image"
    for layer in ("1", "2"):
        nodes.append(node("Conv", [last, f"conv{layer}.weight"], [f"conv{layer}"], name=f"conv{layer}", pads=[1, 1, 1, 1]))
        last = f"conv{layer}"
        if batch_norm or layer == "1":
            parts = [f"bn{layer}.{name}" for name in ("scale", "bias", "mean", "var")]
            nodes.append(node("BatchNormalization", [last, *parts], [f"bn{layer}"], name=f"bn{layer}", epsilon=epsilon))
            last = f"bn{layer}"
        nodes.append(node("Relu", [last], [f"relu{layer}"], name=f"relu{layer}"))
        last = f"relu{layer}"
    nodes += [
        node("ReduceMean", [last], ["mean"], name="mean", axes=[2, 3], keepdims=0),
        node("Gemm", ["mean", "dense.weight", "dense.bias"], ["y"], name="dense"),
    ]
    weights = {name: array for name, array in weights.items() if batch_norm or not name.startswith("bn2")}
    return make_model(nodes, [("image", "float32", ("N", 3, 8, 8))], [("y", "float32", ("N", 4))], weights)


def loudness(*, samples: int | str = "T") -> bytes:
    """x float32 [N, samples] -> y float32 [N, 1]: the mean of the squares."""
    nodes = [node("Mul", ["x", "x"], ["squares"]), node("ReduceMean", ["squares"], ["y"], axes=[1], keepdims=1)]
    return make_model(nodes, [("x", "float32", ("N", samples))], [("y", "float32", ("N", 1))])


def mel_profile(*, mels: int | str = 16) -> bytes:
    """x float32 [N, mels, T] -> y float32 [N, mels]: the mean of each band over time; the greatest tells how high a tone is."""
    nodes = [node("ReduceMean", ["x"], ["y"], axes=[2], keepdims=0)]
    return make_model(nodes, [("x", "float32", ("N", mels, "T"))], [("y", "float32", ("N", mels))])


def bag_of_tokens(*, vocabulary: int = 64, classes: int = 4, masked: bool = True, seed: int = 0) -> bytes:
    """input_ids int64 [N, T] (and attention_mask) -> logits float32 [N, classes]: the sum of a vector per token.

    Not `masked`, the tokens that pad count like any other: padding changes the answer.
    """
    table = np.random.default_rng(seed).normal(0, 1, (vocabulary, classes)).astype(np.float32)
    nodes = [node("Gather", ["table", "input_ids"], ["vectors"])]
    inputs: list[tuple[str, str, Sequence[int | str]]] = [("input_ids", "int64", ("N", "T"))]
    weights: dict[str, np.ndarray] = {"table": table, "axis": np.array([1], np.int64)}
    last = "vectors"
    if masked:
        inputs.append(("attention_mask", "int64", ("N", "T")))
        weights["two"] = np.array([2], np.int64)
        nodes += [
            node("Cast", ["attention_mask"], ["floats"], to=1),
            node("Unsqueeze", ["floats", "two"], ["weights"]),
            node("Mul", ["vectors", "weights"], ["kept"]),
        ]
        last = "kept"
    nodes.append(node("ReduceSum", [last, "axis"], ["logits"], keepdims=0))
    return make_model(nodes, inputs, [("logits", "float32", ("N", classes))], weights)


def token_vectors(*, vocabulary: int = 64, width: int = 4, seed: int = 0) -> bytes:
    """input_ids and attention_mask int64 [N, T] -> vectors float32 [N, T, width]: one per token, as an encoder gives them."""
    table = np.random.default_rng(seed).normal(0, 1, (vocabulary, width)).astype(np.float32)
    nodes = [node("Gather", ["table", "input_ids"], ["vectors"])]
    inputs = [("input_ids", "int64", ("N", "T")), ("attention_mask", "int64", ("N", "T"))]
    return make_model(nodes, inputs, [("vectors", "float32", ("N", "T", width))], {"table": table})


def linear(*, features: int) -> bytes:
    """x float32 [N, features] -> y float32 [N, 1]: the sum of the features, each times its place from 1."""
    weights = {"w": np.arange(1, features + 1, dtype=np.float32)[:, None]}
    return make_model([node("MatMul", ["x", "w"], ["y"])], [("x", "float32", ("N", features))], [("y", "float32", ("N", 1))], weights)


def random_noise() -> bytes:
    """x float32 [N, 2] -> y = x + noise, different at each run."""
    nodes = [node("RandomNormalLike", ["x"], ["noise"]), node("Add", ["x", "noise"], ["y"])]
    return make_model(nodes, [("x", "float32", ("N", 2))], [("y", "float32", ("N", 2))])


def external(
    folder: Path, *, location: str = "weights.bin", name: str = "model.onnx", payload: bytes | None = None, **entries: str
) -> Path:
    """Write a model whose [4, 4] float32 weight lies in `location` beside it (x [N, 4] -> y = x @ w); return the model's path.

    `location` goes into the model as it is. The weights are written only where it is a plain name; `payload` replaces them.
    """
    import onnx

    weights = np.arange(16, dtype=np.float32).reshape(4, 4)
    model = onnx.load_from_string(
        make_model([node("MatMul", ["x", "w"], ["y"])], [("x", "float32", ("N", 4))], [("y", "float32", ("N", 4))], {"w": weights})
    )
    refer_outside(model.graph.initializer[0], location, **entries)
    if _PLAIN_NAME.fullmatch(location):
        (folder / location).write_bytes(weights.tobytes() if payload is None else payload)
    return write(folder, model.SerializeToString(), name)


def refer_outside(tensor: Any, location: str, **entries: str) -> None:
    """Make a TensorProto take its data from `location`; `entries` are further keys, as offset and length."""
    tensor.ClearField("raw_data")
    tensor.data_location = 1
    del tensor.external_data[:]
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)


def node(kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
    """An operator of a graph, for `make_model`."""
    from onnx import helper

    return helper.make_node(kind, inputs, outputs, **attributes)


def _value(name: str, dtype: str, shape: Sequence[int | str] | None) -> Any:
    from onnx import helper

    element = np.dtype(object) if dtype == "string" else np.dtype(dtype)
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(element), shape)


def make_model(
    nodes: Sequence[Any],
    inputs: Sequence[tuple[str, str, Sequence[int | str] | None]],
    outputs: Sequence[tuple[str, str, Sequence[int | str] | None]],
    weights: Mapping[str, np.ndarray] | None = None,
) -> bytes:
    """A model of these operators; inputs and outputs are (name, dtype, shape), `weights` are constants by name."""
    from onnx import helper, numpy_helper

    graph = helper.make_graph(
        nodes,
        "tiny",
        [_value(*spec) for spec in inputs],
        [_value(*spec) for spec in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="towline-tiny")
    return bytes(model.SerializeToString())

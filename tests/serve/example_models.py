"""Models that classify and regress, for the tests of TF Serving's examples over REST and gRPC."""

from __future__ import annotations

import dataclasses

import msgspec
import onnx
from onnx import TensorProto, helper
from plane import HonestPlane, OneVersion, version

from towline.core.manifest import Signature, TensorSpec
from towline.testing import tiny_models


def labelled_scores() -> bytes:
    """x float32 [N, 2] -> scores [N, 2]; words string [N, 2] -> classes [N, 2], both unchanged."""
    kinds = {"x": ("scores", TensorProto.FLOAT), "words": ("classes", TensorProto.STRING)}
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [out]) for name, (out, _) in kinds.items()],
        "labelled",
        [helper.make_tensor_value_info(name, kind, ["N", 2]) for name, (_, kind) in kinds.items()],
        [helper.make_tensor_value_info(out, kind, ["N", 2]) for out, kind in kinds.values()],
    )
    model: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    onnx.checker.check_model(model)
    return model


def two_signatures() -> OneVersion:
    """sum_and_product with a signature for each of its outputs."""
    made = version("both", tiny_models.sum_and_product())
    inputs = made.manifest.signature.inputs
    signatures = {
        **made.manifest.signatures,
        **{name: Signature(inputs, (TensorSpec(name, "float32", ("N", 1)),)) for name in ("sum", "product")},
    }
    return dataclasses.replace(made, manifest=msgspec.structs.replace(made.manifest, signatures=signatures))


def with_defaults(made: OneVersion, **values: tuple[float | str, ...]) -> OneVersion:
    """The same where these inputs were features of a parser that knew what stands for a missing one."""
    return dataclasses.replace(made, manifest=msgspec.structs.replace(made.manifest, feature_defaults={"serving_default": values}))


def plane() -> HonestPlane:
    """`two` gives its input back, [N, 2]; `one` the same, [N, 1]; the others are named for their element type or their purpose."""
    wide = {name: version(name, tiny_models.identity(name)) for name in ("float64", "int8", "int64", "uint64", "bool", "string")}
    return HonestPlane(
        version("two", tiny_models.identity()),
        version("named", tiny_models.identity(), labels=("cat", "dog")),
        version("short", tiny_models.identity(), labels=("cat",)),
        version("one", tiny_models.identity("float32", ("N", 1))),
        version("flat", tiny_models.identity("float32", ("N",))),
        version("free", tiny_models.identity("float32", ("N", "L"))),
        version("image", tiny_models.identity("float32", ("N", "H", "W"))),
        version("fixed", tiny_models.fixed_shape()),
        version("words", labelled_scores()),
        version("add", tiny_models.add_two()),
        version("ids", tiny_models.embedding(rows=3)),
        version("log", tiny_models.logarithm()),
        two_signatures(),
        with_defaults(version("add-default", tiny_models.add_two()), b=(0.5, "inf")),
        with_defaults(version("words-default", labelled_scores()), words=("a", "你")),
        *wide.values(),
    )

"""Write the .tflite files of tests/convert/tflite/ (`python write_tflite_models.py FOLDER`), by the tensorflow environment's Python."""

from __future__ import annotations

import os
import sys
from pathlib import Path

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}

import numpy as np
import tensorflow as tf
from tensorflow.lite.python import schema_py_generated as schema
from tensorflow.lite.tools import flatbuffer_utils

FLOAT = tf.float32


def lite(module: tf.Module, flex: bool = False, **functions: tf.types.experimental.ConcreteFunction) -> bytes:
    """A module with these signatures, converted by way of a SavedModel, which keeps their names."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=functions)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=list(functions))
        converter.experimental_enable_resource_variables = True
        if flex:
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS, tf.lite.OpsSet.SELECT_TF_OPS]
        return bytes(converter.convert())


def weights(*shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(len(shape)).normal(size=shape).astype(np.float32))


def spec(*shape: int | None, dtype: tf.DType = FLOAT, name: str = "x") -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype, name=name)


class Classifier(tf.Module):
    """Two signatures over the same weights."""

    def __init__(self) -> None:
        self.first, self.second = weights(8, 4), weights(4, 3)

    @tf.function(input_signature=[spec(None, 8)])
    def classify(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": tf.nn.softmax(tf.nn.relu(x @ self.first) @ self.second)}

    @tf.function(input_signature=[spec(None, 8)])
    def features(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"hidden": tf.nn.relu(x @ self.first)}


class Counter(tf.Module):
    """Keeps a sum from one request to the next."""

    def __init__(self) -> None:
        self.total = tf.Variable(0.0)

    @tf.function(input_signature=[spec(1)])
    def add(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        self.total.assign_add(x[0])
        return {"total": self.total.read_value()}


class Rounds(tf.Module):
    """Doubles 1.0 as often as it is told to, and forgets it again."""

    @tf.function(input_signature=[spec(1, dtype=tf.int32, name="rounds")])
    def go(self, rounds: tf.Tensor) -> dict[str, tf.Tensor]:
        start = (tf.constant(0), tf.constant([1.0]))
        count, x = tf.while_loop(lambda i, x: i < rounds[0], lambda i, x: (i + 1, tf.math.sin(x) + x), start)
        return {"count": tf.reshape(count, [1]), "x": x}


class Special(tf.Module):
    """Needs an operator that only TensorFlow itself has."""

    @tf.function(input_signature=[spec(2, 2)])
    def go(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.linalg.inv(x)}


class Words(tf.Module):
    @tf.function(input_signature=[spec(None, dtype=tf.string, name="words")])
    def go(self, words: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"is_yes": tf.equal(words, "yes"), "again": tf.gather(words, tf.range(tf.shape(words)[0]))}


def int8_convolution() -> bytes:
    """A picture of 6 x 6 to 4 classes, every tensor int8."""
    tf.keras.utils.set_random_seed(0)
    model = tf.keras.Sequential(
        [
            tf.keras.layers.Input((6, 6, 1), name="picture"),
            tf.keras.layers.Conv2D(4, 3, activation="relu"),
            tf.keras.layers.GlobalAveragePooling2D(),
            tf.keras.layers.Dense(4, name="scores"),
        ]
    )
    rng = np.random.default_rng(0)
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([rng.uniform(-1, 1, (1, 6, 6, 1)).astype(np.float32)] for _ in range(50))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return bytes(converter.convert())


def recurrent() -> bytes:
    """One recurrent layer as converters of TensorFlow 1 and 2 fused it: LiteRT keeps what it remembers in a variable tensor."""
    rng = np.random.default_rng(0)
    model = schema.ModelT()
    model.version, model.description = 3, "by hand"
    model.buffers, model.subgraphs = [schema.BufferT()], [schema.SubGraphT()]
    (graph,) = model.subgraphs
    graph.tensors = []

    def tensor(name: str, shape: list[int], values: np.ndarray | None = None, is_variable: bool = False) -> int:
        one = schema.TensorT()
        one.name, one.shape, one.type, one.isVariable, one.buffer = name, shape, schema.TensorType.FLOAT32, is_variable, 0
        if values is not None:
            held = schema.BufferT()
            held.data = np.frombuffer(values.astype(np.float32).tobytes(), np.uint8)
            model.buffers.append(held)
            one.buffer = len(model.buffers) - 1
        graph.tensors.append(one)
        return len(graph.tensors) - 1

    x = tensor("x", [1, 4, 2])
    constants = [tensor(name, [*shape], rng.normal(size=shape)) for name, shape in (("w", (3, 2)), ("u", (3, 3)), ("b", (3,)))]
    state, y = tensor("state", [1, 3], is_variable=True), tensor("y", [1, 4, 3])
    code, operator = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.UNIDIRECTIONAL_SEQUENCE_RNN
    code.version, model.operatorCodes = 1, [code]
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, [x, *constants, state], [y]
    operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.SequenceRNNOptions, schema.SequenceRNNOptionsT()
    operator.builtinOptions.fusedActivationFunction = schema.ActivationFunctionType.TANH
    graph.operators, graph.inputs, graph.outputs = [operator], [x], [y]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def without_signatures(raw: bytes) -> bytes:
    """As converters of TensorFlow 1 wrote files."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(raw))
    model.signatureDefs = []
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def in_a_circle(raw: bytes) -> bytes:
    """The loop's body runs the loop."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(raw))
    for graph in model.subgraphs:
        for operator in graph.operators:
            if isinstance(operator.builtinOptions, schema.WhileOptionsT):
                operator.builtinOptions.bodySubgraphIndex = 0
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def main(folder: Path) -> None:
    classifier, counter, rounds, special, words = Classifier(), Counter(), Rounds(), Special(), Words()
    loop = lite(rounds, serving_default=rounds.go.get_concrete_function())
    both = lite(
        classifier,
        serving_default=classifier.classify.get_concrete_function(),
        features=classifier.features.get_concrete_function(),
    )
    one = lite(classifier, serving_default=classifier.classify.get_concrete_function())
    files = {
        "classifier": both,
        "unnamed": without_signatures(one),
        "int8": int8_convolution(),
        "recurrent": recurrent(),
        "counter": lite(counter, serving_default=counter.add.get_concrete_function()),
        "rounds": loop,
        "circle": in_a_circle(loop),
        "flex": lite(special, flex=True, serving_default=special.go.get_concrete_function()),
        "words": lite(words, serving_default=words.go.get_concrete_function()),
    }
    for name, raw in files.items():
        (folder / f"{name}.tflite").write_bytes(raw)
        print(name, len(raw))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

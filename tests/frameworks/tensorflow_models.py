"""Write what a training with TensorFlow or Keras leaves behind, small: `python tensorflow_models.py FOLDER`, in the environment."""

import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}

import h5py
import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

ARCH = """
import keras

def build(width=4):
    image = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(width, 3, use_bias=False, name="conv")(image)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, keras.layers.Dense(3, activation="softmax", name="probs")(x))

def build_keras2():
    image = keras.Input((4, 4, 1), name="image")
    x = keras.layers.Conv2D(2, 3, use_bias=False, name="conv")(image)
    x = keras.layers.ReLU(name="relu")(keras.layers.BatchNormalization(name="bn")(x))
    return keras.Model(image, keras.layers.Dense(3, activation="softmax", name="probs")(keras.layers.Flatten(name="flat")(x)))

class Unbuilt(keras.Model):
    def __init__(self):
        super().__init__()
        self.inner = keras.layers.Dense(2, name="inner")

    def call(self, x):
        return self.inner(x)
"""


class Many(tf.Module):
    """Two signatures, a table, text, an operation that ONNX does not have, and names that are no names of arguments."""

    def __init__(self, model: keras.Model) -> None:
        super().__init__()
        self.model = model
        keys, values = tf.constant(["cat", "dog"]), tf.constant([7, 9], tf.int64)
        self.seen = tf.Variable(0.0)
        self.table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, values), -1)

    @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32, name="image")])
    def classify(self, image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probs": self.model(image, training=False)}

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, name="x"), tf.TensorSpec([], tf.float32, name="factor")])
    def scale(self, x: tf.Tensor, factor: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * factor}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="text")])
    def read(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"upper": tf.strings.upper(text), "bytes": tf.strings.length(text), "id": self.table.lookup(text)}

    @tf.function(input_signature=[tf.TensorSpec([None, 3, 3], tf.float32, name="m")])
    def singular(self, m: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"values": tf.linalg.svd(m, compute_uv=False)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def learn(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"seen": self.seen.assign_add(tf.reduce_sum(x))}

    @tf.function(input_signature=[tf.TensorSpec([], tf.int64, name="turns")])
    def spin(self, turns: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"turned": tf.while_loop(lambda n: n < turns, lambda n: [n + 1], [tf.constant(0, tf.int64)])[0]}


def trained(folder: Path) -> keras.Model:
    keras.utils.set_random_seed(3)
    space: dict[str, Callable[..., keras.Model]] = {}
    exec(compile(ARCH, "arch.py", "exec"), space)
    (folder / "arch.py").write_text(ARCH)
    model = space["build"]()
    model.compile("adam", "sparse_categorical_crossentropy")
    images = np.random.default_rng(3).random((48, 8, 8, 3), np.float32)
    model.fit(images, np.arange(48) % 3, epochs=2, verbose=0)
    return model


def write_keras(model: keras.Model, folder: Path) -> None:
    model.save(folder / "model.keras")
    model.save(folder / "model.h5")
    model.save_weights(folder / "only.weights.h5")
    left, right = keras.Input((4,), name="left"), keras.Input((None, 4), name="right")
    both = keras.layers.Concatenate(name="both")([left, keras.layers.LSTM(3, name="lstm")(right)])
    outputs = {"mean": keras.ops.mean(both, axis=1), "sum-of": keras.layers.Dense(2, name="sum-of")(both)}
    keras.Model({"left": left, "right": right}, outputs).save(folder / "structured.keras")
    step = keras.Input(batch_shape=(1, 2, 3), name="step")
    keras.Model(step, keras.layers.GRU(2, stateful=True, name="remembers")(step)).save(folder / "stateful.keras")
    picture = keras.Input((12, 12, 3), name="picture")
    first = keras.layers.Conv2D(8, 3, padding="same", activation="relu")(picture)
    deep = keras.layers.ReLU()(keras.layers.BatchNormalization()(keras.layers.DepthwiseConv2D(3, padding="same")(first)))
    joined = keras.layers.Concatenate()([keras.layers.Add()([first, keras.layers.Conv2D(8, 1)(deep)]), first])
    last = keras.layers.Conv2D(4, 3, activation="swish")(keras.layers.MaxPooling2D()(joined))
    keras.Model(picture, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling2D()(last))).save(folder / "pictures.keras")
    tf.train.Checkpoint(model=model).write(str(folder / "tf2" / "model.ckpt"))


def write_saved_models(model: keras.Model, folder: Path) -> None:
    many = Many(model)
    tf.saved_model.save(many, str(folder / "two"), signatures={"serving_default": many.classify, "scale": many.scale})
    tf.saved_model.save(many, str(folder / "text"), signatures={"serving_default": many.read})
    tf.saved_model.save(many, str(folder / "svd"), signatures={"serving_default": many.singular})
    tf.saved_model.save(many, str(folder / "learning"), signatures={"serving_default": many.scale, "learn": many.learn})
    tf.saved_model.save(many, str(folder / "remembering"), signatures={"serving_default": many.learn})
    tf.saved_model.save(many, str(folder / "spin"), signatures={"serving_default": many.spin})
    model.export(str(folder / "exported"), verbose=False)


def write_graph(model: keras.Model, folder: Path) -> None:
    spec = tf.TensorSpec([None, 8, 8, 3], tf.float32, name="image")
    function = tf.function(lambda image: (model(image, training=False), image * 0.5)).get_concrete_function(spec)
    graph = convert_variables_to_constants_v2(function).graph.as_graph_def()
    (folder / "frozen.pb").write_bytes(graph.SerializeToString())


def write_session(folder: Path) -> None:
    """A model of TensorFlow 1, with its loss, its optimizer and a second saver."""
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 4], name="x")
        labels = v1.placeholder(tf.int64, [None], name="labels")
        hidden = tf.nn.relu(tf.matmul(x, v1.get_variable("w", [4, 5], use_resource=False)) + v1.get_variable("b", [5], use_resource=True))
        logits = tf.matmul(hidden, v1.get_variable("v", [5, 3], partitioner=v1.fixed_size_partitioner(2), use_resource=False))
        tf.nn.softmax(logits, name="probs")
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits), name="loss")
        train = v1.train.AdamOptimizer().minimize(loss)
        session.run(v1.global_variables_initializer())
        for _ in range(3):
            session.run(train, {x: np.eye(4, dtype=np.float32), labels: [0, 1, 2, 0]})
        asked = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
        np.savez(folder / "tf1.npz", x=asked, probs=session.run("probs:0", {x: asked}))
        v1.train.Saver().save(session, str(folder / "tf1" / "model.ckpt"))
        v1.saved_model.simple_save(session, str(folder / "session"), {"x": x}, {"probs": session.graph.get_tensor_by_name("probs:0")})


def write_hostile(folder: Path) -> None:
    write_hostile_graphs(folder / "hostile")
    edit = folder / "hostile" / "asset"
    shutil.copytree(folder / "text", edit)
    saved = saved_model_pb2.SavedModel.FromString((edit / "saved_model.pb").read_bytes())
    saved.meta_graphs[0].asset_file_def.add(filename="../../../canary").tensor_info.name = "x:0"
    (edit / "saved_model.pb").write_bytes(saved.SerializeToString())
    x = keras.Input((4,), name="x")
    with_code = keras.Model(x, keras.layers.Lambda(lambda t: t * 2, output_shape=(4,), name="evil")(x))
    with_code.save(folder / "hostile" / "lambda.keras")
    with_code.save(folder / "hostile" / "lambda.h5")
    linked = folder / "hostile" / "linked.h5"
    shutil.copyfile(folder / "model.h5", linked)
    with h5py.File(linked, "r+") as file:
        del file["model_weights"]["probs"]
        file["model_weights"]["probs"] = h5py.ExternalLink(str(folder / "model.h5"), "/model_weights/probs")
    _torn(folder)


def write_hostile_graphs(folder: Path) -> None:
    """One SavedModel per operation that reaches out; `saver` has one in the place of its saver's restoring."""
    place = tf.constant(str(folder / "canary"))
    reach_out = {
        "ReadFile": lambda x: tf.io.read_file(place),
        "WriteFile": lambda x: _after(tf.raw_ops.WriteFile(filename=place, contents="written"), x),
        "MatchingFiles": lambda x: tf.io.matching_files(place),
        "PrintV2": lambda x: _after(tf.print("written", output_stream=f"file://{folder}/canary"), x),
        "SaveV2": lambda x: _after(tf.raw_ops.SaveV2(prefix=place, tensor_names=["x"], shape_and_slices=[""], tensors=[x]), x),
        "RestoreV2": lambda x: tf.raw_ops.RestoreV2(prefix=place, tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32])[0],
        "WholeFileReaderV2": lambda x: _after(tf.raw_ops.WholeFileReaderV2(), x),
        "EagerPyFunc": lambda x: tf.py_function(lambda t: t, [x], tf.float32),
    }
    for op, body in reach_out.items():
        module = tf.Module()
        module.f = _signature(body)
        tf.saved_model.save(module, str(folder / op), signatures={"serving_default": module.f.get_concrete_function()})
    _hide(folder / "WriteFile", folder / "orphan")


def _signature(body: Callable[[tf.Tensor], tf.Tensor]) -> tf.types.experimental.PolymorphicFunction:
    return tf.function(lambda x: {"y": body(x)}, input_signature=[tf.TensorSpec([None], tf.float32, name="x")])


def _after(op: object, x: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([op] if op is not None else []):
        return tf.identity(x)


def _hide(source: Path, target: Path) -> None:
    """The same graph, with the operation only in a function that nothing calls, and a saver that does."""
    shutil.copytree(source, target)
    saved = saved_model_pb2.SavedModel.FromString((target / "saved_model.pb").read_bytes())
    graph = saved.meta_graphs[0].graph_def
    guilty = next(one for one in graph.library.function if any(node.op == "WriteFile" for node in one.node_def))
    saver = saved.meta_graphs[0].saver_def
    for node in graph.node:
        if node.name == saver.restore_op_name:
            kept = [one for one in graph.library.function if one.signature.name != node.attr["f"].func.name]
            node.attr["f"].func.name = guilty.signature.name
        elif node.attr["f"].func.name == guilty.signature.name:
            node.attr["f"].func.name = ""
    del graph.library.function[:]
    graph.library.function.extend(kept)
    (target / "saved_model.pb").write_bytes(saved.SerializeToString())


def _torn(folder: Path) -> None:
    for name in ("model.keras", "model.h5", "frozen.pb"):
        raw = (folder / name).read_bytes()
        (folder / "hostile" / f"torn-{name}").write_bytes(raw[: len(raw) // 2])
    shutil.copytree(folder / "two", folder / "hostile" / "torn")
    variables = folder / "hostile" / "torn" / "variables" / "variables.data-00000-of-00001"
    variables.write_bytes(variables.read_bytes()[:-9])
    with zipfile.ZipFile(folder / "hostile" / "more.keras", "w") as archive:
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {}}))
        archive.writestr("../canary", "written")


def main(folder: Path) -> None:
    model = trained(folder)
    write_keras(model, folder)
    write_saved_models(model, folder)
    write_graph(model, folder)
    write_session(folder)
    write_hostile(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))

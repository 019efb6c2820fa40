"""Run by the environments torch and tensorflow: `python migration_sources.py torch|tensorflow FOLDER` writes what other servers served."""

import json
import sys
import zipfile
from pathlib import Path

import numpy as np

# With torchvision's parts, as the models of TorchServe's own examples.
CODE = """
import torch
from torchvision.ops.misc import Conv2dNormActivation


class Colours(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.features = Conv2dNormActivation(3, 4, stride=4)
        self.head = torch.nn.Linear(4, 6)

    def forward(self, picture):
        return self.head(self.features(picture).mean(dim=(2, 3)))
"""
# As torchvision's segmenters answer, with fewer pixels.
PIXELS = """
import torch


class Pixels(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scores = torch.nn.Conv2d(3, 5, 8, stride=8)
        self.auxiliary = torch.nn.Conv2d(3, 5, 32, stride=32)

    def forward(self, picture):
        return {"out": 4 * self.scores(picture), "aux": self.auxiliary(picture)}
"""
# Features of regress_with_defaults; what some of them lack, its parser fills in.
EXAMPLES = [{"x": 1.5}, {"x": 1.5, "weights": [2.0, 0.25]}, {"x": 2.0, "sign": 1}]
NAMES = {str(place): name for place, name in enumerate(("red", "green", "blue", "cyan", "magenta", "yellow"))}
SCRIPT_CONFIG = """
platform: "pytorch_libtorch"
max_batch_size: 8
input [ { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 10 ] } ]
output [ { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 4 ] } ]
"""


def write_archive(store: Path, name: str, handler: str, code: str, **more: str) -> None:
    import torch

    from towline.convert.torch.making import torchvision_models

    torchvision_models()
    scope: dict = {}
    exec(code, scope)
    torch.manual_seed(4)
    model = scope[name.title()]()
    for key, values in model.named_buffers():
        if "running" in key:
            torch.nn.init.uniform_(values, 0.5, 2)
    manifest = {"modelName": name, "serializedFile": "weights.pt", "modelFile": "model.py", "handler": handler, "modelVersion": "1.0"}
    with zipfile.ZipFile(store / f"{name}.mar", "w") as archive:
        for file, text in {"MAR-INF/MANIFEST.json": json.dumps({"model": manifest}), "model.py": code, **more}.items():
            archive.writestr(file, text)
        with archive.open("weights.pt", "w") as weights:
            torch.save(model.state_dict(), weights)


def write_torch(folder: Path) -> None:
    import torch

    store = folder / "store"
    store.mkdir()
    write_archive(store, "colours", "image_classifier", CODE, **{"index_to_name.json": json.dumps(NAMES)})
    write_archive(store, "pixels", "image_segmenter", PIXELS)
    torch.manual_seed(5)
    scripted = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(10, 8), torch.nn.Tanh(), torch.nn.Linear(8, 4)).eval())
    place = folder / "repository" / "script" / "1"
    place.mkdir(parents=True)
    torch.jit.save(scripted, place / "model.pt")
    (place.parent / "config.pbtxt").write_text(SCRIPT_CONFIG)
    x = np.linspace(-1, 1, 20, dtype=np.float32).reshape(2, 10)
    np.save(folder / "script.npy", scripted(torch.from_numpy(x)).detach().numpy())


def write_tensorflow(folder: Path) -> None:
    import tensorflow as tf

    class Scaled(tf.Module):
        def __init__(self) -> None:
            self.weights = tf.Variable(np.linspace(-1, 1, 40, dtype=np.float32).reshape(10, 4))

        @tf.function(input_signature=[tf.TensorSpec((None, 10), tf.float32, name="features")])
        def __call__(self, features):
            return {"scores": tf.nn.softmax(features @ self.weights)}

    model = Scaled()
    place = folder / "models" / "scaled" / "42"
    tf.saved_model.save(model, str(place), signatures={"serving_default": model.__call__})
    x = np.linspace(-1, 1, 20, dtype=np.float32).reshape(2, 10)
    np.save(folder / "scaled.npy", model(x)["scores"].numpy())
    results = write_half_plus(2.0, folder / "models" / "half_plus_two" / "00000123", with_defaults=True).tolist()
    (folder / "with_defaults.json").write_text(json.dumps({"examples": EXAMPLES, "results": results}))
    write_half_plus(3.0, folder / "half_plus_three")


def write_half_plus(amount: float, place: Path, *, with_defaults: bool = False) -> np.ndarray:
    """As TensorFlow Serving's own saved_model_half_plus_two.py: TensorFlow 1, and signatures that parse examples. Returns what one with
    defaults gives for EXAMPLES.
    """
    import tensorflow as tf

    v1 = tf.compat.v1
    info, signature = v1.saved_model.utils.build_tensor_info, v1.saved_model.signature_def_utils.build_signature_def
    with v1.Session(graph=v1.Graph()) as session:
        half, more = v1.get_variable("a", initializer=0.5), v1.get_variable("b", initializer=amount)
        serialized = v1.placeholder(tf.string, [None], name="tf_example")
        features = {"x": v1.FixedLenFeature([1], tf.float32), "x2": v1.FixedLenFeature([1], tf.float32, default_value=[0.0])}
        x = tf.identity(v1.parse_example(serialized, features)["x"], name="x")
        y = tf.add(half * x, more, name="y")
        old = tf.raw_ops.ParseExample(
            serialized=serialized, names=[], sparse_keys=[], dense_keys=["x"], dense_defaults=[[]], sparse_types=[], dense_shapes=[[1]]
        )
        weighed = v1.parse_example(
            serialized,
            {
                "x": v1.FixedLenFeature([1], tf.float32),
                "weights": v1.FixedLenFeature([2], tf.float32, default_value=[0.75, float("inf")]),
                "sign": v1.FixedLenFeature([], tf.int64, default_value=-1),
            },
        )
        sign = tf.expand_dims(tf.cast(weighed["sign"], tf.float32), 1)
        result = sign * weighed["x"] * weighed["weights"][:, :1] + tf.minimum(weighed["weights"][:, 1:], 7.0)
        words = v1.parse_example(serialized, {"words": v1.VarLenFeature(tf.string)})["words"]
        signatures = {
            "serving_default": signature({"x": info(x)}, {"y": info(y)}, v1.saved_model.PREDICT_METHOD_NAME),
            "regress_x_to_y": signature({"inputs": info(serialized)}, {"outputs": info(y)}, v1.saved_model.REGRESS_METHOD_NAME),
            "regress_by_the_old_parser": signature(
                {"inputs": info(serialized)}, {"outputs": info(half * old.dense_values[0])}, v1.saved_model.REGRESS_METHOD_NAME
            ),
            "count_words": signature(
                {"inputs": info(serialized)}, {"outputs": info(tf.shape(words.values))}, v1.saved_model.PREDICT_METHOD_NAME
            ),
            "classify_x_to_y": signature({"inputs": info(serialized)}, {"scores": info(y)}, v1.saved_model.CLASSIFY_METHOD_NAME),
        }
        if with_defaults:
            signatures["regress_with_defaults"] = signature(
                {"inputs": info(serialized)}, {"outputs": info(result)}, v1.saved_model.REGRESS_METHOD_NAME
            )
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.builder.SavedModelBuilder(str(place))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=signatures)
        builder.save()
        examples = [tf.train.Example(features=tf.train.Features(feature=_features(one))).SerializeToString() for one in EXAMPLES]
        return np.ravel(session.run(result, {serialized: examples}))


def _features(example: dict) -> dict:
    import tensorflow as tf

    def feature(value) -> "tf.train.Feature":
        values = value if isinstance(value, list) else [value]
        if isinstance(values[0], int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))

    return {name: feature(value) for name, value in example.items()}


{"torch": write_torch, "tensorflow": write_tensorflow}[sys.argv[1]](Path(sys.argv[2]))

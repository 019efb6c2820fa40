"""What a Keras file says it is made of, judged and unwrapped before Keras sees it. Pure: JSON in, JSON out.

Refused by the layer's name: code in the file (Lambda), classes of others, and whatever a loader would have to look up outside of Keras'
own layers. Wrappers of the TensorFlow Model Optimization Toolkit are taken off: what they wrap is the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from towline.convert import wording
from towline.core.errors import ImportRefused

MAX_DEPTH = 64
_PRUNING = ("PruneLowMagnitude",)
_QUANTIZING = ("QuantizeWrapper", "QuantizeWrapperV2", "QuantizeAnnotate")
# An activation in the place of another one.
_ACTIVATIONS = ("QuantizeAwareActivation", "NoOpActivation")
_CLUSTERING = ("ClusterWeights",)
# Layers of Keras' own that run what is not in it.
_RUNS_CODE = ("Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "__lambda__")
_OPERATIONS = ("TFOpLambda", "SlicingOpLambda", "TensorFlowOpLayer", "ClassMethod", "InstanceMethod", "InstanceProperty")
_SPACES = ("layers", "models", "initializers", "regularizers", "constraints", "dtype_policies")
# Values that Keras writes as if they were objects.
_VALUES = ("__keras_tensor__", "__tensor__", "__numpy__", "__bytes__", "__ellipsis__", "__slice__", "__tuple__", "__complex__")

# Whether Keras has a class of this name: (namespace, name) such as ("layers", "Dense"). An empty namespace: in any.
IsKerass = Callable[[str, str], bool]


@dataclass(frozen=True)
class Judged:
    """`config` is without wrappers, its modules those of Keras 3. `stripped` maps the names of layers that
    were wrapped to their wrappers' class."""

    config: dict[str, Any]
    stripped: Mapping[str, str]

    @property
    def notes(self) -> tuple[str, ...]:
        pruned = sum(kind in _PRUNING for kind in self.stripped.values())
        quantized = len(self.stripped) - pruned
        notes = []
        if pruned:
            notes.append(f"Pruning wrappers were taken off {_layers(pruned)}; their weights stay as they were pruned.")
        if quantized:
            notes.append(
                f"Quantisation wrappers were taken off {_layers(quantized)}: what answers is the float model that was trained with them."
            )
        return tuple(notes)


def _layers(count: int) -> str:
    return "one layer" if count == 1 else f"{count} layers"


def judge(config: Mapping[str, Any], is_kerass: IsKerass, *, trusted: bool = False) -> Judged:
    """The config of a model, unwrapped. Raises ImportRefused for the first object in it that may not be loaded.

    `trusted` lets code that is in the file pass.
    """
    stripped: dict[str, str] = {}
    unwrapped = _unwrapped(dict(config), stripped, 0)
    for described, layer in _objects(unwrapped, ""):
        _judge(described, layer, is_kerass, trusted)
    return Judged(unwrapped, stripped)


def _objects(value: Any, layer: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Every description of an object, with the name of the layer it belongs to. What belongs to training is never loaded."""
    if isinstance(value, Mapping):
        inner = value.get("config")
        if isinstance(value.get("class_name"), str):
            if isinstance(inner, Mapping) and isinstance(inner.get("name"), str) and value["class_name"] not in ("DTypePolicy", "Policy"):
                layer = inner["name"]
            yield value, layer
        for key, one in value.items():
            if key != "compile_config":
                yield from _objects(one, layer)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _objects(one, layer)


def _judge(described: Mapping[str, Any], layer: str, is_kerass: IsKerass, trusted: bool) -> None:
    kind = described["class_name"]
    module = described.get("module")
    if kind in _VALUES:
        return
    if kind in _RUNS_CODE or (kind == "function" and not _is_plain_function(described, is_kerass)):
        if trusted:
            return
        raise ImportRefused(
            f"Layer {wording.name(layer or kind)} is a {wording.name(kind)}: it runs code that is in the file.",
            code="RUNS_CODE",
            field=layer,
            hint="Export the model where its code is: model.export('folder'), and import that SavedModel;"
            " or, if you vouch for the file, add --trust-this-file.",
        )
    if kind == "function":
        return
    if kind in _CLUSTERING:
        raise ImportRefused(
            f"Layer {wording.name(layer)} is still clustered ({kind}).",
            code="STILL_WRAPPED",
            field=layer,
            hint="Take the wrappers off where it was made: tfmot.clustering.keras.strip_clustering(model).save(…)",
        )
    if kind in _OPERATIONS:
        raise ImportRefused(
            f"Layer {wording.name(layer)} is an operation of TensorFlow's own ({kind}), which only Keras 2 could put into a file.",
            code="UNSUPPORTED_LAYER",
            field=layer,
            hint="Save it as a SavedModel where it was made: model.export('folder') or tf.saved_model.save(model, 'folder').",
        )
    if not is_kerass(_namespace(module), kind):
        raise ImportRefused(
            f"Layer {wording.name(layer or kind)} needs {wording.name(kind)}, a class that is not Keras' own.",
            code="CUSTOM_OBJECT",
            field=layer,
            hint="Export the model where its code is: model.export('folder'), and import that SavedModel; or give --arch file.py:function "
            "that builds the model, to load the weights into.",
        )


def _namespace(module: object) -> str:
    """`layers` for keras.layers and keras.src.layers.core.dense; empty where the file does not tell, as that of Keras 2."""
    if module in (None, "", "builtins"):
        return ""
    parts = str(module).split(".")
    if parts[0] not in ("keras", "tf_keras"):
        return "not Keras"
    rest = [part for part in parts[1:] if part not in ("src", "engine")]
    return rest[0] if rest else "keras"


def _todays(module: str) -> str:
    """The module as Keras 3 has it, of what Keras 2 wrote: tf_keras.src.engine.functional, keras.src.layers.core.dense."""
    if module.split(".")[0] not in ("keras", "tf_keras"):
        return module
    space = _namespace(module)
    if space in ("functional", "sequential"):
        return f"keras.src.models.{space}"
    return f"keras.{space}" if module.startswith("tf_keras.") and space in _SPACES else module


def _is_plain_function(described: Mapping[str, Any], is_kerass: IsKerass) -> bool:
    """A function by name that is one of Keras' activations."""
    name = described.get("config")
    return isinstance(name, str) and is_kerass("activations", name)


# Wrappers of the Model Optimization Toolkit


def _unwrapped(value: Any, stripped: dict[str, str], depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise ImportRefused("The model's parts lie too deep in one another.", code="LIMIT_EXCEEDED")
    if isinstance(value, list):
        return [_unwrapped(one, stripped, depth + 1) for one in value]
    if not isinstance(value, dict):
        return value
    kind, config = value.get("class_name"), value.get("config")
    if kind in _ACTIVATIONS:
        inner = config.get("activation") if isinstance(config, dict) else None
        return _unwrapped(inner, stripped, depth + 1) if inner is not None else "linear"
    if isinstance(kind, str) and isinstance(config, dict):
        axis = config.get("axis")
        if kind == "BatchNormalization" and isinstance(axis, list) and len(axis) == 1:
            # Keras 2 wrote a list, of which Keras 3 makes nothing.
            value = {**value, "config": {**config, "axis": axis[0]}}
        value = {**value, "module": _todays(value["module"])} if isinstance(value.get("module"), str) else value
        inner = _without_wrapper(value, kind.rpartition(">")[2], config, stripped)
        if inner is not value:
            return _unwrapped(inner, stripped, depth + 1)
    return {key: _unwrapped(one, stripped, depth + 1) for key, one in value.items()}


def _without_wrapper(value: dict[str, Any], kind: str, config: dict[str, Any], stripped: dict[str, str]) -> dict[str, Any]:
    """The wrapped layer under its wrapper's name, by which the other layers and the weights know it."""
    name = str(config.get("name", ""))
    if kind == "QuantizeLayer":
        inner: Any = {"class_name": "Activation", "config": {"name": name, "activation": "linear", "dtype": "float32"}}
        if "batch_input_shape" in config:
            inner["config"]["batch_input_shape"] = config["batch_input_shape"]
    elif kind in _PRUNING + _QUANTIZING:
        inner = config.get("layer")
    else:
        return value
    if not isinstance(inner, dict) or not isinstance(inner.get("config"), dict):
        raise ImportRefused(f"The wrapper {wording.name(name)} ({kind}) wraps no layer.", code="BAD_CONFIG", field=name)
    stripped[name] = kind
    own = {"name": name}
    if "batch_input_shape" in config:
        own["batch_input_shape"] = config["batch_input_shape"]
    kept = {key: one for key, one in value.items() if key in ("name", "inbound_nodes")}
    where = {key: inner[key] for key in ("module", "registered_name", "build_config") if key in inner}
    return {**where, **kept, "class_name": inner["class_name"], "config": {**inner["config"], **own}}

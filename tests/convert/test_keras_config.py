"""What a Keras file says it is made of, judged without Keras: the table of its classes stands in for it."""

from __future__ import annotations

from typing import Any

import pytest

from towline.convert.tensorflow.keras_config import Judged, judge
from towline.core.errors import ImportRefused

KERAS = {
    "layers": {"Dense", "InputLayer", "Lambda", "Activation", "TFSMLayer", "Bidirectional", "LSTM"},
    "models": {"Sequential", "Functional"},
    "initializers": {"Zeros"},
    "activations": {"relu"},
    "keras": {"Sequential", "DTypePolicy"},
}


def is_kerass(namespace: str, name: str) -> bool:
    if namespace:
        return name in KERAS.get(namespace, ())
    return any(name in names for space, names in KERAS.items() if space != "activations")


def layer(kind: str, name: str, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": kind, "config": {"name": name, **config}, "registered_name": None}


def model(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"module": "keras", "class_name": "Sequential", "config": {"name": "net", "layers": list(layers)}}


def judged(*layers: dict[str, Any], trusted: bool = False) -> Judged:
    return judge(model(*layers), is_kerass, trusted=trusted)


def test_layers_of_kerass_own_pass_unchanged() -> None:
    config = model(
        layer("Dense", "first", activation="relu"), layer("Dense", "last", kernel_initializer=layer("Zeros", "", "keras.initializers"))
    )

    assert judge(config, is_kerass) == Judged(config, {})


@pytest.mark.parametrize(
    ("hostile", "code", "name"),
    [
        (layer("Lambda", "evil", function={"class_name": "__lambda__", "config": {"code": "4wEA"}}), "RUNS_CODE", "evil"),
        # CVE-2025-1550, -8747: a function of any module where a layer is expected.
        (layer("run", "shell", "subprocess"), "CUSTOM_OBJECT", "shell"),
        (layer("get_file", "fetch", "keras.utils"), "CUSTOM_OBJECT", "fetch"),
        # CVE-2025-9906: the config itself switches the safe mode off.
        (layer("enable_unsafe_deserialization", "off", "keras.config"), "CUSTOM_OBJECT", "off"),
        (layer("Dense", "f", activation={"class_name": "function", "module": "builtins", "config": "exec"}), "RUNS_CODE", "f"),
        (layer("Dense", "g", activation={"class_name": "function", "module": "os", "config": "system"}), "RUNS_CODE", "g"),
        # CVE-2026-1462: another model, by a path.
        (layer("TFSMLayer", "other", filepath="/tmp/other"), "RUNS_CODE", "other"),
        (layer("Attention2", "mine", "my.code"), "CUSTOM_OBJECT", "mine"),
        (layer("Attention2", "mine", None), "CUSTOM_OBJECT", "mine"),
        (layer("TFOpLambda", "tf.math.add", None), "UNSUPPORTED_LAYER", "tf.math.add"),
        (layer("ClusterWeights", "cluster_dense", None, layer=layer("Dense", "dense")), "STILL_WRAPPED", "cluster_dense"),
    ],
)
def test_what_runs_code_or_is_not_kerass_own_is_refused_by_the_layers_name(hostile: dict[str, Any], code: str, name: str) -> None:
    with pytest.raises(ImportRefused, match=name) as refusal:
        judged(layer("Dense", "first"), hostile)

    assert refusal.value.code == code
    assert refusal.value.field == name
    assert refusal.value.hint


def test_it_is_found_however_deep_it_lies() -> None:
    deep = layer("Bidirectional", "both", layer=layer("LSTM", "in", cell=[{"x": layer("Lambda", "evil")}]))

    with pytest.raises(ImportRefused, match="'evil' is a 'Lambda'"):
        judged(deep)


def test_a_name_that_leaves_the_line_is_escaped() -> None:
    with pytest.raises(ImportRefused) as refusal:
        judged(layer("Lambda", "a\nb\x1b[2J"))

    assert "\n" not in refusal.value.message
    assert "\x1b" not in refusal.value.message


def test_code_passes_when_the_file_is_trusted_and_other_peoples_classes_do_not() -> None:
    assert judged(layer("Lambda", "mine"), trusted=True).stripped == {}
    with pytest.raises(ImportRefused, match="get_file"):
        judged(layer("get_file", "fetch", "keras.utils"), trusted=True)


def test_what_belongs_to_training_is_not_looked_at() -> None:
    config = {**model(layer("Dense", "first")), "compile_config": {"optimizer": layer("MyOptimizer", "o", "my.code")}}

    assert judge(config, is_kerass).stripped == {}


def test_pruning_wrappers_come_off_and_the_wrapped_layer_keeps_their_name() -> None:
    wrapped = layer("PruneLowMagnitude", "prune_low_magnitude_dense", None, layer=layer("Dense", "dense", None, units=3), sparsity=0.5)
    wrapped |= {"name": "prune_low_magnitude_dense", "inbound_nodes": [[["first", 0, 0, {}]]]}

    found = judged(layer("Dense", "first", None), wrapped)

    inner = found.config["config"]["layers"][1]
    assert inner["class_name"] == "Dense"
    assert inner["config"] == {"name": "prune_low_magnitude_dense", "units": 3}
    assert inner["inbound_nodes"] == [[["first", 0, 0, {}]]]
    assert found.stripped == {"prune_low_magnitude_dense": "PruneLowMagnitude"}
    assert "Pruning wrappers were taken off one layer" in found.notes[0]


def test_quantisation_wrappers_come_off_with_their_activations_and_it_is_said() -> None:
    inner = layer("Dense", "dense", None, activation={"class_name": "QuantizeAwareActivation", "config": {"activation": "relu"}})
    wrapped = layer("QuantizeWrapperV2", "quant_dense", None, layer=inner)

    found = judged(layer("QuantizeLayer", "quantize_layer", None), wrapped)

    assert [one["class_name"] for one in found.config["config"]["layers"]] == ["Activation", "Dense"]
    assert found.config["config"]["layers"][1]["config"]["activation"] == "relu"
    assert "the float model" in found.notes[0]


def test_what_keras_2_wrote_is_told_as_keras_3_has_it() -> None:
    config = model(layer("BatchNormalization", "bn", axis=[3])) | {"module": "tf_keras.src.engine.sequential"}

    found = judge(config, lambda namespace, name: namespace in ("layers", "models")).config

    assert found["module"] == "keras.src.models.sequential"
    assert found["config"]["layers"][0]["config"]["axis"] == 3


def test_what_a_wrapper_hides_is_judged_as_well() -> None:
    with pytest.raises(ImportRefused, match="Lambda"):
        judged(layer("PruneLowMagnitude", "prune_evil", None, layer=layer("Lambda", "evil")))


def test_parts_that_lie_too_deep_are_refused() -> None:
    config = layer("Dense", "last")
    for _ in range(100):
        config = layer("Bidirectional", "both", layer=config)

    with pytest.raises(ImportRefused, match="too deep"):
        judged(config)

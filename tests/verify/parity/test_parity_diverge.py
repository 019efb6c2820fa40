"""Where a conversion departs from its source: found among layers that are known by name, or by what they hold."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from onnx import helper

from towline.testing import tiny_models
from towline.verify.parity.advice import advice
from towline.verify.parity.diverge import Layers, first_divergence, first_unmatched
from towline.verify.parity.relation import aligned, relation
from towline.verify.parity.weights import trailing_zeros

IMAGE = np.random.default_rng(1).normal(0, 1, (2, 3, 8, 8)).astype(np.float32)
SHARE = 2.0**-14
WRONG = {
    "wrong epsilon": ({"epsilon": 1e-5}, "bn1", "epsilon looks wrong"),
    "lost batch norm": ({"batch_norm": False}, "bn2", "it is lost in the conversion"),
    "truncated weights": ({"kept": 0.5}, "conv2", "truncated or only partly loaded"),
    "swapped channels": ({"swapped": True}, "conv1", "order of channels"),
}


def inner(model: bytes) -> Layers:
    """Every node's output, by running the graph with all of them as outputs."""
    import onnxruntime

    graph = onnx.load_model_from_string(model)
    names = [(node.output[0], node.op_type) for node in graph.graph.node]
    made = {value.name for value in graph.graph.output}
    graph.graph.output.extend([helper.ValueInfoProto(name=name) for name, _ in names if name not in made])
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    answers = session.run([name for name, _ in names], {"image": IMAGE})
    return [(name, kind, array) for (name, kind), array in zip(names, answers, strict=True)]


GOOD = inner(tiny_models.convolutions())


def test_a_right_conversion_diverges_nowhere():
    layers = {name: output for name, _, output in GOOD}

    assert first_divergence(GOOD, layers) is None
    assert first_unmatched(GOOD, list(layers.values())) is None


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_conversion_is_found_at_its_layer_by_name(what):
    change, layer, said = WRONG[what]
    candidate = {name: output for name, _, output in inner(tiny_models.convolutions(**change))}
    if what == "lost batch norm":
        candidate["bn2"] = candidate["conv2"]

    found = first_divergence(GOOD, candidate)

    assert found.layer == layer
    assert found.before <= SHARE < found.after
    assert said in found.words()


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_conversion_is_found_at_its_layer_by_what_the_layers_hold(what):
    change, layer, said = WRONG[what]
    tensors = [output for _, _, output in inner(tiny_models.convolutions(**change))]

    found = first_unmatched(GOOD, tensors)

    assert found.layer == layer
    assert said in found.words()


def test_a_batch_norm_folded_into_its_convolution_is_no_divergence_and_a_wrong_one_is_told_as_the_batch_norm():
    folded = [output for name, _, output in GOOD if not name.startswith("conv")]
    assert first_unmatched(GOOD, folded) is None

    wrong = [output for name, _, output in inner(tiny_models.convolutions(epsilon=0.1)) if not name.startswith("conv")]
    found = first_unmatched(GOOD, wrong)

    assert (found.layer, found.last_good) == ("bn1", "")
    assert "epsilon looks wrong" in found.advice


def test_three_layers_fused_into_one_tensor_are_no_divergence_and_four_that_differ_are():
    fused = [output for name, _, output in GOOD if name not in ("conv2", "bn2")]
    apart = [output for name, _, output in GOOD if name not in ("conv1", "bn1", "relu1", "conv2")]

    assert first_unmatched(GOOD, fused) is None
    # As in one of two branches: what comes later agrees again.
    assert first_unmatched(GOOD, apart).layer == "conv1"


def test_a_batch_norm_without_a_tensor_behind_a_layer_that_agrees_is_lost_when_the_next_one_differs():
    candidate = {name: output for name, _, output in inner(tiny_models.convolutions(batch_norm=False))}

    found = first_divergence(GOOD, candidate)

    assert (found.layer, found.last_good) == ("bn2", "conv2")
    assert "it is lost in the conversion" in found.advice


def test_a_conversion_with_its_channels_last_agrees():
    layers = {name: np.moveaxis(output, 1, -1) if output.ndim == 4 else output for name, _, output in GOOD}

    assert first_divergence(GOOD, layers) is None
    assert first_unmatched(GOOD, list(layers.values())) is None


def test_layers_that_nobody_knows_are_passed_over_and_the_words_name_both_ends():
    candidate = {"relu1": GOOD[2][2], "dense": GOOD[0][2], "y": GOOD[-1][2] + 1}

    found = first_divergence(GOOD, candidate)

    assert (found.layer, found.kind, found.last_good) == ("y", "Gemm", "relu1")
    assert found.words().startswith("The first layer that departs is 'y' (Gemm): it is off by ")
    assert "'relu1' still agrees. Look at the dense layer" in found.words()


def test_a_layer_that_nothing_can_be_has_no_counterpart():
    found = first_unmatched(GOOD, [np.zeros((1, 2, 3), np.float32)])

    assert (found.layer, found.after, found.last_good) == ("conv1", math.inf, "")
    assert "has no counterpart in the conversion; no layer before it can be compared" in found.words()


PICTURES = np.random.default_rng(2).normal(0, 1, (2, 5, 9, 9)).astype(np.float32)
CHANNELS = np.arange(5, dtype=np.float32)[None, :, None, None]


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        (PICTURES, "equal", ""),
        (PICTURES * np.float32(0.5), "factor", "0.5 times"),
        (PICTURES * (1 - CHANNELS / 100) + CHANNELS, "channel factors", "0.96 to 1 times"),
        (PICTURES[:, ::-1], "channels reordered", "in reverse order"),
        (PICTURES[:, [1, 0, 2, 3, 4]], "channels reordered", "in another order"),
        (np.where(CHANNELS >= 3, np.float32(7), PICTURES), "channels lost", "2 of 5 channels (3 to 4), which say the same"),
        (np.where(CHANNELS >= 3, PICTURES[::-1], PICTURES), "channels lost", "2 of 5 channels (3 to 4)"),
        (np.roll(PICTURES, (-1, -1), (2, 3)), "shift", "moved by 1 down and 1 across"),
        (np.pad(PICTURES[:, :, 1:-1, 1:-1], ((0, 0), (0, 0), (1, 1), (1, 1))), "border", "wrong at the border"),
        (np.random.default_rng(3).normal(0, 1, PICTURES.shape).astype(np.float32), None, ""),
        (np.full_like(PICTURES, np.nan), None, ""),
    ],
)
def test_what_a_tensor_is_to_the_one_it_should_equal_is_told(changed, kind, words):
    for reference, candidate in ((PICTURES, changed), (np.moveaxis(PICTURES, 1, -1), np.moveaxis(changed, 1, -1))):
        found = relation(reference, candidate, SHARE)

        assert (found.kind if found else None) == kind
        assert words in (found.words if found else "")


def test_layouts_are_told_apart_also_where_all_sides_are_alike():
    square = np.random.default_rng(4).normal(0, 1, (1, 4, 4, 4)).astype(np.float32)

    assert np.array_equal(aligned(square, np.moveaxis(square, 1, -1)), square)
    assert aligned(square, np.zeros((1, 4, 5))) is None
    assert np.array_equal(aligned(square, square.reshape(1, 64)), square)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("BatchNorm2d", "training mode"),
        ("LayerNormalization", "epsilon"),
        ("Dropout", "model.eval()"),
        ("Conv2d", "padding"),
        ("DepthwiseConv2D", "padding"),
        ("UpSampling2D", "align_corners"),
        ("MaxPool2d", "ceil_mode"),
        ("GELU", "tanh approximation"),
        ("Softmax", "its axis"),
        ("LeakyReLU", "slope"),
        ("LSTM", "order of gates"),
        ("MultiheadAttention", "mask"),
        ("Embedding", "rows"),
        ("Linear", "weights are whole"),
        ("Flatten", "order of axes"),
        ("Concatenate", "its axis"),
        ("ZeroPadding2D", "amounts"),
        ("MyOwnLayer", "settings of this layer"),
    ],
)
def test_each_kind_of_layer_has_its_advice(kind, said):
    assert said in advice(kind)


def test_zeros_at_the_end_mean_something_only_where_they_are_many():
    assert trailing_zeros(np.array([1.0] * 64 + [0.0] * 64)) == 0.5
    assert trailing_zeros(np.array([1.0] * 64 + [0.0] * 15)) == 0.0
    assert trailing_zeros(np.array([1.0] * 64_000 + [0.0] * 100)) == 0.0
    assert trailing_zeros(np.zeros(64)) == 0.0


def test_channels_that_are_dead_on_both_sides_do_not_make_the_others_lost_ones():
    alive = np.random.default_rng(6).normal(0, 1, PICTURES.shape).astype(np.float32)

    assert relation(np.where(CHANNELS < 2, 0, PICTURES), np.where(CHANNELS < 2, 0, alive), SHARE) is None

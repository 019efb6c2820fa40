"""What PyTorch leaves behind is read by its importer, and each way out of it answers as the source does."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import towline
from towline.convert.files import copy_source

pytestmark = pytest.mark.frameworks
HERE = Path(__file__).parent
TIMEOUT_S = 300


@dataclass(frozen=True)
class Case:
    """What tests/frameworks/torch_cases.py wrote of one source."""

    folder: Path
    told: dict[str, Any]
    arrays: dict[str, np.ndarray]

    def of(self, kind: str) -> dict[str, np.ndarray]:
        return {name.removeprefix(f"{kind}/"): array for name, array in self.arrays.items() if name.startswith(f"{kind}/")}

    def onnx(self, route: str) -> Any:
        return onnx.load(self.folder / self.told["converted"][route]["file"])


@pytest.fixture(scope="module")
def sources(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torch-sources")
    _in_the_environment(environments, "torch_sources.py", folder)
    return folder


@pytest.fixture(scope="module")
def case(environments: Path, sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Case]:
    results = tmp_path_factory.mktemp("torch-results")
    _in_the_environment(environments, "torch_cases.py", sources, results)

    def read(name: str) -> Case:
        arrays = dict(np.load(results / f"{name}.npz")) if (results / f"{name}.npz").exists() else {}
        return Case(results, json.loads((results / f"{name}.json").read_text()), arrays)

    return read


def _in_the_environment(environments: Path, script: str, *words: Path) -> None:
    lent = {**os.environ, "PYTHONPATH": str(Path(towline.__file__).parents[1])}
    command = [environments / "torch/bin/python", HERE / script, *words]
    ran = subprocess.run(command, env=lent, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]


# Equal to the source

ONNX = [
    *((name, "torchscript") for name in ("mlp", "cnn", "recurrent", "fixed", "safetensors", "half", "wrapped", "old")),
    *((name, "torchscript") for name in ("module", "layers", "script", "traced", "frozen")),
    *((name, "dynamo") for name in ("cnn", "encoder", "spectrum", "script", "program")),
]


@pytest.mark.parametrize(("name", "route"), ONNX)
def test_a_graph_answers_as_its_source(case: Callable[[str], Case], name: str, route: str) -> None:
    found = case(name)
    session = onnxruntime.InferenceSession(found.onnx(route).SerializeToString())

    got = dict(zip([one.name for one in session.get_outputs()], session.run(None, found.of("input")), strict=True))

    assert list(got) == [one["name"] for one in found.told["signature"]["outputs"]]
    for output, answer in found.of("answer").items():
        np.testing.assert_allclose(got[output], answer, atol=2e-6)


@pytest.mark.parametrize(("name", "route"), ONNX)
def test_a_graph_has_the_names_and_open_dims_of_its_source(case: Callable[[str], Case], name: str, route: str) -> None:
    found = case(name)
    graph = found.onnx(route).graph

    for kind, values in (("inputs", graph.input), ("outputs", graph.output)):
        declared = [
            {"name": one.name, "shape": [dim.dim_param or dim.dim_value for dim in one.type.tensor_type.shape.dim]} for one in values
        ]
        assert declared == [{"name": one["name"], "shape": one["shape"]} for one in found.told["signature"][kind]]


@pytest.mark.parametrize(
    ("name", "route", "least"), [("cnn", "torchscript", 3), ("cnn", "dynamo", 3), ("encoder", "dynamo", 12), ("program", "dynamo", 8)]
)
def test_a_tensor_that_is_said_to_be_a_layers_is_that_layers_answer(case: Callable[[str], Case], name: str, route: str, least: int) -> None:
    found = case(name)
    tensors = found.told["converted"][route]["layers"]
    model = found.onnx(route)
    known = [one.name for one in model.graph.output]
    model.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in dict.fromkeys(tensors.values()) if tensor not in known)

    session = onnxruntime.InferenceSession(model.SerializeToString())
    got = dict(zip([one.name for one in session.get_outputs()], session.run(None, found.of("input")), strict=True))

    assert len(tensors) >= least
    for layer, tensor in tensors.items():
        np.testing.assert_allclose(got[tensor], found.of("layer")[layer], atol=5e-6, err_msg=layer)


def test_a_folded_batch_norm_has_the_tensor_of_the_layer_before_it(case: Callable[[str], Case]) -> None:
    tensors = case("cnn").told["converted"]["torchscript"]["layers"]

    assert "features.1" in tensors
    assert "features.0" not in tensors


def test_weights_beside_the_graph_are_copied_by_import(case: Callable[[str], Case], tmp_path: Path) -> None:
    found = case("beside")
    file = found.folder / found.told["converted"]["dynamo"]["file"]
    assert sorted(one.name for one in file.parent.iterdir()) == ["model.onnx", "model.onnx.data"]

    copied = copy_source(file, tmp_path)

    session = onnxruntime.InferenceSession(str(tmp_path / copied.model_file))
    for got, answer in zip(session.run(None, found.of("input")), found.of("answer").values(), strict=True):
        np.testing.assert_allclose(got, answer, atol=2e-6)


def test_layers_are_told_in_the_order_in_which_they_ran(case: Callable[[str], Case]) -> None:
    assert list(case("cnn").of("layer")) == ["features.0", "features.1", "features.2", "head"]
    assert next(iter(case("program").of("layer"))) == "embedding"


@pytest.mark.parametrize("name", ["mlp", "cnn", "encoder", "recurrent", "script", "program", "gamma"])
def test_a_conversion_leaves_the_model_as_it_was(case: Callable[[str], Case], name: str) -> None:
    """An exporter that puts the model into training would switch dropout on."""
    found = case(name)

    for output, answer in found.of("answer").items():
        np.testing.assert_array_equal(found.of("after")[output], answer)


@pytest.mark.parametrize(
    ("name", "route"),
    [
        ("gamma", "torch"),
        ("gamma", "torch-script"),
        ("recurrent", "torch"),
        ("script", "torch-script"),
        ("frozen", "torch-script"),
        ("program", "torch"),
        ("gamma-program", "torch"),
    ],
)
def test_the_engine_keeps_the_contract_on_what_import_saved(case: Callable[[str], Case], name: str, route: str) -> None:
    assert case(name).told["converted"][route]["engine"] == ""


def test_code_that_branches_is_kept_whole_as_a_script(case: Callable[[str], Case]) -> None:
    """One run shows one branch: the note says so, and the judge of the import refuses that graph."""
    found = case("branching").told["converted"]

    assert "The model's code branches on values; what was written down is the way that one run took." in found["torchscript"]["notes"]
    assert "failed" in found["dynamo"]
    assert found["torch-script"]["engine"] == ""
    assert case("branching-script").told["converted"]["torch-script"]["engine"] == ""


@pytest.mark.parametrize(
    ("name", "route", "operator"),
    [("spectrum", "torchscript", "fft_rfft"), ("gamma", "torchscript", "lgamma"), ("gamma", "dynamo", "lgamma")],
)
def test_a_route_that_is_closed_says_which_operator_closed_it(case: Callable[[str], Case], name: str, route: str, operator: str) -> None:
    assert operator in case(name).told["converted"][route]["failed"]


# What a source says of itself


def test_inputs_are_learned_from_layers_and_that_is_said(case: Callable[[str], Case]) -> None:
    mlp, encoder = case("mlp").told, case("encoder").told

    assert mlp["signature"]["inputs"] == [{"name": "x", "dtype": "float32", "shape": ["N", 10]}]
    assert encoder["signature"]["inputs"] == [{"name": "ids", "dtype": "int64", "shape": ["N", "T"]}]
    assert mlp["notes"] == ["What it takes was assumed from its layers and tried: x float32[N,10]. To say it yourself: --input."]


def test_open_dims_of_the_input_stay_open(case: Callable[[str], Case]) -> None:
    assert case("cnn").told["signature"]["inputs"] == [{"name": "pixels", "dtype": "float32", "shape": ["N", 3, "H", "W"]}]
    assert case("fixed").told["signature"]["outputs"][0]["shape"] == [1, 5]


def test_outputs_are_named_by_keys_fields_and_places(case: Callable[[str], Case]) -> None:
    def outputs(name: str) -> list[str]:
        return [one["name"] for one in case(name).told["signature"]["outputs"]]

    assert outputs("cnn") == ["scores", "features"]
    assert outputs("recurrent") == ["y", "state", "state_1"]
    assert outputs("mlp") == ["output"]


def test_the_dims_of_an_exported_program_get_their_names_back(case: Callable[[str], Case]) -> None:
    assert case("program").told["signature"]["inputs"] == [{"name": "ids", "dtype": "int64", "shape": ["N", "ids_1"]}]


def test_what_was_unwrapped_and_widened_is_said(case: Callable[[str], Case]) -> None:
    wrapped = case("wrapped").told["notes"]

    assert "The weights were taken from checkpoint['state_dict']." in wrapped
    assert "'module.' was taken from the front of every name of the weights." in wrapped
    assert "Beside the weights the checkpoint has objects that were left out: 'argparse.Namespace'." in wrapped
    assert any("The weights are float16 in the source; they were widened" in note for note in case("half").told["notes"])


def test_a_pickled_module_says_that_it_ran_code(case: Callable[[str], Case]) -> None:
    assert "The source was a pickled module, which runs code when it is read; that ran behind the walls." in case("module").told["notes"]
    assert case("module").told["facts"]["architecture"] == "Cnn"


def test_parameters_are_counted(case: Callable[[str], Case]) -> None:
    assert case("mlp").told["parameters"] == case("traced").told["parameters"] == 244


# Refused

REFUSALS = [
    ("no-code", "ARCHITECTURE_NEEDED", "weights only", "towline import mlp.pth --name NAME --arch model.py:Class"),
    ("no-module-code", "ARCHITECTURE_NEEDED", "a pickled object of class 'torch_nets.Cnn'", "--arch FILE.py:Cnn"),
    ("lacking", "WEIGHTS_MISMATCH", "they lack 'layers.3.weight', 'layers.3.bias'", "does not hold the whole model"),
    ("classes", "WEIGHTS_MISMATCH", "'layers.3.weight' is [4,16], expected [3,16]", "num_classes=4"),
    ("other", "WEIGHTS_MISMATCH", "The weights are not those of Cnn", "a network of 2 layers"),
    ("no-such-class", "BAD_ARCHITECTURE", "There is no 'Perceptron' in the file of --arch; it has '", "model.py:Class"),
    ("argument", "BAD_ARCHITECTURE", "Mlp cannot be made", "--arch"),
    ("torchvision-name", "BAD_ARCHITECTURE", "torchvision has no model 'resnet5000'", "Did you mean torchvision:resnet50?"),
    ("two-inputs", "INPUT_NEEDED", "The model takes x, state", "--input"),
    ("wrong-name", "WRONG_INPUT", "The model takes x; the option input lacks 'x'", "x=float32[N,…]"),
    ("wrong-size", "WRONG_INPUT", "The model does not take x float32[N,11]. The model refused this input", "--input"),
    ("option", "UNKNOWN_OPTION", "no option 'colour'", ""),
    ("remembering", "KEEPS_STATE", "keeps a state on itself between calls", "forward(x, state)"),
    ("noisy", "DRAWS_AT_RANDOM", "draws random numbers", "nn.Dropout"),
    ("worded", "UNSUPPORTED_OUTPUT", "is a 'str', expected tensors", "Wrap the model"),
    ("hostile", "HOSTILE_PICKLE", "would call 'posix.system'", "safetensors"),
    ("hostile-module", "HOSTILE_PICKLE", "would call 'posix.system'", "safetensors"),
    ("torn-script", "TORN_FILE", "cannot be read", "Save it again"),
    ("torn-program", "TORN_FILE", "cannot be read", "torn"),
]


@pytest.mark.parametrize(("name", "code", "said", "hint"), REFUSALS)
def test_what_cannot_be_taken_is_refused_with_what_to_do(case: Callable[[str], Case], name: str, code: str, said: str, hint: str) -> None:
    refused = case(name).told["refused"]

    assert refused["code"] == code
    assert said in refused["message"]
    assert hint in refused["hint"]


def test_nothing_of_a_hostile_file_ran(case: Callable[[str], Case], sources: Path) -> None:
    assert case("hostile").told["refused"]
    assert not (sources / "canary").exists()


def test_the_engine_refuses_a_program_that_would_run_code(case: Callable[[str], Case], sources: Path) -> None:
    """Import saves none like it; one that lies in a store was put there."""
    assert case("evil").told == {"code": "LOAD_FAILED", "message": "The model's file is torn, or would run code when it is loaded."}
    assert not (sources / "canary").exists()

"""From Triton: its model repository becomes versions, deployments, settings and a page; its clients get the same answers."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from command_line import TOWLINE, Run

from towline.app.home import opened_store
from towline.convert.migrate.triton import TritonSource, plan_triton
from towline.core.deployment import Policy
from towline.testing import tiny_models
from towline.testing.server import RunningServer

CLIENTS = Path(__file__).parents[1] / "serve" / "clients"
X = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)
MLP = """
name: "mlp"
backend: "onnxruntime"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 10 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 10 ] label_filename: "digits.txt" } ]
version_policy { specific { versions: [ 1, 3 ] } }
instance_group [ { kind: KIND_GPU count: 2 } ]
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100
                   default_queue_policy { max_queue_size: 64 } }
model_warmup [ { name: "w" batch_size: 1 inputs { key: "x" value { data_type: TYPE_FP32 dims: 10 zero_data: true } } } ]
"""


def put(repository: Path, name: str, config: str | None, file: str = "model.onnx", content: bytes = b"", number: int = 1) -> Path:
    place = repository / name / str(number) / file
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(content or tiny_models.mlp(seed=number))
    if config is not None:
        (repository / name / "config.pbtxt").write_text(config)
    return repository


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of two models, migrated with the flags that its Triton had; home is the folder `home` in it."""
    folder = tmp_path_factory.mktemp("triton")
    for number in (1, 2, 3):
        put(folder / "repository", "mlp", MLP, number=number)
    (folder / "repository" / "mlp" / "digits.txt").write_text("".join(f"digit {place}\n" for place in range(10)))
    put(folder / "repository", "plain", None, content=tiny_models.add_two())
    (folder / "repository" / ".git").mkdir()
    flags = [
        "tritonserver",
        "--http-port",
        "9000",
        "--allow-metrics=true",
        "--model-control-mode=explicit",
        "--load-model=mlp",
        "--log-verbose=1",
    ]
    words = ["migrate", "triton", "--repository", folder / "repository", "--home", folder / "home", "--into", folder, "--", *flags]
    done = subprocess.run([*TOWLINE, *map(str, words)], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_clients_of_the_old_server_get_the_models_own_answers_from_the_new_one(migrated: Path) -> None:
    settings = tomllib.loads((migrated / "towline.toml").read_text()) | {"port": 0, "grpc_port": 0}

    with RunningServer(home=migrated / "home", settings=settings) as server:
        done = subprocess.run(
            [sys.executable, str(CLIENTS / "triton_session.py"), f"127.0.0.1:{server.port}"],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        classified = server.post(
            "/v2/models/mlp/versions/1/infer",
            json.dumps(
                {
                    "inputs": [{"name": "x", "shape": [2, 10], "datatype": "FP32", "data": X.tolist()}],
                    "outputs": [{"name": "y", "parameters": {"classification": 1}}],
                }
            ).encode(),
        )
        before = server.get("/v2/models/plain/ready")
        loaded = server.post("/v2/repository/models/plain/load", b"{}")

    said, first = json.loads(done.stdout), answer(1)
    for how in ("binary", "json", "gzip"):
        np.testing.assert_allclose(said[how], answer(3), rtol=1e-5, atol=1e-7)
    assert json.loads(classified[1])["outputs"][0]["data"][0].endswith(f"{first[0].argmax()}:digit {first[0].argmax()}")
    assert (before[0], loaded[0]) == (404, 200)


def answer(seed: int) -> Any:
    return onnxruntime.InferenceSession(tiny_models.mlp(seed=seed)).run(["y"], {"x": X})[0]


def test_policies_limits_labels_and_flags_are_kept(migrated: Path) -> None:
    with opened_store(migrated / "home") as store:
        assert {name: store.numbers(name) for name in store.names()} == {"mlp": (1, 3), "plain": (1,)}
        deployed = next(one for one in store.deployments() if one.name == "mlp")
    assert deployed.policy == Policy("specific", numbers=(1, 3))
    assert (deployed.limits.max_batch, deployed.limits.max_waiting_requests) == (8, 64)
    settings = tomllib.loads((migrated / "towline.toml").read_text())
    assert settings == {"compat": "triton", "port": 9000, "grpc_port": 8001, "log_level": "debug", "model_control": "explicit"}
    page = (migrated / "MIGRATION.md").read_text()
    for word in ("instance_group", "preferred_batch_size", "model_warmup", "`--allow-metrics`", "`--load-model`", "max_batch_size"):
        assert word in page


HAS_MLP = (
    'input [ { name: "x" data_type: TYPE_FP32 dims: [ 10 ] } ] output [ { name: "y" data_type: TYPE_FP32 dims: [ 10 ] } ] max_batch_size: 8'
)
NOT_IMPORTED = {
    "python": ('backend: "python"', "model.py", "backend is 'python'", "handler"),
    "python without a configuration": (None, "model.py", "backend is 'python'", "handler"),
    "an ensemble": ('platform: "ensemble" ensemble_scheduling { step { model_name: "a" model_version: -1 } }', "x", "'ensemble'", "fuse"),
    "TensorRT": ('platform: "tensorrt_plan"', "model.plan", "'tensorrt_plan'", "ONNX file that it was built from"),
    "a backend of one's own": ('backend: "mine"', "model.mine", "'mine'", "Export it to ONNX"),
    "nothing to tell it by": (None, "weights.bin", "'unknown'", "Export it to ONNX"),
    "sequences": (f'backend: "onnxruntime" {HAS_MLP} sequence_batching {{ }}', "model.onnx", "sequence_batching", ""),
    "decoupled": (
        f'backend: "onnxruntime" {HAS_MLP} model_transaction_policy {{ decoupled: true }}',
        "model.onnx",
        "model_transaction_policy",
        "",
    ),
    "another name": ('name: "other" backend: "onnxruntime"', "model.onnx", "is of 'other'", ""),
    "an unknown field": ('backend: "onnxruntime"\nmax_batchsize: 3', "model.onnx", "2:", ""),
    "torn": ('input [ { name: "x"', "model.onnx", "cannot be read", ""),
    "a file elsewhere": ('backend: "onnxruntime" default_model_filename: "../../x"', "model.onnx", "is no file's name", ""),
    "labels elsewhere": (
        'backend: "onnxruntime" output [ { name: "y" data_type: TYPE_FP32 dims: 10 label_filename: "../../../etc/passwd" } ]',
        "model.onnx",
        "leads out",
        "",
    ),
    "no version that is chosen": ('backend: "onnxruntime" version_policy { specific { versions: 9 } }', "model.onnx", "no version", ""),
    "TorchScript without inputs": ('platform: "pytorch_libtorch"', "model.pt", "does not tell its inputs", "config.pbtxt"),
}


@pytest.mark.parametrize("case", NOT_IMPORTED)
def test_a_model_that_cannot_come_over_is_told_with_what_to_do_beside_the_others(case: str, towline: Run, tmp_path: Path) -> None:
    config, file, reason, hint = NOT_IMPORTED[case]
    put(put(tmp_path / "r", "m", config, file), "other", None)

    done = towline("migrate", "triton", "--repository", tmp_path / "r", "--dry-run")

    assert done.code == 1
    (line,) = (line for line in done.out.splitlines() if line.startswith("m "))
    assert reason in line
    assert hint in line
    assert "other:1" in done.out


def test_a_configuration_of_another_model_leaves_no_version(towline: Run, tmp_path: Path, home: Path) -> None:
    config = 'backend: "onnxruntime" max_batch_size: 8 input [ { name: "x" data_type: TYPE_INT32 dims: [ 10 ] } ]'

    done = towline("migrate", "triton", "--repository", put(tmp_path / "r", "m", config))

    assert done.code == 1
    assert "is FP32, not 'TYPE_INT32'" in done.out
    with opened_store(home) as store:
        assert store.names() == ()
        assert store.deployments() == ()


def test_a_model_without_a_batch_dimension_is_never_merged_with_another_request(towline: Run, tmp_path: Path) -> None:
    with_zero = put(
        tmp_path / "r", "m", 'backend: "onnxruntime" max_batch_size: 0 input [ { name: "x" data_type: TYPE_FP32 dims: [ -1, 10 ] } ]'
    )
    without = put(tmp_path / "s", "m", 'backend: "onnxruntime"')

    for repository, limit in ((with_zero, 1), (without, 0)):
        (model,) = plan_triton(TritonSource((repository,))).models
        assert model.limits.max_batch == limit


def test_a_torchscript_models_names_and_shapes_are_those_of_its_configuration(tmp_path: Path) -> None:
    config = """
        platform: "pytorch_libtorch" max_batch_size: 4
        input [ { name: "INPUT__1" data_type: TYPE_INT64 dims: [ -1 ] }, { name: "INPUT__0" data_type: TYPE_FP32 dims: [ 3, 8, 8 ] } ]
        output [ { name: "OUTPUT__0" data_type: TYPE_FP32 dims: [ 3 ] } ]"""
    put(tmp_path / "r", "m", config, "model.pt")

    (model,) = plan_triton(TritonSource((tmp_path / "r",))).models

    assert model.versions[0].given == {"input": "float32[N,3,8,8],int64[N,D0]", "inputs": "INPUT__0,INPUT__1", "outputs": "OUTPUT__0"}


def test_every_field_that_triton_knows_is_known() -> None:
    """Against the descriptors that Triton's own client ships."""
    code = """
import json
from tritonclient.grpc import model_config_pb2
from towline.convert.migrate.triton_text import _model_config

def fields(message, seen):
    if message.full_name not in seen:
        words = [sorted(value.name for value in field.enum_type.values) if field.enum_type else None for field in message.fields]
        seen[message.full_name] = sorted((f.name, f.type, f.is_repeated, w) for f, w in zip(message.fields, words))
        for field in message.fields:
            if field.message_type:
                fields(field.message_type, seen)
    return seen

theirs, ours = (fields(kind.DESCRIPTOR, {}) for kind in (model_config_pb2.ModelConfig, _model_config()))
print(json.dumps([len(theirs), sorted(name for name in theirs if theirs[name] != ours.get(name))]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=True)

    count, unlike = json.loads(done.stdout)
    assert count > 40
    assert unlike == []


BAD_WORDS = {
    "no repository": ([], "Name Triton's model repository"),
    "a folder that is not there": (["--repository", "/nowhere"], "No such file"),
    "an empty folder": (["--repository", "."], "holds no models"),
    "an unknown flag": (["--repository", ".", "--", "--htp-port=1"], "Did you mean --http-port?"),
    "a port that is none": (["--repository", "/usr", "--", "--http-port=70000"], "must be a port"),
}


@pytest.mark.parametrize("case", BAD_WORDS)
def test_words_that_cannot_be_meant_are_usage_errors(case: str, towline: Run) -> None:
    given, reason = BAD_WORDS[case]

    done = towline("migrate", "triton", *given)

    assert done.code == 2
    assert reason in done.err

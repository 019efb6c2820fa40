"""From TF Serving: what it was started with becomes versions, deployments, settings and a page; its clients get the same answers."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime
import pytest
from command_line import TOWLINE, Ran, Run

from towline.app.home import opened_store
from towline.core.config import load_settings
from towline.core.deployment import Policy
from towline.serve.protocols.grpc.messages import MESSAGES
from towline.testing import tiny_models
from towline.testing.server import RunningServer

CLIENTS = Path(__file__).parents[1] / "serve" / "clients"
X = np.linspace(0, 1, 20, dtype=np.float32).reshape(2, 10)
CONFIG = """
model_config_list {
  config {
    name: "mlp"
    base_path: "/models/mlp"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 1 versions: 3 } }
    version_labels { key: "stable" value: 1 }
    logging_config { sampling_config { sampling_rate: 0.1 } }
  }
  config { name: "add" base_path: "/models/add" }
}
"""
# `towline` that is killed as it says a word: whoever else would kill it might come when the next step is done.
DIES_AT = """
import os, signal, sys
from towline.cli.main import main

word, write = sys.argv.pop(1), sys.stderr.write

def dying(text):
    write(text)
    if word in text:
        os.kill(os.getpid(), signal.SIGKILL)

sys.stderr.write = dying
sys.exit(main())
"""
BATCHING = "max_batch_size { value: 32 }\nbatch_timeout_micros { value: 1000 }\nmax_enqueued_batches { value: 4 }\n"


@dataclass(frozen=True)
class Migrated:
    """What one run left."""

    ran: Ran
    folder: Path
    home: Path

    @property
    def page(self) -> str:
        return (self.folder / "MIGRATION.md").read_text()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return make_old(tmp_path / "old")


def make_old(folder: Path) -> Path:
    """What TF Serving had: files, and folders that its container saw as /models."""
    for number in (1, 2, 3):
        put(folder / "models" / "mlp" / str(number), tiny_models.mlp(seed=number))
    put(folder / "models" / "add" / "00000007", tiny_models.add_two())
    (folder / "models.config").write_text(CONFIG)
    (folder / "batching.txt").write_text(BATCHING)
    (folder / "monitoring.txt").write_text('prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }')
    return folder


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Migrated:
    """All of it, once, with the flags that the old server had."""
    folder = tmp_path_factory.mktemp("migrated")
    old = make_old(folder / "old")
    given = ["--batching", old / "batching.txt", "--monitoring", old / "monitoring.txt", "--home", folder / "home", "--into", folder]
    flags = ["tensorflow_model_server", "--port=9500", "--rest_api_port=9501", "--enable_batching", "--rest_api_timeout_in_ms=5000"]
    command = [*TOWLINE, *words(old), *given, "--", *flags, "--tensorflow_session_parallelism", "4"]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return Migrated(Ran(done.returncode, done.stdout, done.stderr), folder, folder / "home")


def put(folder: Path, model: bytes) -> None:
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model)


def words(old: Path) -> list[object]:
    return ["migrate", "tfserving", "--models", old / "models.config", "--volume", f"{old / 'models'}:/models"]


def expected(seed: int) -> Any:
    return onnxruntime.InferenceSession(tiny_models.mlp(seed=seed)).run(["y"], {"x": X})[0]


def test_clients_of_the_old_server_get_the_models_own_answers_from_the_new_one(migrated: Migrated) -> None:
    settings = tomllib.loads((migrated.folder / "towline.toml").read_text()) | {"port": 0, "grpc_port": 0}
    body = json.dumps({"instances": X.tolist()}).encode()

    with RunningServer(home=migrated.home, settings=settings, flags=("--rest_api_port=0",)) as server:
        by_number = server.post("/v1/models/mlp/versions/3:predict", body)
        by_label = server.post("/v1/models/mlp/labels/stable:predict", body)
        client = subprocess.run(
            [sys.executable, str(CLIENTS / "ovms_session.py"), f"127.0.0.1:{server.port}"],
            capture_output=True,
            text=True,
            timeout=300,
            check=True,
        )
        over_grpc = predict(server.grpc_address, "mlp", "stable")

    np.testing.assert_allclose(json.loads(by_number[1])["predictions"], expected(3), rtol=1e-5)
    np.testing.assert_allclose(json.loads(by_label[1])["predictions"], expected(1), rtol=1e-5)
    np.testing.assert_allclose(json.loads(client.stdout)["predict"], expected(3), rtol=1e-5)
    np.testing.assert_allclose(over_grpc, expected(1), rtol=1e-5)
    assert set(json.loads(client.stdout)["status"]) == {"1", "3"}


def predict(address: str, name: str, label: str) -> Any:
    request = MESSAGES["tensorflow.serving.PredictRequest"]()
    request.model_spec.name, request.model_spec.version_label = name, label
    tensor = request.inputs["x"]
    tensor.dtype, tensor.tensor_content = 1, X.tobytes()
    for size in X.shape:
        tensor.tensor_shape.dim.add(size=size)
    with grpc.insecure_channel(address) as channel:
        raw = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")(request.SerializeToString(), timeout=300)
    answer = MESSAGES["tensorflow.serving.PredictResponse"].FromString(raw)
    return np.array(answer.outputs["y"].float_val or np.frombuffer(answer.outputs["y"].tensor_content, np.float32)).reshape(2, -1)


def test_numbers_policies_labels_and_limits_are_kept(migrated: Migrated) -> None:
    with opened_store(migrated.home) as store:
        assert store.numbers("mlp") == (1, 3)
        assert store.numbers("add") == (7,)
        deployed = {one.name: one for one in store.deployments()}
    assert deployed["mlp"].policy == Policy("specific", numbers=(1, 3))
    assert deployed["mlp"].labels == {"stable": 1}
    assert (deployed["mlp"].limits.max_batch, deployed["mlp"].limits.max_waiting_requests) == (32, 128)
    assert deployed["add"].policy == Policy("latest")


def test_every_old_flag_and_field_has_a_row_and_what_corresponds_is_a_setting(migrated: Migrated) -> None:
    rows = {line.split("|")[1].strip(" `") for line in migrated.page.splitlines() if line.startswith("| `")}

    assert {"--port", "--enable_batching", "--tensorflow_session_parallelism", "batch_timeout_micros", "prometheus_config"} <= rows
    assert "logging_config" in migrated.page
    assert "Not served before, hence not imported: 2." in migrated.page
    settings = {"compat": "tfserving", "grpc_port": 9500, "port": 9501, "request_timeout_s": 5.0}
    assert tomllib.loads((migrated.folder / "towline.toml").read_text()) == settings
    assert load_settings({}, {}, migrated.folder / "towline.toml").settings.request_timeout_s == 5.0


def test_the_last_line_is_the_command_that_takes_the_old_servers_place(migrated: Migrated) -> None:
    command = f"cd {migrated.folder} && towline serve --compat tfserving --home {migrated.home}"

    assert migrated.ran.err.splitlines()[-1] == f"  next  {command}"
    assert f"$ {command}" in migrated.page


def test_one_models_folder_needs_no_configuration_file(towline: Run, old: Path) -> None:
    done = towline("migrate", "tfserving", "--model_base_path", old / "models" / "mlp", "--model_name", "mlp", "--dry-run", "--json")

    (model,) = done.json()["models"]
    assert (model["name"], [one["number"] for one in model["versions"]]) == ("mlp", [3])


def test_the_old_command_line_alone_is_enough(towline: Run, old: Path) -> None:
    volume = ["--volume", f"{old}:/etc/serving", "--volume", f"{old / 'models'}:/models:ro"]

    done = towline("migrate", "tfserving", *volume, "--dry-run", "--", "--model_config_file=/etc/serving/models.config", "--port=8500")

    assert done.code == 0, done.err
    assert [line.split()[0] for line in done.out.splitlines()[:3]] == ["mlp:1", "mlp:3", "add:7"]


def test_a_dry_run_shows_the_plan_and_writes_nothing(towline: Run, old: Path, home: Path) -> None:
    done = towline(*words(old), "--dry-run")

    assert done.code == 0
    assert "mlp:3" in done.out
    assert "port = 8501" in done.out
    assert not home.exists()
    assert list(Path.cwd().iterdir()) == []


def test_running_it_again_imports_only_what_failed_and_the_rest_was_there_meanwhile(towline: Run, old: Path, home: Path) -> None:
    broken = old / "models" / "add" / "00000007" / "model.onnx"
    whole = broken.read_bytes()
    broken.write_bytes(whole[:40])

    first = towline(*words(old))
    page = Path("MIGRATION.md").read_text()
    with opened_store(home) as store:
        served = [one.name for one in store.deployments()]
    broken.write_bytes(whole)
    second = towline(*words(old), "--json")

    assert first.code == 1
    assert "NOT IMPORTED" in page
    assert "cut short" in page or "torn" in page.lower()
    assert served == ["mlp"]
    assert second.code == 0
    states = {(model["name"], one["number"]): one["state"] for model in second.json()["models"] for one in model["versions"]}
    assert states == {("mlp", 1): "existed", ("mlp", 3): "existed", ("add", 7): "imported"}
    with opened_store(home) as store:
        assert [one.name for one in store.deployments()] == ["add", "mlp"]
        assert store.numbers("mlp") == (1, 3)


def test_killed_in_between_it_left_what_was_done_and_goes_on_from_there(old: Path, towline: Run, home: Path) -> None:
    command = [sys.executable, "-c", DIES_AT, "mlp:3", *map(str, words(old))]
    killed = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, timeout=180, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = list(Path.cwd().iterdir())

    done = towline(*words(old), "--json")

    assert left == []
    assert done.code == 0, done.err
    states = {(model["name"], one["number"]): one["state"] for model in done.json()["models"] for one in model["versions"]}
    assert states == {("mlp", 1): "existed", ("mlp", 3): "imported", ("add", 7): "imported"}
    with opened_store(home) as store:
        assert list(store.verify_events()) == []


def test_two_versions_of_the_same_content_are_stored_once_and_both_labels_lead_there(towline: Run, old: Path, home: Path) -> None:
    (old / "models" / "mlp" / "3" / "model.onnx").write_bytes(tiny_models.mlp(seed=1))
    (old / "models.config").write_text(CONFIG.replace('  config { name: "add" base_path: "/models/add" }', ""))

    assert towline(*words(old)).code == 0

    with opened_store(home) as store:
        assert store.numbers("mlp") == (1,)
        (deployed,) = store.deployments()
    assert deployed.policy == Policy("specific", numbers=(1,))
    assert "| 1 | 3 |" in Path("MIGRATION.md").read_text()


def test_settings_that_somebody_else_wrote_are_not_written_over(towline: Run, old: Path, home: Path) -> None:
    Path("towline.toml").write_text("port = 1234\n")

    done = towline(*words(old))

    assert done.code == 5
    assert "--into" in done.err
    assert Path("towline.toml").read_text() == "port = 1234\n"
    assert not home.exists()


BAD_MODELS = {
    "a bucket": ('name: "m" base_path: "gs://bucket/m"', "gs address", "Fetch"),
    "a relative path": ('name: "m" base_path: "models/m"', "absolute path", ""),
    "no path": ('name: "m"', "absolute path", ""),
    "a folder that is not there": ('name: "m" base_path: "/nowhere/m"', "No such file", "--volume"),
    "a folder without versions": ('name: "m" base_path: "/models"', "no numbered folder", ""),
    "a version that is not there": (
        'name: "m" base_path: "/models/mlp" model_version_policy { specific { versions: 9 } }',
        "no version 9",
        "",
    ),
    "a name that ours cannot be": ('name: "my model" base_path: "/models/mlp"', "cannot name a model", "Clients ask by the name"),
    "a name in other case": ('name: "ADD" base_path: "/models/mlp"', "configured twice", "own name"),
}


@pytest.mark.parametrize("case", BAD_MODELS)
def test_a_model_that_cannot_come_over_is_told_with_what_to_do_beside_the_others(case: str, towline: Run, old: Path) -> None:
    config, reason, hint = BAD_MODELS[case]
    others = 'config { name: "add" base_path: "/models/add" } config { name: "mlp" base_path: "/models/mlp" }'
    (old / "models.config").write_text(f"model_config_list {{ config {{ {config} }} {others} }}")

    done = towline(*words(old), "--dry-run")

    assert done.code == 1
    assert reason in done.out
    assert hint in done.out
    assert "mlp:3" in done.out


BAD_FILES = {
    "torn": ("model_config_list { config {", "cannot be read"),
    "an unknown field": ('model_config_list {\n config {\n nam: "m" } }', "3:"),
    "no models": ("model_config_list {}", "lists no models"),
    "another message": ("max_batch_size { value: 3 }", "1:"),
    "custom": ("custom_model_config {}", "custom_model_config"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_configuration_that_cannot_be_read_is_refused_by_its_line(case: str, towline: Run, old: Path, home: Path) -> None:
    text, reason = BAD_FILES[case]
    (old / "models.config").write_text(text)

    done = towline(*words(old))

    assert done.code == 2
    assert reason in done.err
    assert not home.exists()


BAD_WORDS = {
    "no models": (["migrate", "tfserving"], "Name the models"),
    "an unknown flag": (["migrate", "tfserving", "--model_base_path", "/m", "--", "--prot=1"], "Did you mean --port?"),
    "a flag without its value": (["migrate", "tfserving", "--model_base_path", "/m", "--", "--port"], "needs a value"),
    "a port that is none": (
        ["migrate", "tfserving", "--model_base_path", "/", "--model_name", "m", "--", "--port=eight"],
        "must be a port",
    ),
    "a volume that is none": (["migrate", "tfserving", "--volume", "models", "--model_base_path", "/m"], "HERE:THERE"),
    "a file that is a folder": (["migrate", "tfserving", "--models", "."], "no plain file"),
    "a file that is not there": (["migrate", "tfserving", "--models", "nothing"], "No such file"),
    "a relative base path": (["migrate", "tfserving", "--model_base_path", "models/m"], "absolute path"),
}


@pytest.mark.parametrize("case", BAD_WORDS)
def test_words_that_cannot_be_meant_are_usage_errors(case: str, towline: Run) -> None:
    given, reason = BAD_WORDS[case]

    done = towline(*given)

    assert done.code == 2
    assert reason in done.err
    assert list(Path.cwd().iterdir()) == []

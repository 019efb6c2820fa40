"""What TorchServe, Triton and TF Serving served in their frameworks' own formats: converted, proven, and answered as the frameworks do."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from towline.testing.server import RunningServer

pytestmark = pytest.mark.frameworks
ROOT = Path(__file__).parents[2]
SOURCES = Path(__file__).parent / "migration_sources.py"
TOWLINE = [sys.executable, "-c", "import sys; from towline.cli.main import main; sys.exit(main())"]
X = np.linspace(-1, 1, 20, dtype=np.float32).reshape(2, 10)


def run(environments: Path, name: str, script: Path, *words: str | Path) -> None:
    """A script in an environment, which is lent our package."""
    space = {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    command = [environments / name / "bin" / "python", script, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=space)
    assert done.returncode == 0, done.stderr[-2000:]


def migrate(folder: Path, *words: object, twice: bool = False) -> RunningServer:
    """A server on what `towline migrate` made of it, perhaps twice."""
    command = [*TOWLINE, "migrate", *map(str, words), "--home", str(folder / "home"), "--into", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    if twice:
        again = subprocess.run([*command, "--json"], capture_output=True, text=True, timeout=300, check=False)
        assert {one["state"] for model in json.loads(again.stdout)["models"] for one in model["versions"]} == {"existed"}, again.stderr
    settings = tomllib.loads((folder / "towline.toml").read_text()) | {"port": 0, "grpc_port": 0}
    return RunningServer(home=folder / "home", settings=settings, flags=("--rest_api_port=0",) if words[0] == "tfserving" else ())


@pytest.fixture(scope="module")
def torch_sources(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("migrations")
    run(environments, "torch", SOURCES, "torch", folder)
    return folder


def test_torchserves_clients_get_the_answers_that_its_own_handlers_give(environments: Path, torch_sources: Path) -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (30, 40, 3), np.uint8)
    Image.fromarray(pixels).resize((400, 300), Image.Resampling.BICUBIC).save(torch_sources / "picture.png")
    picture = (torch_sources / "picture.png").read_bytes()
    site = next((ROOT / ".venv-frameworks").glob("lib/python3.*/site-packages/ts")).parent
    run(environments, "torch", SOURCES.with_name("torchserve_answers.py"), site, torch_sources)
    expected = json.loads((torch_sources / "answers.json").read_text())

    with migrate(torch_sources, "torchserve", "--model-store", torch_sources / "store", twice=True) as server:
        colours, segments = (server.ask("PUT", f"/predictions/{name}", picture) for name in ("colours", "pixels"))

    assert (colours[0], segments[0]) == (200, 200), (colours[1][:500], segments[1][:500])
    found = json.loads(colours[1])
    assert list(found) == list(expected["colours"])
    np.testing.assert_allclose(list(found.values()), list(expected["colours"].values()), rtol=1e-4)
    segmented, wanted = np.array(json.loads(segments[1])), np.array(expected["pixels"])
    assert segmented.shape == wanted.shape == (28, 28, 2)
    np.testing.assert_array_equal(segmented[..., 0], wanted[..., 0])
    assert len(np.unique(wanted[..., 0])) > 1
    np.testing.assert_allclose(segmented[..., 1], wanted[..., 1], rtol=1e-3)


def test_a_torchscript_model_answers_tritons_clients_under_the_names_of_its_configuration(torch_sources: Path) -> None:
    asked = {"inputs": [{"name": "INPUT__0", "shape": [2, 10], "datatype": "FP32", "data": X.ravel().tolist()}]}

    with migrate(torch_sources, "triton", "--repository", torch_sources / "repository") as server:
        status, body = server.post("/v2/models/script/infer", json.dumps(asked).encode())

    assert status == 200, body
    (output,) = json.loads(body)["outputs"]
    assert (output["name"], output["shape"]) == ("OUTPUT__0", [2, 4])
    np.testing.assert_allclose(np.reshape(output["data"], (2, 4)), np.load(torch_sources / "script.npy"), rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def tensorflow_models(environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tensorflow")
    run(environments, "tensorflow", SOURCES, "tensorflow", folder)
    return folder


def test_a_saved_model_answers_tf_servings_clients_as_tensorflow_does(tensorflow_models: Path) -> None:
    base = tensorflow_models / "models" / "scaled"

    with migrate(tensorflow_models, "tfserving", "--model_base_path", base, "--model_name", "scaled") as server:
        status, body = server.post("/v1/models/scaled/versions/42:predict", json.dumps({"instances": X.tolist()}).encode())

    assert status == 200, body
    np.testing.assert_allclose(json.loads(body)["predictions"], np.load(tensorflow_models / "scaled.npy"), rtol=1e-4, atol=1e-6)


def test_tf_servings_own_command_line_serves_its_own_first_model_and_what_is_put_beside_it(
    environments: Path, tensorflow_models: Path
) -> None:
    base = tensorflow_models / "models" / "half_plus_two"
    flags = ("--compat", "tfserving", "--rest_api_port=0", "--model_name=half_plus_two", f"--model_base_path={base}")

    def ask(method: str, **body: object) -> object:
        status, answer = server.post(f"/v1/models/half_plus_two:{method}", json.dumps(body).encode())
        return json.loads(answer) if status == 200 else status

    def served() -> list[str]:
        status, body = server.get("/v1/models/half_plus_two")
        states = json.loads(body)["model_version_status"] if status == 200 else []
        return [one["version"] for one in states if one["state"] == "AVAILABLE"]

    settings = {"environments": environments, "keep_versions_s": 0}
    with RunningServer(flags=flags, settings=settings, await_ready=False) as server:
        server.wait_until(lambda: served() == ["123"], timeout_s=300)
        assert ask("predict", instances=[[1.0], [2.0], [5.0]]) == {"predictions": [[2.5], [3.0], [4.5]]}
        assert ask("predict", instances=[1.0, 2.0, 5.0]) == {"predictions": [2.5, 3.0, 4.5]}
        assert ask("regress", signature_name="regress_x_to_y", examples=[{"x": 1.0}, {"x": 2.0}]) == {"results": [2.5, 3.0]}
        assert ask("regress", signature_name="regress_by_the_old_parser", examples=[{"x": 1.0}]) == {"results": [0.5]}
        told = json.loads((tensorflow_models / "with_defaults.json").read_text())
        assert ask("regress", signature_name="regress_with_defaults", examples=told["examples"]) == {"results": told["results"]}
        assert ask("regress", signature_name="regress_with_defaults", examples=[{"sign": 1}]) == 400
        # What parses sparse features has no counterpart.
        known = json.loads(server.get("/v1/models/half_plus_two/metadata")[1])["metadata"]["signature_def"]["signature_def"]
        assert known.keys() == {
            "serving_default",
            "regress_x_to_y",
            "regress_by_the_old_parser",
            "regress_with_defaults",
            "classify_x_to_y",
        }
        assert ask("classify", signature_name="classify_x_to_y", examples=[{"x": 1.0}]) == {"results": [[["0", 2.5]]]}

        (tensorflow_models / "half_plus_three").rename(base / "200")
        server.wait_until(lambda: served() == ["200"], timeout_s=300)
        assert ask("predict", instances=[[3.0]]) == {"predictions": [[4.5]]}
